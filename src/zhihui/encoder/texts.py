"""Texts to encode, streamed from a file: rows with a text, or plain text with one a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zhihui.encoder.settings import Role
from zhihui.errors import InputError
from zhihui.records import BadRow, Passage, RejectLog, read_rows
from zhihui.records.rows import SUFFIXES, read_text_lines

PLAIN = ".txt"
_OBVIOUS = {"query": ("text", "query", "question"), "document": ("text", "passage", "content", "document")}
"""Keys that hold the text where none is named, tried in this order on each row."""


class Text(NamedTuple):
    """A text and what it is known by."""

    id: str
    """Of the row's `_id` or `id`; else its number in the file, counted from 1 (of a line, blank ones counted)."""
    text: str
    where: str
    """"file:line"."""


def read_texts(
    source: Path, *, role: Role, field: str | None = None, rejects: RejectLog | None = None
) -> Iterator[Text]:
    """Yield the texts of a .jsonl, .jsonl.gz, .parquet or .txt file, one row in memory at a time.

    A passage with a title is both joined, as everywhere else. A `field` named is taken alone.

    Args:
        source: the file.
        role: what the texts are; decides which keys are obvious.
        field: key of the text; None takes the obvious one.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        InputError: no such file, an unknown suffix, or an unusable row: malformed, without a text, with a blank one
            or one that is no string, or without an id where the first row had one.
    """
    if source.is_dir():
        raise InputError(f"{source}: is a folder; give a file, such as its corpus.jsonl or queries.jsonl")
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if source.name.endswith(PLAIN):
        if field is not None:
            raise InputError(f"{source}: plain text has no fields; leave out the field {field!r}")
        for line in read_text_lines(source, rejects=rejects):
            yield Text(_number(line.where), line.data["text"], line.where)
        return
    if not source.name.endswith(SUFFIXES):
        raise InputError(f"{source}: unknown kind of file; name it {', '.join(SUFFIXES)} or {PLAIN}")
    has_ids: bool | None = None
    for row in read_rows(source, rejects=rejects):
        try:
            own = _id(row.data, row.where)
            has_ids = own is not None if has_ids is None else has_ids
            if has_ids != (own is not None):
                # A row's number could be another row's id.
                rest = "an id, rows before it have none" if own is not None else "no id, rows before it have one"
                raise BadRow(row.where, "mixed_ids", f"has {rest}; give all rows an _id, or none")
            text = _text(row.data, row.where, role, field)
        except BadRow as error:
            if rejects is None:
                raise
            rejects.take(error, row.data)
        else:
            yield Text(_number(row.where) if own is None else own, text, row.where)


def _number(where: str) -> str:
    return where.rsplit(":", 1)[1]


def _id(data: Mapping[str, Any], where: str) -> str | None:
    value = data.get("_id", data.get("id"))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise BadRow(where, "wrong_type", f"its id is {value!r}; an id is a string or a whole number")
    return str(value)


def _text(data: Mapping[str, Any], where: str, role: Role, field: str | None) -> str:
    keys = _OBVIOUS[role] if field is None else (field,)
    key = next((key for key in keys if key in data), None)
    if key is None:
        mend = f"it has {', '.join(data) or 'no keys'}; name the text's key with --field"
        raise BadRow(where, "no_field", f"has no {' or '.join(map(repr, keys))}; {mend}")
    value, title = data[key], (data.get("title") or "") if role == "document" and field is None else ""
    if not isinstance(value, str) or not isinstance(title, str):
        wrong = key if not isinstance(value, str) else "title"
        raise BadRow(where, "wrong_type", f'"{wrong}" is {type(data[wrong]).__name__}, not a string; make it one')
    if not title and not value.strip():
        raise BadRow(where, "blank_text", f'"{key}" is blank; fill it or remove the row')
    return Passage(text=value, title=title).full if role == "document" else value
