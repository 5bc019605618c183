"""sentence-transformers' columns: anchor, positive, negative_1 ... negative_n; a row for each positive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from zhihui.errors import InputError
from zhihui.records.example import Example
from zhihui.records.files import read_by
from zhihui.records.formats.base import Format, merge_positives, one_positive_each, unheld, with_rest
from zhihui.records.rejects import BadRow, RejectLog
from zhihui.records.rows import Row, write_rows

_NEGATIVE = re.compile(r"negative(?:_(\d+))?")


def read(path: Path, *, rejects: RejectLog | None = None) -> Iterator[Example]:
    """Yield examples; neighbouring rows with the same anchor and negatives become one with several positives.

    Raises:
        InputError: an unusable row ("file:line: reason; mend").
    """
    return merge_positives(read_by(path, _parse, rejects=rejects))


def write(path: Path, examples: Iterable[Example]) -> int:
    """Write a row for each positive and return the number of rows.

    Raises:
        InputError: the examples differ in their number of negatives, which the columns of a table cannot.
    """
    return write_rows(path, _rows(path, examples))


def lost(example: Example) -> list[str]:
    """Return the fields that have no column."""
    return unheld(example)


FORMAT = Format(name="sentence-transformers", keys=frozenset({"anchor", "positive"}), read=read, write=write, lost=lost)


def _parse(row: Row) -> Example:
    for key in ("anchor", "positive"):
        if key not in row.data:
            reason = f"no column {key!r}; a row has anchor, positive and, if any, negative_1, negative_2, ..."
            raise BadRow(row.where, "missing_key", reason)
    places = {key: int(match[1] or 0) for key in row.data if (match := _NEGATIVE.fullmatch(key))}
    negatives = [row.data[key] for key in sorted(places, key=places.__getitem__)]
    known = {
        "query": row.data["anchor"],
        "pos": [row.data["positive"]],
        "neg": [text for text in negatives if text is not None],  # a table pads short rows with nulls
    }
    return with_rest(row, {"anchor", "positive", *places}, known)


def _rows(path: Path, examples: Iterable[Example]) -> Iterator[dict[str, str]]:
    width: int | None = None
    for number, example in enumerate(one_positive_each(examples), start=1):
        width = len(example.neg) if width is None else width
        if len(example.neg) != width:
            raise InputError(
                f"{path}: row {number} has {len(example.neg)} negatives, row 1 has {width}: a table needs "
                "as many in each; pass --negatives N to keep the first N"
            )
        negatives = {f"negative_{place}": text for place, text in enumerate(example.neg, start=1)}
        yield {"anchor": example.query, "positive": example.pos[0], **negatives}
