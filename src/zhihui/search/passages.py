"""Passages on disk: rows one after another, found by their number."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from zhihui.records import Passage

PASSAGES, PLACES = "passages.jsonl", "places.npy"


class Passages(Sequence[str]):
    """The passages of a generation as the texts that are encoded and counted: title and text; `row` has the rest."""

    def __init__(self, folder: Path) -> None:
        """Map the files."""
        with (folder / PASSAGES).open("rb") as stream:
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._places = np.load(folder / PLACES, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> str: ...

    @overload
    def __getitem__(self, number: slice) -> list[str]: ...

    def __getitem__(self, number: int | slice) -> str | list[str]:
        """Return the text of one passage, or of some."""
        if isinstance(number, slice):
            return [full_text(self.row(each)) for each in range(*number.indices(len(self)))]
        return full_text(self.row(number))

    def row(self, number: int) -> dict[str, Any]:
        """Return a passage's row: `_id`, `title`, `text`, `metadata`."""
        start = int(self._places[number])
        found: dict[str, Any] = json.loads(self._bytes[start : self._bytes.find(b"\n", start)])
        return found

    def lines(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the lines between two places in the file, those of passages that were left out among them."""
        while start < end:
            after = self._bytes.find(b"\n", start) + 1
            yield self._bytes[start:after]
            start = after


def full_text(row: dict[str, Any]) -> str:
    """Return title and text of a row joined, as everywhere in zhihui."""
    return Passage(row["text"], row["title"]).full


def to_line(row: dict[str, Any]) -> bytes:
    """Return a row as a line of the file."""
    return json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", errors="replace") + b"\n"
