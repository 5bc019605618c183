"""What is mined: by which methods, from which ranks, how many, and what is taken for a false negative."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from zhihui.errors import InputError

Method = Literal["bm25", "dense", "cross", "random"]
Index = Literal["exact", "faiss"]
_SPEC = re.compile(r"(?P<method>\w+)(?::(?P<first>\d+)-(?P<last>\d+))?:(?P<count>\d+)")
_EXAMPLE = "bm25:1-50:4, dense:10-60:3 or random:2"


@dataclass(frozen=True, kw_only=True)
class Miner:
    """One source of negatives.

    Raises:
        InputError: an unknown method, a window that is none, a count less than 1.
    """

    method: Method
    """How passages are ranked: by BM25, by the encoder, by a cross-encoder that re-ranks what is in the windows of the
    bm25 and dense miners, or not at all."""
    first: int | None = None
    """Best rank that may be taken, from 1; None for random. Leading ranks are often unlabelled positives."""
    last: int | None = None
    """Worst rank that may be taken, inclusive; None for random."""
    count: int
    """Negatives for each example, drawn from the window without repetition; 0 only feeds a cross miner."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"unknown mining method {self.method!r}; use {', '.join(get_args(Method))}")
        if self.count < (0 if self.feeds else 1):
            raise InputError(f"{self.method}: count is {self.count}; mine at least 1 or leave the method out")
        if self.method == "random":
            if self.first is not None or self.last is not None:
                raise InputError("random has no ranks; give only a count, as in random:2")
        elif self.first is None or self.last is None:
            raise InputError(f"{self.method}: no rank window; write it as in {_EXAMPLE}")
        elif not 1 <= self.first <= self.last:
            raise InputError(f"{self.method}: ranks {self.first}-{self.last}; count them from 1, best first")
        elif self.count > self.last - self.first + 1:
            ranks = self.last - self.first + 1
            raise InputError(f"{self.method}: {self.count} negatives of {ranks} ranks; widen the window")

    @property
    def feeds(self) -> bool:
        """Whether what is in the window can be re-ranked by a cross-encoder."""
        return self.method in ("bm25", "dense")

    @classmethod
    def parse(cls, spec: str) -> Miner:
        """Read METHOD:FIRST-LAST:COUNT, or random:COUNT.

        Raises:
            InputError: it is neither, or holds values out of bounds.
        """
        match = _SPEC.fullmatch(spec.strip())
        if match is None:
            raise InputError(f"miner {spec!r} cannot be read; write it as in {_EXAMPLE}")
        first, last = (None if match[name] is None else int(match[name]) for name in ("first", "last"))
        return cls(method=cast(Method, match["method"]), first=first, last=last, count=int(match["count"]))

    def __str__(self) -> str:
        window = "" if self.method == "random" else f":{self.first}-{self.last}"
        return f"{self.method}{window}:{self.count}"


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """The miners in the order in which they take passages, and the filters.

    Raises:
        InputError: no miner, one twice, one that feeds nothing, a filter out of bounds or without what it filters.
    """

    miners: tuple[Miner, ...] = (Miner(method="bm25", first=1, last=50, count=4),)
    """A passage taken by one miner is not taken again by a later one."""
    margin: float | None = None
    """Dense: keep a passage only if its score is lower than the best positive's by more than this."""
    ratio: float | None = None
    """Dense: keep a passage only if its score is below this share of the best positive's (usually 0.95)."""
    cross_margin: float | None = None
    """As `margin`, by the cross-encoder's scores (0 to 1) and for whatever bm25, dense and cross miners find."""
    cross_ratio: float | None = None
    """As `ratio`, by the cross-encoder's scores (0 to 1) and for whatever bm25, dense and cross miners find."""
    max_grade: float | None = None
    """A passage that a teacher graded this high or higher for the query is no negative, given or mined; on the scale
    of `neg_scores`. None looks at no grade."""
    near_duplicates: float | None = 0.9
    """A mined passage whose runs of four characters agree to this share (Jaccard) with those of a positive or of
    another negative is passed over; None compares whole texts only."""
    stop_words: bool = False
    """Whether BM25 leaves Chinese function words (的, 是, 我们, ...) out."""
    index: Index = "exact"
    """How dense miners search: every passage, or by an inverted file of faiss, a tenth of them for each query, for
    corpora of tens of millions; the share of the best passages that it finds is measured and counted."""
    seed: int = 0
    """Of the draws within windows, and of the faiss index."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "miners", tuple(self.miners))
        if not self.miners:
            raise InputError(f"no miner; give at least one, as in {_EXAMPLE}")
        specs = [str(miner) for miner in self.miners]
        for spec in specs:
            if specs.count(spec) > 1:
                raise InputError(f"miner {spec} is given twice; raise its count instead")
        for name in ("margin", "cross_margin"):
            margin = getattr(self, name)
            if margin is not None and not (math.isfinite(margin) and margin >= 0):
                raise InputError(f"{name} is {margin}; give 0 or more, e.g. 0.05")
        for name in ("ratio", "cross_ratio", "near_duplicates"):
            ratio = getattr(self, name)
            if ratio is not None and not 0 < ratio <= 1:
                raise InputError(f"{name} is {ratio}; give a share above 0 and up to 1, e.g. 0.95")
        if self.max_grade is not None and not math.isfinite(self.max_grade):
            raise InputError(f"max_grade is {self.max_grade}; give a number on the teacher's scale")
        if self.index not in get_args(Index):
            raise InputError(f"unknown index {self.index!r}; use {' or '.join(get_args(Index))}")
        self._check_miners_fit()

    def _check_miners_fit(self) -> None:
        if (self.margin is not None or self.ratio is not None) and not self.depth("dense"):
            raise InputError("margin and ratio filter what dense miners find, and there is none; add one")
        if self.reranks and not any(miner.feeds for miner in self.miners):
            raise InputError("a cross-encoder re-ranks what bm25 and dense miners find; add one, as in bm25:1-50:0")
        for miner in self.miners:
            if miner.count == 0 and not self.depth("cross"):
                raise InputError(f"{miner}: its count of 0 only feeds a cross miner, and there is none; mine 1 or more")
        if self.index != "exact" and not self.depth("dense"):
            raise InputError(f"index {self.index} is for dense miners, and there is none; add one")

    @property
    def reranks(self) -> bool:
        """Whether a cross-encoder scores candidates."""
        return bool(self.depth("cross")) or self.cross_margin is not None or self.cross_ratio is not None

    def depth(self, method: Method) -> int:
        """Return how many ranks of a method the windows reach; 0 without such a miner."""
        return max((miner.last or 0 for miner in self.miners if miner.method == method), default=0)
