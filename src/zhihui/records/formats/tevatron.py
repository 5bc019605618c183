"""Tevatron's training rows: query_id, query, positive_passages, negative_passages, and any other keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.records.example import Example
from zhihui.records.files import read_by
from zhihui.records.formats.base import Format, text_id, with_rest
from zhihui.records.rejects import BadRow, RejectLog
from zhihui.records.retrieval import Passage
from zhihui.records.rows import Row, write_rows

_SIDES = (("positive_passages", "pos", "pos_ids"), ("negative_passages", "neg", "neg_ids"))
_KEYS = ("query_id", "query", "positive_passages", "negative_passages")


def read(path: Path, *, rejects: RejectLog | None = None) -> Iterator[Example]:
    """Yield examples, title and text of a passage joined, docids in `meta["pos_ids"]` and `meta["neg_ids"]`.

    Raises:
        InputError: an unusable row ("file:line: reason; mend").
    """
    return read_by(path, _parse, rejects=rejects)


def write(path: Path, examples: Iterable[Example]) -> int:
    """Write a row for each example and return their number; ids that are missing are made from the texts.

    Raises:
        InputError: an unknown key of an example has a meaning in this format.
    """
    return write_rows(path, (_row(path, number, example) for number, example in enumerate(examples, start=1)))


def lost(example: Example) -> list[str]:
    """Return nothing: what has no place of its own is written as a further key."""
    return []


FORMAT = Format(name="tevatron", keys=frozenset({"query", "positive_passages"}), read=read, write=write, lost=lost)


def _row(path: Path, number: int, example: Example) -> dict[str, Any]:
    if taken := example.extra.keys() & set(_KEYS):
        raise InputError(f"{path}: row {number}: key {min(taken)!r} means something else in this format; rename it")
    rest = example.to_row()
    meta = dict(rest.pop("meta", {}))
    row: dict[str, Any] = {"query_id": rest.pop("id", text_id(example.query)), "query": rest.pop("query")}
    for key, side, ids_key in _SIDES:
        texts = rest.pop(side, [])
        ids = [text_id(text) for text in texts]
        if _are_ids(meta.get(ids_key), len(texts)):
            ids = meta.pop(ids_key)
        row[key] = [{"docid": i, "title": "", "text": text} for i, text in zip(ids, texts, strict=True)]
    return {**row, **rest, **({"meta": meta} if meta else {})}


def _are_ids(ids: Any, count: int) -> bool:
    return isinstance(ids, list) and len(ids) == count > 0 and all(isinstance(i, str) for i in ids)


def _parse(row: Row) -> Example:
    for key in ("query", "positive_passages"):
        if key not in row.data:
            reason = f"no key {key!r}; a row has query_id, query, positive_passages and negative_passages"
            raise BadRow(row.where, "missing_key", reason)
    query, query_id = row.data["query"], row.data.get("query_id")
    known: dict[str, Any] = {"query": query}
    docids: dict[str, list[str]] = {}
    for key, side, ids_key in _SIDES:
        items = row.data.get(key) or []
        if not isinstance(items, list):
            raise BadRow(row.where, "wrong_type", f"{key} must be a list of passages")
        pairs = [_passage(item, f"{key}[{n}]") for n, item in enumerate(items)]
        known[side] = [text for _, text in pairs]
        # An id made from the text says nothing: reading what was written gives back what there was.
        if any(docid != text_id(text) for docid, text in pairs):
            docids[ids_key] = [docid for docid, _ in pairs]
    if query_id is not None and not (isinstance(query, str) and query_id == text_id(query)):
        known["id"] = query_id
    example = with_rest(row, _KEYS, known)
    example.meta = {**example.meta, **docids}
    return example


def _passage(item: Any, name: str) -> tuple[str, str]:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise BadRow("", "wrong_type", f'{name} must be an object like {{"docid": ..., "title": ..., "text": ...}}')
    title = item.get("title") or ""
    if not isinstance(title, str):
        raise BadRow("", "wrong_type", f"{name}.title must be a string")
    text = item["text"] if not title else Passage(text=item["text"], title=title).full
    docid = item.get("docid")
    return (text_id(text) if docid is None else str(docid)), text
