"""Sentences of Chinese text: where one may be cut off from the next."""

from __future__ import annotations

import re
from typing import NamedTuple

_CLOSING = "”’」』）】》〉〗)\"'\\]"
_BORDER = re.compile(
    rf"[。！？；…][。！？!?；;…]*[{_CLOSING}]*"  # Chinese ends, and what closes after them
    rf"|[!?;]+[{_CLOSING}]*(?=\s|$|[\u4e00-\u9fff])"  # ASCII ones, unless they are part of code
    rf"|(?<=[a-z\d)\]”\"])\.[{_CLOSING}]*(?=\s+[A-Z\u4e00-\u9fff])"  # a Latin full stop, no abbreviation or number
    r"|\n+"
)
# A title or a remark in brackets stays whole, whatever is in it.
_WHOLE = re.compile(r"《[^《》\n]{1,80}》|（[^（）\n]{1,80}）|https?://[\x21-\x7e]+")
_PAUSE = re.compile(rf"(?:[，、：]|,(?!\d)|:(?!/))[{_CLOSING}]*\s*|\s+")
_INTRODUCES = re.compile(r"[：:]\s*$")

MIDDLE, LINE, PARAGRAPH = 0, 1, 2
"""What a sentence ends besides itself."""


class Sentence(NamedTuple):
    """A sentence's place in a text, white space around it left out."""

    start: int
    end: int
    ends: int
    """MIDDLE, LINE or PARAGRAPH."""


def split_sentences(text: str) -> list[Sentence]:
    """Return a text's sentences: they end at 。！？；…, with quotes and brackets that close after, and at line ends.

    Nothing but white space lies between them. A line that introduces what follows (包括：) counts as the middle.
    """
    whole = [match.span() for match in _WHOLE.finditer(text)]
    found: list[Sentence] = []
    start = place = 0
    for border in _BORDER.finditer(text):
        while place < len(whole) and whole[place][1] <= border.start():
            place += 1
        if place < len(whole) and whole[place][0] <= border.start() and border.end() <= whole[place][1]:
            continue
        start = _add(found, text, start, border.end())
    _add(found, text, start, len(text))
    return found


def split_pauses(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of a sentence between its commas, colons and spaces, as places in the text."""
    found = []
    for pause in _PAUSE.finditer(text, start, end):
        if pause.end() > start and text[start : pause.end()].strip():
            found.append((start, pause.end()))
            start = pause.end()
    if text[start:end].strip():
        found.append((start, end))
    return found


def _add(found: list[Sentence], text: str, start: int, end: int) -> int:
    piece = text[start:end]
    bare = piece.strip()
    if bare:
        first = start + len(piece) - len(piece.lstrip())
        last = first + len(bare)
        found.append(Sentence(first, last, MIDDLE))
    if found:
        after = text[found[-1].end : end]
        breaks = min(after.count("\n"), PARAGRAPH)
        if _INTRODUCES.search(text[found[-1].start : found[-1].end]):
            breaks = MIDDLE
        found[-1] = found[-1]._replace(ends=max(found[-1].ends, breaks))
    return end
