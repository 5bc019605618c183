"""Hard-wrapped lines: text that was broken at a fixed width becomes paragraphs again, Chinese without a space."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_NARROWEST, _WIDEST = 30, 160
"""Columns of a wrapped text, a Chinese character taking two; narrower is a list, wider was not wrapped."""
_FULL = 0.85
"""Share of the usual full width a line has if the next word or mark did not fit."""
_ENDED = re.compile(r"[。！？!?：:；;…][”’」』）】》)\"'\]]*$")
_BEGINS_ANEW = re.compile(
    r"\s{2,}|\u3000|[-*•·●○■□◆▪–—|>#]|\d{1,3}[.、)）]|[（(][一二三四五六七八九十\d]{1,3}[)）]|[①-⑳]"
    r"|[一二三四五六七八九十]{1,3}、|第[一二三四五六七八九十百千零〇\d]{1,7}[编章节条款部篇]"
)
_CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f“”‘’…—]")
_URL_AT_END = re.compile(r"https?://[\x21-\x7e]+$")
_URL_GOES_ON = re.compile(r"[\w&?=/%#.~+-]*[&?=/%#.~+-]|[a-z\d]+=", re.ASCII)
_HYPHENATED = re.compile(r"[a-z]{2}-$")


def join_wrapped(text: str) -> str:
    """Return a text with its wrapped lines joined, if it is wrapped at all.

    A line goes on in the next one if it is about as wide as lines get here, does not end a sentence, and the next is
    no list item, heading or indented first line.

    Args:
        text: lines with the spaces they begin with.
    """
    lines = text.split("\n")
    widths = sorted(width for line in lines if (width := _columns(line.strip())))
    if len(widths) < 3:
        return text
    usual = widths[int(0.9 * (len(widths) - 1))]
    if not _NARROWEST <= usual <= _WIDEST:
        return text
    joined = [lines[0]]
    for before, line in pairwise(lines):
        if _goes_on(before, line, _FULL * usual):
            joined[-1] = glue(joined[-1].rstrip(), line.strip())
        else:
            joined.append(line)
    return "\n".join(joined)


def glue(before: str, after: str) -> str:
    """Return two lines as one: a space between them only where neither side is Chinese.

    A URL that was broken is made whole, and so is a word that was hyphenated.
    """
    if not before or not after:
        return before + after
    if _CHINESE.match(before[-1]) or _CHINESE.match(after):
        return before + after
    if _URL_AT_END.search(before) and _URL_GOES_ON.match(after):
        return before + after
    if _HYPHENATED.search(before) and after[0].islower():
        return before[:-1] + after
    return f"{before} {after}"


def _goes_on(before: str, line: str, full: float) -> bool:
    stripped = before.strip()
    if not stripped or not line.strip() or _columns(stripped) < full:
        return False
    if _URL_AT_END.search(stripped) and _URL_GOES_ON.match(line):
        return True
    return not _ENDED.search(stripped) and not _BEGINS_ANEW.match(line)


def _columns(line: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(character) in "WFA") for character in line)
