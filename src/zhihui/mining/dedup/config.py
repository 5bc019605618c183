"""What counts as the same text, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from zhihui.errors import InputError

Passages = Literal["relevant", "all", "none"]


@dataclass(frozen=True, kw_only=True)
class DedupConfig:
    """When two texts are near-duplicates, and which ones are compared.

    Raises:
        InputError: a threshold out of bounds, an unknown choice of passages.
    """

    threshold: float = 0.8
    """Share of their runs of four characters that near-duplicates have in common (Jaccard), above 0 and up to 1;
    script, case, width, white space and punctuation do not count."""
    within: bool = True
    """Whether examples that repeat an earlier one go: a near-duplicate query with near-duplicates of all positives."""
    passages: Passages = "relevant"
    """Which passages of an evaluation set are protected besides its queries: those judged relevant, all, or none."""
    splits: tuple[str, ...] = ()
    """Splits of an evaluation set that are protected; () for all but train."""
    seed: int = 0
    """Of the hash functions that propose pairs; the true similarity decides."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", tuple(self.splits))
        if not 0 < self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}; give a similarity above 0 and up to 1, e.g. 0.8")
        if self.passages not in get_args(Passages):
            raise InputError(f"unknown passages {self.passages!r}; use {', '.join(get_args(Passages))}")
