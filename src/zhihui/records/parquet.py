"""Rows in Parquet: simple columns as they are, anything else as JSON text marked as such."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zhihui.errors import InputError, require
from zhihui.records.rejects import BadRow, RejectLog
from zhihui.records.rows import Row
from zhihui.runs import atomic_open

_MARK = {b"zhihui": b"json"}
_BATCH = 1024


def read_parquet(path: Path, *, rejects: RejectLog | None) -> Iterator[Row | None]:
    """Yield the rows of a Parquet file, None for each one set aside.

    Null cells are left out, so a row has only the keys it was given.

    Raises:
        InputError: the file is damaged or is not Parquet, or a number is NaN or infinite.
        MissingExtra: pyarrow is not installed.
    """
    parquet = _pyarrow("pyarrow.parquet")
    arrow = _pyarrow("pyarrow")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            as_json = {f.name for f in file.schema_arrow if (f.metadata or {}).items() >= _MARK.items()}
            for batch in file.iter_batches(batch_size=_BATCH):
                for cells in batch.to_pylist():
                    number += 1
                    data = {
                        name: json.loads(value) if name in as_json else value
                        for name, value in cells.items()
                        if value is not None
                    }
                    where = f"{path}:{number}"
                    if _is_json(data):
                        yield Row(where, data)
                        continue
                    reason = "holds NaN or infinity, which are no JSON numbers; write null instead"
                    fault = BadRow(where, "not_json", reason)
                    if rejects is None:
                        raise fault
                    rejects.take(fault, repr(data))
                    yield None
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        damage = BadRow(
            f"{path}:{number + 1}",
            "broken_parquet",
            f"not readable as Parquet ({reason}); fetch or write the file again",
        )
        if rejects is None:
            raise damage from None
        rejects.take(damage, "")
        yield None


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as Parquet, atomically, and return their number; None is written as an absent cell.

    Raises:
        InputError: a value that neither Arrow nor JSON can hold.
        MissingExtra: pyarrow is not installed.
    """
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    held = list(rows)
    names = list(dict.fromkeys(name for row in held for name in row))
    columns = [_column(arrow, path, name, [row.get(name) for row in held]) for name in names]
    fields = [arrow.field(name, array.type, metadata=mark) for name, (array, mark) in zip(names, columns, strict=True)]
    table = arrow.Table.from_arrays([array for array, _ in columns], schema=arrow.schema(fields))
    with atomic_open(path, "wb") as stream:
        parquet.write_table(table, stream, compression="zstd")
    return len(held)


def _column(arrow: Any, path: Path, name: str, values: list[Any]) -> tuple[Any, dict[bytes, bytes] | None]:
    if all(_is_simple(value) for value in values):
        try:
            return arrow.array(values), None
        except (arrow.ArrowException, OverflowError, UnicodeEncodeError):
            pass  # a column of several types, an integer beyond 64 bits, or what the next step refuses
    try:
        texts = [None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values]
        return arrow.array(texts, type=arrow.string()), _MARK
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: column {name!r} cannot be written: {error}") from None


def _is_simple(value: Any) -> bool:
    """Whether Arrow gives the value back as it was: text, finite numbers, and lists of them without gaps."""
    if isinstance(value, list):
        return all(item is not None and not isinstance(item, list) and _is_simple(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, int))


def _is_json(data: dict[str, Any]) -> bool:
    try:
        json.dumps(data, allow_nan=False, default=str)  # dates and the like trouble only who writes them
    except ValueError:
        return False
    return True


def _pyarrow(module: str) -> Any:
    return require(module, extra="data", purpose="reading and writing Parquet")
