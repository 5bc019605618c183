"""Rows: JSON lines, Parquet and CSV, each row a document with a text and perhaps a title and an id."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhihui.corpus.decoding import decode
from zhihui.corpus.document import Document, Section
from zhihui.records import BadRow, RejectLog, Row, read_rows

_OBVIOUS = ("text", "content", "body", "passage", "document", "contents", "正文", "内容")
_TITLES = ("title", "标题", "题目")
_IDS = ("_id", "id")
_LONGEST = 256 * 2**20  # bytes of a row; a whole book fits
_CSV_FIELD = 2**31 - 1


def read_row_documents(
    path: Path, *, source: str, field: str | None = None, rejects: RejectLog | None = None
) -> Iterator[Document]:
    """Yield a document for each row.

    Args:
        path: the file.
        source: what it is called in the documents.
        field: key of the text; None takes the obvious one.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        BadRow: the file or, without `rejects`, a row is unusable.
        MissingExtra: pyarrow is not installed, for Parquet.
    """
    separated = path.name.lower().endswith((".csv", ".tsv"))
    rows = _read_csv(path, source) if separated else read_rows(path, max_line_bytes=_LONGEST, rejects=rejects)
    for row in rows:
        where = f"{source}:{row.where.rsplit(':', 1)[1]}"
        try:
            yield _document(row.data, source, where, field)
        except BadRow as error:
            if rejects is None:
                raise
            rejects.take(error, row.data)


def _read_csv(path: Path, source: str) -> Iterator[Row]:
    text = decode(path.read_bytes(), where=source)
    before = csv.field_size_limit(_CSV_FIELD)
    try:
        lines = csv.DictReader(
            io.StringIO(text, newline=""), delimiter="\t" if path.name.lower().endswith(".tsv") else ","
        )
        for row in lines:
            yield Row(f"{source}:{lines.line_num}", {key: value for key, value in row.items() if key is not None})
    except csv.Error as error:
        raise BadRow(source, "broken_csv", f"not readable as CSV ({error}); write it anew") from None
    finally:
        csv.field_size_limit(before)


def _document(data: dict[str, Any], source: str, where: str, field: str | None) -> Document:
    keys = _OBVIOUS if field is None else (field,)
    key = next((key for key in keys if isinstance(data.get(key), str)), None)
    if key is None:
        mend = f"it has {', '.join(map(str, data)) or 'no keys'}; name the text's key with --field"
        raise BadRow(where, "no_field", f"has no text under {' or '.join(map(repr, keys))}; {mend}")
    if not data[key].strip():
        raise BadRow(where, "blank_text", f'"{key}" is blank; fill it or remove the row')
    title = next((data[name] for name in _TITLES if isinstance(data.get(name), str)), "")
    own = next((data[name] for name in _IDS if data.get(name) not in (None, "")), None)
    return Document(
        source=source,
        where=where,
        title=" ".join(title.split()),
        sections=[Section(data[key])],
        id=None if own is None else str(own),
        wrapped=True,
    )
