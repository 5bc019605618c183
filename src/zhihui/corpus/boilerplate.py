"""Boilerplate: lines that stand at the top or foot of page after page, or of file after file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

EDGE = 3
"""Lines at either end that may be a header or a footer."""
_FEWEST = 3  # two pages may begin alike by chance
_DIGITS = re.compile(r"\d+|[一二三四五六七八九十百]+(?=\s*[页頁])")
_TELLING = re.compile(r"\w")


class RepeatedLines:
    """Counts the edge lines of pages or files, and takes those off that recur; numbers in them may differ.

    Args:
        share: of the pages or files a line recurs in, at least; 1 takes nothing off.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._pages = 0
        self._counts: Counter[str] = Counter()

    def count(self, lines: Sequence[str]) -> None:
        """Count a page's lines."""
        self._pages += 1
        self._counts.update({key for line in _edges(lines) if (key := _key(line))})

    def found(self) -> frozenset[str]:
        """Return the recurring lines, their numbers masked."""
        if self._share >= 1:
            return frozenset()
        least = max(_FEWEST, self._share * self._pages)
        return frozenset(key for key, count in self._counts.items() if count >= least)


def without(lines: Sequence[str], repeated: frozenset[str]) -> list[str]:
    """Return a page's lines without recurring ones at its top and foot."""
    kept = list(lines)
    if not repeated:
        return kept
    for place in (*_places(kept, range(len(kept))), *_places(kept, range(len(kept) - 1, -1, -1))):
        if _key(kept[place]) in repeated:
            kept[place] = ""
    return kept


def _edges(lines: Sequence[str]) -> set[str]:
    first, last = _places(lines, range(len(lines))), _places(lines, range(len(lines) - 1, -1, -1))
    return {lines[place] for place in (*first, *last)}


def _places(lines: Sequence[str], order: Iterable[int]) -> list[int]:
    """Return the places of the first `EDGE` lines that are not blank, in this order."""
    found: list[int] = []
    for place in order:
        if lines[place].strip():
            found.append(place)
            if len(found) == EDGE:
                break
    return found


def _key(line: str) -> str:
    """Return a line with its numbers masked; "" for one that says nothing else, such as a closing brace."""
    masked = _DIGITS.sub("#", " ".join(line.split()))
    return masked if "#" in masked or len(_TELLING.findall(masked)) >= 2 else ""
