"""Reading a folder: every file in a fixed order, in parts that a killed run finds again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhihui import progress
from zhihui.corpus.cleaning import plain_characters
from zhihui.corpus.document import Document, Section
from zhihui.corpus.readers import read_documents
from zhihui.errors import InputError
from zhihui.records import REJECTED, BadRow, RejectLog, is_beir, read_rows, write_rows

_FILES_A_PART = 64


def files_of(data: Path) -> list[tuple[Path, str]]:
    """Return each file with the name it has relative to what was given, in the order of these names.

    Hidden files and folders are passed over, and so is what a stage rejected or counted; of a BEIR folder only the
    corpus is taken.

    Raises:
        InputError: no such path, or a folder without files.
    """
    if not data.exists():
        raise InputError(f"{data}: no such file or folder")
    if data.is_file():
        return [(data, data.name)]
    if is_beir(data):
        return [(path, path.name) for path in sorted(data.glob("corpus.jsonl*"))]
    found = []
    for folder, folders, names in os.walk(data):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and name not in (REJECTED, "manifest.json"):
                path = Path(folder, name)
                found.append((path, path.relative_to(data).as_posix()))
    if not found:
        raise InputError(f"{data}: holds no files")
    return sorted(found, key=lambda pair: pair[1])


def read_all(files: list[tuple[Path, str]], folder: Path, *, field: str | None) -> list[Path]:
    """Read files into parts, their characters made plain, and return the parts in order.

    Args:
        files: as `files_of` returns them.
        folder: where the parts are, and those of a killed run were.
        field: key of the text in rows; None takes the obvious one.
    """
    folder.mkdir(exist_ok=True)
    parts = []
    with progress.bar(len(files), "Reading documents") as bar:
        for start in range(0, len(files), _FILES_A_PART):
            few = files[start : start + _FILES_A_PART]
            part = folder / f"part-{start // _FILES_A_PART:06d}.jsonl"
            parts.append(part)
            if not part.exists():
                unfinished = part.with_name(f"unfinished-{part.name}")
                with RejectLog(_rejected(part)) as rejects:
                    write_rows(unfinished, (asdict(each) for each in _documents(few, field, rejects)))
                unfinished.rename(part)  # after what it rejected is there
            bar.advance(len(few))
    return parts


def documents_in(parts: list[Path]) -> Iterator[Document]:
    """Yield the documents of all parts."""
    for part in parts:
        with part.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                sections = [Section(each["text"], tuple(each["headings"])) for each in row.pop("sections")]
                yield Document(**row, sections=sections)


def take_rejected(parts: list[Path], rejects: RejectLog) -> None:
    """Set aside what was set aside when the parts were read."""
    for part in parts:
        if _rejected(part).exists():
            for row in read_rows(_rejected(part), max_line_bytes=2**30):
                entry: dict[str, Any] = row.data
                what = entry.get("row", entry.get("text", ""))
                rejects.add(what, entry["reason"], entry["where"], detail=entry.get("detail", ""))


def _rejected(part: Path) -> Path:
    return part.with_name(f"rejected-{part.name}")


def _documents(files: list[tuple[Path, str]], field: str | None, rejects: RejectLog) -> Iterator[Document]:
    for path, source in files:
        try:
            for document in read_documents(path, source=source, field=field, rejects=rejects):
                yield _plain(document)
        except BadRow as error:
            rejects.take(error, "")


def _plain(document: Document) -> Document:
    sections = [
        Section(plain_characters(one.text), tuple(plain_characters(each) for each in one.headings))
        for one in document.sections
    ]
    row = {**{name: getattr(document, name) for name in ("source", "where", "id", "wrapped", "indented")}}
    return Document(**row, title=plain_characters(document.title), sections=sections)
