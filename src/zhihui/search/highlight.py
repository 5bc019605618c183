"""Highlights: the words of a passage that its query has too, in whatever script, case or width; and snippets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from zhihui.ranking import STOP_WORDS, segment
from zhihui.ranking.folding import fold

Spans = tuple[tuple[int, int], ...]
_GAP = "…"
_CHINESE = re.compile(r"[\u4e00-\u9fff]{2,}$")


def query_words(query: str) -> frozenset[str]:
    """Return the words of a query that say what it is about, folded; all of them where none does.

    Raises:
        MissingExtra: rjieba or OpenCC is not installed.
    """
    words = frozenset(segment(query))
    return words - STOP_WORDS or words


def highlights(text: str, words: frozenset[str]) -> Spans:
    """Return start and end of each word in a text that is one of `words`, or a part of a Chinese one; neighbours join.

    So 计算机 is found for 计算机软件, which the segmentation takes for one word where the two stand together.

    Raises:
        MissingExtra: rjieba or OpenCC is not installed.
    """
    folded, places = _folded(text)
    joined = "\n".join(words)
    spans: list[tuple[int, int]] = []
    after = 0
    for word in segment(folded):
        start = folded.find(word, after)
        if start < 0:
            continue  # a phrase that OpenCC writes otherwise as a whole than character by character
        after = start + len(word)
        if word not in joined or (word not in words and not _CHINESE.match(word)):
            continue
        span = places[start], places[after - 1] + 1
        if spans and spans[-1][1] >= span[0]:
            span = spans.pop()[0], span[1]
        spans.append(span)
    return tuple(spans)


class Snippet(NamedTuple):
    """A part of a text in one line."""

    text: str
    highlights: Spans
    """In the snippet."""


def snippet(text: str, spans: Sequence[tuple[int, int]], *, width: int) -> Snippet:
    """Return the part of a text, `width` characters long, in which most characters are highlighted."""
    start = _best_start(spans, width) if len(text) > width else 0
    # Some words before the first match, and no room wasted behind the end.
    start = max(0, min(start - width // 6, len(text) - width))
    end = min(len(text), start + width)
    before, after = _GAP if start else "", _GAP if end < len(text) else ""
    moved = len(before) - start
    kept = tuple((max(a, start) + moved, min(b, end) + moved) for a, b in spans if b > start and a < end)
    line = "".join(" " if character.isspace() else character for character in text[start:end])
    return Snippet(before + line + after, kept)


def _best_start(spans: Sequence[tuple[int, int]], width: int) -> int:
    room = width - width // 6
    starts = [start for start, _ in spans] or [0]

    def covered(start: int) -> int:
        return sum(max(0, min(b, start + room) - max(a, start)) for a, b in spans)

    return max(starts, key=lambda start: (covered(start), -start))


def _folded(text: str) -> tuple[str, list[int]]:
    """Return a text folded, and for each of its characters the one of the text it is made of."""
    parts = [_fold_one(character) for character in text]
    return "".join(parts), [place for place, part in enumerate(parts) for _ in part]


@lru_cache(maxsize=65536)
def _fold_one(character: str) -> str:
    return fold(character)
