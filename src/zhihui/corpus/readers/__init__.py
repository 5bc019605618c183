"""Readers: a file of any known format becomes documents.

To add one: a module with a `read`, and its suffixes below.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from zhihui.corpus.document import Document
from zhihui.records import BadRow, RejectLog

_READERS = {
    "text": (".txt", ".text"),
    "markdown": (".md", ".markdown", ".mdx"),
    "html": (".html", ".htm", ".xhtml", ".shtml"),
    "pdf": (".pdf",),
    "docx": (".docx",),
    "rows": (".jsonl", ".jsonl.gz", ".parquet", ".csv", ".tsv"),
}
"""Module -> suffixes it reads, in lower case."""
SUFFIXES = tuple(suffix for suffixes in _READERS.values() for suffix in suffixes)


def reader_of(path: Path) -> str | None:
    """Return the module that reads a file, by its suffix; None where there is none."""
    name = path.name.lower()
    return next((reader for reader, suffixes in _READERS.items() if name.endswith(suffixes)), None)


def read_documents(
    path: Path, *, source: str, field: str | None = None, rejects: RejectLog | None = None
) -> Iterator[Document]:
    """Yield the documents of a file: one, or one for each row.

    Args:
        path: the file.
        source: what it is called in the documents.
        field: key of the text in rows; None takes the obvious one.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        BadRow: the file cannot be read; what kind of fault is its code.
        MissingExtra: what reads such a file is not installed.
    """
    reader = reader_of(path)
    if reader is None:
        reason = f"no reader for such a file; there are {', '.join(SUFFIXES)}"
        raise BadRow(source, "unknown_format", reason)
    try:
        with path.open("rb") as stream:
            data = b"" if reader == "rows" else stream.read()  # rows are streamed, whatever their number
    except OSError as error:
        raise BadRow(source, "unreadable", f"cannot be opened ({error.strerror}); see its rights") from None
    if reader == "rows":
        from zhihui.corpus.readers.rows import read_row_documents

        yield from read_row_documents(path, source=source, field=field, rejects=rejects)
        return
    if not data.strip():
        raise BadRow(source, "empty_file", "the file is empty; remove it or fill it")
    try:
        document: Document = import_module(f"{__name__}.{reader}").read(data, source)
    except RecursionError:
        raise BadRow(source, "too_deep", "its parts are nested too deeply; simplify it") from None
    if not any(section.text.strip() for section in document.sections):
        raise BadRow(source, "no_text", "no text was found in it")
    yield document
