"""Near-duplicates of a text among many: MinHash (Broder 1997) and banding propose, the true Jaccard decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from zhihui.errors import InputError, require
from zhihui.ranking.shingles import jaccard, reaches, remembering

_PERMUTATIONS = 128
_MISSED = 5e-4
"""Largest probability that banding overlooks a pair exactly at the threshold; above it, it is smaller still."""
_AT_ONCE = 4096
"""Texts whose signatures are computed together."""


class Near(NamedTuple):
    """A near-duplicate."""

    number: int
    """Of the text in the index."""
    similarity: float
    """Jaccard of the two texts' shingles; 1 for texts that are equal but for script, case, width, punctuation."""


class NearIndex:
    """Texts, some of them entered, among which near-duplicates are looked for.

    All texts must be known at the start, since their signatures are computed together; a text is found by others only
    once it is entered. Two shorter than a shingle are alike only if they are equal.
    """

    def __init__(self, texts: Sequence[str], threshold: float, *, seed: int = 0) -> None:
        """Take the texts.

        Args:
            texts: as they are written.
            threshold: Jaccard similarity from which two are near-duplicates, above 0 and up to 1.
            seed: of the hash functions.

        Raises:
            InputError: the threshold is out of bounds.
            MissingExtra: rensa or OpenCC is not installed.
        """
        check_threshold(threshold)
        self._rensa = require("rensa", extra="mine", purpose="finding near-duplicates")
        self.threshold = threshold
        self._texts = texts
        self._seed = seed
        self._shingles = remembering(texts.__getitem__)
        self._index = self._rensa.RMinHashLSH(threshold, _PERMUTATIONS, bands(threshold))
        self._signatures: list[object] = []

    def enter(self, number: int) -> None:
        """Let a text be found."""
        self._index.insert(number, self._signature(number))

    def near(self, number: int) -> list[Near]:
        """Return the entered texts that are near-duplicates of this one, the most alike first, then by number."""
        own = self._shingles(number)
        proposed = [each for each in self._index.query(self._signature(number)) if each != number]
        found = [
            Near(each, jaccard(own, self._shingles(each)))
            for each in proposed
            if reaches(own, self._shingles(each), self.threshold)
        ]
        return sorted(found, key=lambda near: (-near.similarity, near.number))

    def _signature(self, number: int) -> object:
        # In the order in which texts are asked for, which is that of their numbers, a block at a time.
        while number >= len(self._signatures):
            start = len(self._signatures)
            block = [self._shingles(each) for each in range(start, min(start + _AT_ONCE, len(self._texts)))]
            self._signatures += self._rensa.RMinHash.from_token_sets(block, _PERMUTATIONS, self._seed)
        return self._signatures[number]


def check_threshold(threshold: float) -> None:
    """Check that a similarity can be reached.

    Raises:
        InputError: it is not above 0 and up to 1.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; give a Jaccard similarity above 0 and up to 1, e.g. 0.8")


def bands(threshold: float) -> int:
    """Return into how many bands the permutations are cut: the fewest that seldom overlook a pair at the threshold.

    A pair of similarity s shares one of b bands of r rows with probability 1 - (1 - s^r)^b.
    """
    for rows in _rows():
        count = _PERMUTATIONS // rows
        if (1 - threshold**rows) ** count <= _MISSED:
            return count
    return _PERMUTATIONS


def _rows() -> Iterator[int]:
    rows = _PERMUTATIONS
    while rows:
        yield rows
        rows //= 2
