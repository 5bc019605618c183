"""Sources: the passages and examples that methods start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zhihui.errors import InputError
from zhihui.records import (
    BadRow,
    Example,
    Passage,
    RejectLog,
    Row,
    is_beir,
    read_beir,
    read_examples,
    read_rows,
)
from zhihui.records.shipped import set_name
from zhihui.synthesis.tools import SourcePassage


def read_passages(path: Path, *, rejects: RejectLog | None = None) -> list[SourcePassage]:
    """Read the passages of a BEIR folder, queries aside, or of a file of rows with a text.

    Args:
        path: rows may have a title, and an _id or id, else their line is their id.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        InputError: no such path, a folder of another kind, an unusable row, or nothing usable.
    """
    found: dict[str, SourcePassage] = {}
    source = set_name(path) if path.is_dir() else path.name.partition(".")[0]
    for row in read_rows(_file(path), rejects=rejects):
        try:
            passage = _passage(row, source)
            if passage.id in found:
                raise BadRow(row.where, "duplicate_id", f"id {passage.id!r} is given twice; keep one of the rows")
            found[passage.id] = passage
        except BadRow as error:
            if rejects is None:
                raise
            rejects.take(error, row.data)
    if not found:
        raise InputError(f"{path}: no usable passage")
    return list(found.values())


def read_training(path: Path, split: str, *, rejects: RejectLog | None = None) -> list[Example]:
    """Read the examples of a file or folder, or those of a BEIR folder's split.

    Raises:
        InputError: no such path or split, an unusable row, or nothing usable.
    """
    found = read_beir(path, rejects=rejects).examples(split) if is_beir(path) else _examples(path, rejects)
    examples = list(found)
    if not examples:
        raise InputError(f"{path}: no usable example")
    return examples


def _examples(path: Path, rejects: RejectLog | None) -> Iterator[Example]:
    return read_examples(path, rejects=rejects)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not is_beir(path):
        raise InputError(f"{path}: is a folder but not a BEIR one; give a file of rows with a text")
    plain = path / "corpus.jsonl"
    return plain if plain.is_file() else path / "corpus.jsonl.gz"


def _passage(row: Row, source: str) -> SourcePassage:
    text, title = row.data.get("text"), row.data.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        raise BadRow(row.where, "wrong_type", '"text" and "title" must be strings; a passage needs a "text"')
    whole = Passage(text=text, title=title).full
    if not whole:
        raise BadRow(row.where, "blank_text", "title and text are blank; fill the passage or remove it")
    key = row.data.get("_id", row.data.get("id"))
    line = row.where.rpartition(":")[2]  # where the file lies must not be in an id
    return SourcePassage(id=f"{source}-{line}" if key is None else str(key), text=whole, where=row.where, source=source)
