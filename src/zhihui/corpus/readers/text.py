"""Plain text: chapters by their usual numbering (第一章 总则), all else as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from zhihui.corpus.decoding import decode
from zhihui.corpus.document import Document, Outline, Section

_CHAPTER = re.compile(r"\s*第[一二三四五六七八九十百千零〇\d]{1,7}([编篇卷部章节])(?:[\s：:、].{0,38}|\S{0,12})$")
_LEVELS = {"编": 1, "篇": 1, "卷": 1, "部": 1, "章": 2, "节": 3}
_SENTENCE_END = ("。", "！", "？", "；", "，", "…", "：")
_LONGEST_TITLE = 40
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def read(data: bytes, source: str) -> Document:
    """Read a text file.

    Raises:
        BadRow: no known encoding.
    """
    lines = re.split(r"\r\n|\r|\n", decode(data, where=source))
    title, rest = title_line(lines)
    return Document(
        source=source,
        where=source,
        title=title or title_of(source),
        sections=sections_of(rest),
        wrapped=True,
    )


def title_line(lines: list[str]) -> tuple[str, list[str]]:
    """Return the first line and the others if it stands there as a title, else "" and all lines.

    It is short, ends no sentence, and a blank line, a chapter or a much longer line follows.
    """
    first = next((place for place, line in enumerate(lines) if line.strip()), None)
    if first is None or first + 1 == len(lines):
        return "", lines
    title, after = lines[first].strip(), lines[first + 1]
    if len(title) > _LONGEST_TITLE or title.endswith(_SENTENCE_END) or _chapter_level(title) is not None:
        return "", lines
    if after.strip() and _chapter_level(after) is None and len(after) < 2 * len(title):
        return "", lines
    return title, lines[first + 1 :]


def sections_of(lines: Iterable[str], headings: Iterable[int | None] | None = None) -> list[Section]:
    """Return lines in sections, each under its chapter.

    Args:
        lines: as they stand, with the spaces they begin with.
        headings: for each line its level if it is known to be a heading, else None; chapters are found besides.
    """
    lines = list(lines)
    levels = [None] * len(lines) if headings is None else list(headings)
    outline = Outline()
    waiting: list[str] = []
    for line, known in zip(lines, levels, strict=True):
        level = _chapter_level(line) if known is None else known
        if level is None:
            waiting.append(line)
            continue
        outline.block("\n".join(waiting))
        waiting = []
        outline.heading(level, line)
    outline.block("\n".join(waiting))
    return outline.finish()


def title_of(source: str) -> str:
    """Return a file's name as a title if it is Chinese: other names rarely are one."""
    stem = PurePosixPath(source).stem
    return stem if _CHINESE.search(stem) else ""


def _chapter_level(line: str) -> int | None:
    found = _CHAPTER.match(line)
    if found is None or line.rstrip().endswith(_SENTENCE_END):
        return None
    return _LEVELS[found[1]]
