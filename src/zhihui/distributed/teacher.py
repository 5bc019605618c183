"""A teacher whose questions are spread over the workers of a cluster: each asks with connections of its own.

The keys of the endpoints are read from the environment of the node where a worker runs. They are not sent there: Ray
keeps what it sends in its logs and shows it to everybody on the cluster.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

from zhihui import progress
from zhihui.distributed.answers import Answer, attempt, lost, value_of
from zhihui.distributed.cluster import REPLACED, Cluster
from zhihui.distributed.ledger import Bookkeeper, RemoteLedger
from zhihui.errors import InputError, RunFailure
from zhihui.teacher import ApiTeacher, Ask, Limits, Outcome, TeacherConfig
from zhihui.teacher.asking import M

_CHUNKS = 3
"""Chunks of questions that a worker has: while the slowest answers of one are awaited it asks the next."""


class RayTeacher:
    """A `Teacher` over the workers of a cluster, with one cache and one budget: see `zhihui.distributed.ledger`.

    Limits of an endpoint are shared out, so that all workers together keep them; there are no more workers than the
    smallest limit has parts.

    Args:
        cluster: whose cores ask; a GPU is not needed.
        teacher: with the config, the cache's file and the run whose spending is bounded.

    Raises:
        RunFailure: a worker cannot be started.
    """

    def __init__(self, cluster: Cluster, teacher: ApiTeacher) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray: Any = ray
        self._teacher = teacher
        self._cached = 0
        workers = parts(teacher.config, cluster.workers)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # What holds the file must be where the file is, and takes no core from those who ask.
        books: Any = ray.remote(Bookkeeper)
        # It is not started again: a booking done twice, or half, would let the run spend more than its budget.
        self._bookkeeper = books.options(num_cpus=0, scheduling_strategy=here).remote(teacher.config.cache.resolve())
        asking: Any = ray.remote(_Asking)
        options = {"num_cpus": 0, "scheduling_strategy": "SPREAD", "max_concurrency": _CHUNKS, **REPLACED}
        shared = share_of(teacher.config, workers)
        self._workers = [
            asking.options(**options).remote(shared, teacher.run, self._bookkeeper, number) for number in range(workers)
        ]
        limits = [endpoint.limits.concurrency for endpoint in shared.endpoints.values()]
        self._chunk = 2 * max(limits)

    @property
    def fingerprint(self) -> str:
        """As of a teacher on one machine: the same answers."""
        return self._teacher.fingerprint

    @property
    def counts(self) -> dict[str, Any]:
        """What the run has spent over all its restarts, and how many outcomes of this object took no call."""
        return {**self._teacher.counts, "cached": self._cached}

    def close(self) -> None:
        """End the workers; what they are asking is lost, and booked at its worst case."""
        for actor in (*self._workers, self._bookkeeper):
            self._ray.kill(actor)
        self._workers = []

    def ask(self, asks: Iterable[Ask[M]], *, label: str, total: int | None = None) -> Iterator[Outcome[M]]:
        """Yield an outcome for each question, in the order of the questions; see `Teacher.ask`.

        Raises:
            RunFailure: the budget is used up, an endpoint cannot be asked, or a worker died each time it tried; the
                other workers' calls are let finish first, so that their answers are kept.
            InputError: a role without an endpoint, a key that is not in a node's environment.
        """
        source = iter(asks)
        turns = cycle(self._workers)
        under_way: deque[tuple[list[Ask[M]], Any]] = deque()
        try:
            with progress.bar(total, label) as bar:
                while True:
                    while len(under_way) < _CHUNKS * len(self._workers) and (part := list(islice(source, self._chunk))):
                        under_way.append((part, next(turns).answer.remote(part, label)))
                    if not under_way:
                        return
                    part, task = under_way.popleft()
                    for one, outcome in zip(part, self._get(task), strict=True):
                        self._cached += outcome.cached
                        bar.advance()
                        yield replace(outcome, ask=one)
        except (InputError, RunFailure):
            if under_way:
                self._ray.wait([task for _, task in under_way], num_returns=len(under_way))
            raise

    def _get(self, task: Any) -> Any:
        from ray.exceptions import RayError

        try:
            return value_of(self._ray.get(task))
        except RayError as error:
            raise lost(error) from None


def parts(config: TeacherConfig, workers: int) -> int:
    """Return among how many workers, at most so many, the limits of all endpoints can be shared out."""
    for endpoint in config.endpoints.values():
        limits = endpoint.limits
        for bound in (limits.concurrency, limits.requests_per_minute):
            workers = workers if bound is None else min(workers, bound)
    return workers


def share_of(config: TeacherConfig, workers: int) -> TeacherConfig:
    """Return the config of one of so many workers, with its part of the limits; the budget stays that of all."""

    def part(bound: int | None) -> int | None:
        return None if bound is None else max(1, bound // workers)

    def of(limits: Limits) -> Limits:
        return Limits(
            concurrency=max(1, limits.concurrency // workers),
            requests_per_minute=part(limits.requests_per_minute),
            tokens_per_minute=part(limits.tokens_per_minute),
        )

    endpoints = {name: replace(each, limits=of(each.limits)) for name, each in config.endpoints.items()}
    return replace(config, endpoints=endpoints)


# --------------------------------------------------------------------------- in the workers


class _Asking:
    """An actor that answers chunks of questions, several at once, with one teacher."""

    def __init__(self, config: TeacherConfig, run: str, bookkeeper: Any, number: int) -> None:
        self._teacher = ApiTeacher(config, run=run, ledger=RemoteLedger(bookkeeper, number))

    def process(self) -> int:
        return os.getpid()

    def answer(self, asks: Sequence[Ask[Any]], label: str) -> Answer:
        return attempt(lambda: list(self._teacher.ask(asks, label=label)))
