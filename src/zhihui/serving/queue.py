"""Queue: calls cut into units, gathered into batches by tokens, small calls ahead of large ones."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_PATIENCE = 8
"""Batches of small calls after which a large one that waits has its turn."""


class Target(Protocol):
    """What computes the units of a call: a model."""

    @property
    def name(self) -> str:
        """Short name for messages."""

    def compute(self, units: Sequence[Any], worker: int, *, exact: bool = False) -> NDArray[np.float32]:
        """Return one row of numbers for each unit `[N, ...]`; `exact` computes in fp32 whatever the model is in."""


class Job:
    """The units of one call on their way through the queue."""

    def __init__(self, target: Target, units: Sequence[Any], costs: Sequence[int], *, small: bool = False) -> None:
        """Take the units of a call, at least one.

        Args:
            target: the model.
            units: such as the token ids of each text.
            costs: tokens of each.
            small: whether it goes ahead of large calls.
        """
        assert units, "a call without units is answered where it comes in"
        self.target, self.units, self.costs, self.small = target, units, costs, small
        # Longest first, as encoding a list does: runs of equal length lie together, and memory peaks at the start.
        self.order = sorted(range(len(units)), key=lambda index: -costs[index])
        self.taken = 0
        """Units handed out so far, in that order."""
        self.rows: list[NDArray[np.float32] | None] = [None] * len(units)
        self._missing = len(units)
        self._lock = threading.Lock()
        self.done: Future[NDArray[np.float32]] = Future()
        """All rows `[N, ...]` in the order of the units, or what went wrong."""
        self.entered = time.monotonic()
        self.started: float | None = None
        """When its first unit was handed out."""

    def put(self, index: int, row: NDArray[np.float32]) -> None:
        """Keep the row of one unit; the last one ends the job. For the worker that computed it."""
        with self._lock:  # the workers of two devices may come at once
            self.rows[index] = row
            self._missing -= 1
            if self._missing == 0 and not self.done.done() and self.done.set_running_or_notify_cancel():
                self.done.set_result(np.stack([each for each in self.rows if each is not None]))

    def fail(self, error: Exception) -> None:
        """End the job by an error; what is left of it is dropped."""
        with self._lock:
            if not self.done.done() and self.done.set_running_or_notify_cancel():
                self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class Unit:
    """One text of a call."""

    job: Job
    index: int

    @property
    def content(self) -> Any:
        """What the model reads."""
        return self.job.units[self.index]


class Queue:
    """Where calls wait for a worker. Safe for threads; how much waits is bounded by `Admission`."""

    def __init__(self) -> None:
        self._small: deque[Job] = deque()
        self._large: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._in_a_row = 0

    def __len__(self) -> int:
        """Return how many calls have a part that is not yet handed out."""
        return len(self._small) + len(self._large)

    def add(self, job: Job, *, first: bool = False) -> None:
        """Let a call wait its turn, or go before all others."""
        with self._changed:
            lane = self._small if job.small else self._large
            if first:
                lane.appendleft(job)
            else:
                lane.append(job)
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Take back what is not yet begun of a call."""
        job.done.cancel()
        with self._changed:
            lane = self._small if job.small else self._large
            if job in lane:
                lane.remove(job)

    def close(self) -> None:
        """Let the workers end; what waits is not computed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, budget: int) -> list[Unit]:
        """Wait for work and return a batch of one model, at most `budget` tokens or one longer text; [] when closed."""
        with self._changed:
            while not (self._small or self._large):
                if self._closed:
                    return []
                self._changed.wait()
            if self._closed:
                return []
            large_first = bool(self._large) and (not self._small or self._in_a_row >= _PATIENCE)
            self._in_a_row = 0 if large_first else self._in_a_row + 1
            lanes = (self._large, self._small) if large_first else (self._small, self._large)
            target = lanes[0][0].target
            batch: list[Unit] = []
            for lane in lanes:
                for job in [job for job in lane if job.target is target]:
                    budget = _fill(batch, job, budget)
                    if job.taken == len(job.units):
                        lane.remove(job)
                    if budget <= 0:
                        return batch
            return batch


def _fill(batch: list[Unit], job: Job, budget: int) -> int:
    """Add units of a job while they fit, and return what is left of the budget."""
    while job.taken < len(job.units):
        index = job.order[job.taken]
        if batch and job.costs[index] > budget:
            break
        job.started = job.started or time.monotonic()
        batch.append(Unit(job, index))
        budget -= job.costs[index]
        job.taken += 1
    return budget
