"""What a format is: a reader, a writer, and what of an example it cannot hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from zhihui.records.example import Example
from zhihui.records.rejects import BadRow, RejectLog
from zhihui.records.rows import Row


class Reader(Protocol):
    """Reads the examples of a file or folder; unusable rows stop it or go to `rejects`."""

    def __call__(self, path: Path, *, rejects: RejectLog | None = None) -> Iterator[Example]:
        """Yield the examples at a path."""
        ...


class Writer(Protocol):
    """Writes examples atomically and returns the number of rows written."""

    def __call__(self, path: Path, examples: Iterable[Example]) -> int:
        """Write examples to a path."""
        ...


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format by the name the command line knows it by."""

    name: str
    keys: frozenset[str]
    """Keys every row has; empty for a format that is not told by its rows."""
    read: Reader
    write: Writer
    lost: Callable[[Example], list[str]]
    """The fields of an example that writing would drop."""


def with_rest(row: Row, own_keys: Container[str], known: dict[str, Any]) -> Example:
    """Build the example of a row from what the format's own keys say and, as native keys, all its other keys.

    Raises:
        InputError: one of the other keys says again what an own key says, or the example is unusable.
    """
    rest = {key: value for key, value in row.data.items() if key not in own_keys}
    if taken := rest.keys() & known.keys():
        reason = f"key {min(taken)!r} says again what the keys of this format say; remove or rename it"
        raise BadRow(row.where, "ambiguous_key", reason)
    return Example.from_row({**rest, **known}, where=row.where)


def unheld(example: Example, *, fields: Iterable[str] = (), meta: Iterable[str] = ()) -> list[str]:
    """Return which filled optional fields are in neither list; `meta` names the keys of it that are held."""
    held = {"query", "pos", "neg", *fields}
    lost = [
        name
        for name in ("pos_scores", "neg_scores", "prompt", "type", "id", "source", "extra")
        if name not in held and getattr(example, name) not in (None, {})
    ]
    return lost + (["meta"] if "meta" not in held and example.meta.keys() - set(meta) else [])


def text_id(text: str) -> str:
    """Return an id for a text that has none; the same text always has the same."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def one_positive_each(examples: Iterable[Example]) -> Iterator[Example]:
    """Yield an example for each positive, for formats whose rows hold a single one."""
    for example in examples:
        for positive in example.pos:
            yield replace(example, pos=[positive], pos_scores=None)


def merge_positives(examples: Iterable[Example]) -> Iterator[Example]:
    """Join neighbours that differ in their positive only: the reverse of `one_positive_each`."""
    held: Example | None = None
    for example in examples:
        graded = example.pos_scores is not None  # grades belong to their positives: such rows stay apart
        if held is not None and not graded and replace(example, pos=held.pos) == held:
            held = replace(held, pos=[*held.pos, *example.pos])
            continue
        if held is not None:
            yield held
        held = example
    if held is not None:
        yield held
