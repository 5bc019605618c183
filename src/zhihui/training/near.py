"""Near-duplicates: texts of which one is the other but for some characters, found among those of one batch.

Texts are folded (script, case, width, white space) and compared by the Jaccard similarity of their sets of three
consecutive characters. A batch's texts are indexed by the lowest hashes of these sets (Broder 1997), which alike texts
share; only texts that share many of them are compared in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhihui.ranking.folding import fold

_LOWEST = 64
"""Hashes that are indexed; a text with fewer shingles is indexed whole."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Sketch(NamedTuple):
    """What of a text is compared."""

    shingles: NDArray[np.uint64]
    """Its sets of three characters, mixed, ascending, each once."""
    lowest: list[int]
    """The first of them."""


def folded(text: str) -> str:
    """Return a text in simplified script, lower case and half width, with runs of white space as one space."""
    return " ".join(fold(text).split())


def sketch(text: str) -> Sketch:
    """Return the sketch of a folded text."""
    points = np.frombuffer(text.ljust(3, "\0").encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    codes = (points[:-2] << np.uint64(42)) | (points[1:-1] << np.uint64(21)) | points[2:]
    # Multiplying by an odd number maps the 2⁶⁴ codes one to one: no two shingles collide.
    shingles = np.unique(codes * _MIX)
    return Sketch(shingles, shingles[:_LOWEST].tolist())


def jaccard(one: Sketch, other: Sketch) -> float:
    """Return what share of the shingles of two texts they have in common."""
    shared = len(np.intersect1d(one.shingles, other.shingles, assume_unique=True))
    return shared / (len(one.shingles) + len(other.shingles) - shared)


class Alike:
    """The texts of one batch so far."""

    def __init__(self, threshold: float) -> None:
        """Begin without texts; `threshold` is the similarity from which two are near-duplicates."""
        self.threshold = threshold
        self._texts: list[Sketch] = []
        self._places: dict[int, list[int]] = {}

    def has(self, sketches: Sequence[Sketch]) -> bool:
        """Tell whether one of some texts is a near-duplicate of one that is here."""
        return any(self._has(each) for each in sketches)

    def add(self, sketches: Sequence[Sketch]) -> None:
        """Add texts."""
        for each in sketches:
            for value in each.lowest:
                self._places.setdefault(value, []).append(len(self._texts))
            self._texts.append(each)

    def _has(self, text: Sketch) -> bool:
        shared = Counter(chain.from_iterable(map(self._places.get, text.lowest, repeat(()))))
        for place, count in shared.items():
            other = self._texts[place]
            # Two texts at the threshold share about that share of the lowest hashes: half of it is far below chance.
            enough = 0.5 * self.threshold * min(len(text.lowest), len(other.lowest))
            if count >= enough and jaccard(text, other) >= self.threshold:
                return True
        return False
