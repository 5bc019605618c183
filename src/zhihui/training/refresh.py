"""Negatives refreshed during training (Conan-v1, Li et al. 2024): those that became easy give way to fresh ones.

An example uses the first of its negatives; the others are its reserve, in the order in which mining put them. What a
step computes anyway, the similarity of a query and its own negatives, is noted. Every so many steps a negative goes if

    easing · (similarity now) < (similarity when it was first used)     and     |similarity now| < bound

and the next of the reserve takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.training.batches import BatchConfig
from zhihui.training.processes import Processes

_FILE = "reserves.safetensors"
_STATE = ("used", "following", "first", "latest")


@dataclass(frozen=True, kw_only=True)
class RefreshConfig:
    """When a negative gives way."""

    every: int = 0
    """Steps between refreshes; 0 leaves the negatives as they are, drawn anew from all for each step."""
    easing: float = 1.15
    """How many times its similarity a negative must have had at first to count as easy now."""
    bound: float = 0.8
    """A negative this similar stays, however much more similar it was."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise InputError(f"every {self.every} is no number of steps; use 0 (never) or more")
        if not self.easing >= 1.0:
            raise InputError(f"easing {self.easing} would replace what became harder; use 1 or more")
        if not 0.0 < self.bound <= 1.0:
            raise InputError(f"bound {self.bound} is no cosine above 0; use more than 0 and at most 1")


@dataclass(frozen=True)
class Notes:
    """The similarities of one step."""

    step: int
    row: Tensor
    """Examples `[M]`."""
    slot: Tensor
    """Which of their negatives in use `[M]`."""
    similarity: Tensor
    """`[M]`, fp32."""


class Reserves:
    """Which negatives of each example are in use, and how similar they were at first and last."""

    def __init__(self, examples: Sequence[Example], batches: BatchConfig, config: RefreshConfig) -> None:
        """Put the first negatives of each example to use."""
        self.config = config
        counts = [min(batches.of(example.source).negatives, len(example.neg)) for example in examples]
        self.available = torch.tensor([len(example.neg) for example in examples])
        self.following = torch.tensor(counts)
        slots = torch.arange(max(counts, default=0))
        self.used = torch.where(slots < self.following[:, None], slots, -1)  # [rows, slots]
        self.first = torch.full(self.used.shape, torch.nan)
        self.latest = self.first.clone()
        self._notes: list[Notes] = []

    def active(self, row: int) -> list[int]:
        """Return which negatives of an example are in use."""
        return [index for index in self.used[row].tolist() if index >= 0]

    def note(self, notes: Notes) -> None:
        """Remember what one step of this process saw."""
        self._notes.append(notes)

    def settle(self, processes: Processes) -> None:
        """Let all processes know what each of them noted."""
        everyone = [notes for part in processes.collect(self._notes) for notes in part]
        for notes in sorted(everyone, key=lambda notes: notes.step):
            place = notes.row, notes.slot
            before = self.first[place]
            self.first[place] = torch.where(before.isnan(), notes.similarity, before)
            self.latest[place] = notes.similarity
        self._notes = []

    def refresh(self, processes: Processes) -> int:
        """Replace what became easy, as far as there is a reserve; returns how many."""
        self.settle(processes)
        easy = (self.config.easing * self.latest < self.first) & (self.latest.abs() < self.config.bound)
        replaced = 0
        for row, slot in easy.nonzero().tolist():
            if self.following[row] < self.available[row]:
                self.used[row, slot] = self.following[row]
                self.following[row] += 1
                self.first[row, slot] = self.latest[row, slot] = torch.nan
                replaced += 1
        return replaced

    def write(self, folder: Path) -> None:
        """Write the state, settled before, into a folder."""
        save_file({name: getattr(self, name) for name in _STATE}, folder / _FILE)

    def read(self, folder: Path) -> None:
        """Take over what `write` wrote."""
        for name, tensor in load_file(folder / _FILE).items():
            setattr(self, name, tensor)
