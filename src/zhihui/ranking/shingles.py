"""Texts as sets of consecutive characters, and how much two of them have in common (Broder 1997)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from zhihui.ranking.folding import fold

LENGTH = 4
"""Characters in a shingle: about two Chinese words, so unrelated texts share next to none."""
_REMEMBERED = 2**13  # a passage of 120 characters takes about 13 KB
# A dot stays inside 3.5 and zhihui.cli; signs that make another word of one (C++, C#, -5 %) stay everywhere.
_PUNCTUATION = re.compile(
    r"[\s,?!:;()\[\]{}\"'`~^|\\、。「」『』《》〈〉【】〔〕“”‘’…—·]+|(?<![0-9a-z])\.+|\.+(?![0-9a-z])"
)


def bare(text: str) -> str:
    """Return what of a text counts when it is compared: folded, without white space and punctuation.

    A text that holds nothing else is only folded.

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    folded = fold(text)
    return _PUNCTUATION.sub("", folded) or folded


def shingles(text: str, length: int = LENGTH) -> frozenset[str]:
    """Return the distinct runs of `length` characters; a shorter text is one run."""
    return frozenset(text[start : start + length] for start in range(max(1, len(text) - length + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return what share of the shingles of two texts they have in common: |A ∩ B| / |A ∪ B|."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def reaches(one: frozenset[str], other: frozenset[str], threshold: float) -> bool:
    """Tell whether two texts are near-duplicates: their Jaccard similarity is `threshold` or more."""
    small, large = sorted((len(one), len(other)))
    return small >= threshold * large and jaccard(one, other) >= threshold


def remembering(texts: Callable[[int], str]) -> Callable[[int], frozenset[str]]:
    """Return a function from a text's number to its shingles that keeps those asked for last.

    Args:
        texts: number -> text as it is written.
    """
    return lru_cache(maxsize=_REMEMBERED)(lambda number: shingles(bare(texts(number))))
