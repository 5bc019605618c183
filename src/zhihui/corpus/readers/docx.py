"""DOCX: paragraphs and tables in their order, under the headings by their styles."""

from __future__ import annotations

import io
import re
from typing import Any

from zhihui.corpus.document import Document, Outline
from zhihui.corpus.readers.text import title_of
from zhihui.errors import require
from zhihui.records import BadRow

_HEADING = re.compile(r"(?:heading|标题|標題)\s*(\d)$", re.IGNORECASE)
_TITLES = ("title", "标题", "標題")


def read(data: bytes, source: str) -> Document:
    """Read a Word document; its headers, footers and comments are left out.

    Raises:
        BadRow: damaged or no such file.
        MissingExtra: python-docx is not installed.
    """
    docx = require("docx", extra="corpus", purpose="reading DOCX")
    try:
        opened = docx.Document(io.BytesIO(data))
        outline = Outline()
        items: list[str] = []
        for block in opened.iter_inner_content():
            if not hasattr(block, "rows"):
                level = _level(block)
                if level is None and _is_item(block):
                    items.append(f"- {block.text.strip()}")
                    continue
                outline.block("\n".join(items))
                items = []
                if level is None:
                    outline.block(block.text)
                else:
                    outline.heading(level, block.text)
            else:
                outline.block("\n".join(items))
                items = []
                outline.block("\n".join(_rows(block)))
        outline.block("\n".join(items))
        title = (opened.core_properties.title or "").strip()
    except Exception as error:  # a damaged package ends in errors of zip, XML and the library alike
        reason = f"not readable as DOCX ({' '.join(str(error).split()) or type(error).__name__})"
        raise BadRow(source, "broken_docx", f"{reason}; save it again") from None
    # python-docx's own template calls every document "Word Document".
    if title.lower() == "word document":
        title = ""
    return Document(
        source=source,
        where=source,
        title=outline.first_heading or title or title_of(source),
        sections=outline.finish(),
    )


def _level(paragraph: Any) -> int | None:
    name = paragraph.style.name if paragraph.style is not None else None
    if not name or not paragraph.text.strip():
        return None
    if name.lower() in _TITLES:
        return 0
    found = _HEADING.match(name)
    return int(found[1]) if found is not None else None


def _is_item(paragraph: Any) -> bool:
    properties = paragraph._p.pPr
    numbered = properties is not None and properties.numPr is not None
    style = paragraph.style.name if paragraph.style is not None else ""
    return bool(paragraph.text.strip()) and (numbered or (style or "").lower().startswith("list"))


def _rows(table: Any) -> list[str]:
    lines = []
    for row in table.rows:
        cells: list[str] = []
        seen = None
        for cell in row.cells:
            if cell._tc is not seen:  # a merged cell is given once for each column it spans
                cells.append(" ".join(cell.text.split()))
            seen = cell._tc
        lines.append(" | ".join(cells))
    return lines
