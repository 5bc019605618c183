"""Columns: what passages can be filtered by, each of one kind of value, in Arrow's file format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zhihui.errors import require
from zhihui.search.description import FieldKind

COLUMNS = "columns.arrow"
_INTEGERS = range(-(2**63), 2**63)


class ColumnWriter:
    """Gathers the plain values of passages' metadata; lists and groups can be seen in hits but not filtered by."""

    def __init__(self) -> None:
        self._count = 0
        self._columns: dict[str, dict[int, str | int | float | bool]] = {}

    def add(self, title: str, metadata: Mapping[str, Any]) -> None:
        """Take the next passage's."""
        for name, value in {**metadata, "title": title}.items():
            if isinstance(value, str | int | float):
                self._columns.setdefault(name, {})[self._count] = value
        self._count += 1

    def write(self, folder: Path) -> dict[str, FieldKind]:
        """Write the columns and return their kinds.

        Raises:
            MissingExtra: pyarrow is not installed.
        """
        arrow = _pyarrow()
        kinds: dict[str, FieldKind] = {}
        arrays = []
        for name, values in sorted(self._columns.items()):
            kinds[name] = kind = _kind(values)
            cells = [values.get(number) for number in range(self._count)]
            if kind == "text":
                arrays.append(arrow.array([None if each is None else _as_text(each) for each in cells], arrow.string()))
            elif kind == "flag":
                arrays.append(arrow.array(cells, arrow.bool_()))
            else:
                whole = all(isinstance(each, int) and each in _INTEGERS for each in values.values())
                arrays.append(arrow.array(cells if whole else [None if c is None else float(c) for c in cells]))
        table = arrow.table(arrays, names=list(kinds))
        with arrow.OSFile(str(folder / COLUMNS), "wb") as sink, arrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=65536)
        return kinds


def read_columns(folder: Path) -> Any:
    """Return the columns of a generation as a pyarrow Table, mapped.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    arrow = _pyarrow()
    return arrow.ipc.open_file(arrow.memory_map(str(folder / COLUMNS))).read_all()


def _kind(values: Mapping[int, Any]) -> FieldKind:
    if all(isinstance(value, bool) for value in values.values()):
        return "flag"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()):
        return "number"
    return "text"


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pyarrow() -> Any:
    require("pyarrow.ipc", extra="search", purpose="filtering by metadata")
    return require("pyarrow", extra="search", purpose="filtering by metadata")
