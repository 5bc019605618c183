"""PDF: the text of its pages without running heads, under the headings of its outline; a scan has none."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zhihui.corpus.boilerplate import RepeatedLines, without
from zhihui.corpus.cleaning import plain_characters
from zhihui.corpus.document import Document
from zhihui.corpus.readers.text import sections_of, title_line, title_of
from zhihui.errors import require
from zhihui.records import BadRow

_RUNNING_HEAD = 0.5  # of the pages
_NO_TITLE = re.compile(r"^(?:untitled|microsoft word\b.*|.*\.\w{2,5}|https?:.*|\W*)$", re.IGNORECASE)


def read(data: bytes, source: str) -> Document:
    """Read a PDF file.

    Raises:
        BadRow: damaged, locked by a password, or without text: a scan, which needs OCR first.
        MissingExtra: pypdf is not installed.
    """
    pypdf = require("pypdf", extra="corpus", purpose="reading PDF")
    with _quiet():
        try:
            reader = pypdf.PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise BadRow(source, "locked", "is locked by a password; save it without one")
            pages = [plain_characters(page.extract_text() or "").split("\n") for page in reader.pages]
            outline = list(_outline(reader, reader.outline))
            title = str((reader.metadata or {}).get("/Title") or "").strip()
        except BadRow:
            raise
        except Exception as error:  # a damaged file ends in any of the library's errors, and in Python's own
            reason = f"not readable as PDF ({' '.join(str(error).split()) or type(error).__name__})"
            raise BadRow(source, "broken_pdf", f"{reason}; fetch or save it again") from None
    if not any(line.strip() for page in pages for line in page):
        raise BadRow(source, "no_text", "its pages are pictures without text; run OCR on it first")
    repeated = RepeatedLines(_RUNNING_HEAD)
    for page in pages:
        repeated.count(page)
    heads = repeated.found()
    lines: list[str] = []
    levels: list[int | None] = []
    for number, page in enumerate(pages):
        known = {_bare(name): level for place, level, name in outline if place == number}
        for line in without(page, heads):
            if line.strip():
                lines.append(line)
                levels.append(known.get(_bare(line)))
    title = "" if _NO_TITLE.match(title) else plain_characters(title)
    if not title and levels[:1] == [None]:
        title, rest = title_line(lines)
        levels = levels[len(lines) - len(rest) :]
        lines = rest
    return Document(
        source=source,
        where=source,
        title=title or title_of(source),
        sections=sections_of(lines, levels),
        wrapped=True,
    )


def _outline(reader: Any, entries: list[Any], level: int = 1) -> Iterator[tuple[int, int, str]]:
    """Yield page, level and title of the outline's entries, those inside others a level deeper."""
    for entry in entries:
        if isinstance(entry, list):
            yield from _outline(reader, entry, level + 1)
        elif entry.title and (page := reader.get_destination_page_number(entry)) is not None:
            yield page, level, str(entry.title)


def _bare(text: str) -> str:
    return re.sub(r"\s", "", plain_characters(text))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's notes about small faults, which it mends, off the terminal."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
