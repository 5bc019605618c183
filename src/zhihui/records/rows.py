"""Rows in and out: JSON lines, plain or gzipped, and Parquet."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, cast

from zhihui.errors import InputError
from zhihui.records.rejects import BadRow, RejectLog
from zhihui.runs import atomic_open

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One row and the place it came from."""

    where: str
    """"file:line", lines counted from 1 (in Parquet: rows)."""
    data: dict[str, Any]


def read_rows(path: Path, *, max_line_bytes: int = 4 * 2**20, rejects: RejectLog | None = None) -> Iterator[Row]:
    """Yield the rows of a .jsonl, .jsonl.gz or .parquet file; blank lines are skipped.

    Args:
        path: the file.
        max_line_bytes: a longer line is refused without being held in memory.
        rejects: where malformed rows go; None stops at the first one.

    Raises:
        InputError: no such file, unknown suffix, or a malformed row: broken UTF-8, not JSON, not an object,
            NaN, half a surrogate pair, too long, damaged gzip or Parquet data, a file without any row.
    """
    suffix = suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    rows: Iterator[Row | None]
    if suffix == ".parquet":
        from zhihui.records.parquet import read_parquet

        rows = read_parquet(path, rejects=rejects)
    else:
        gzipped = suffix == ".jsonl.gz"
        rows = _read_lines(path, _parse, compressed=gzipped, limit=max_line_bytes, rejects=rejects)
    yield from _usable(path, rows, rejects)


def read_text_lines(path: Path, *, max_line_bytes: int = 4 * 2**20, rejects: RejectLog | None = None) -> Iterator[Row]:
    """Yield the lines of a plain text file as rows with a "text", stripped; blank lines are skipped.

    Args:
        path: the file, in UTF-8, whatever its suffix.
        max_line_bytes: a longer line is refused without being held in memory.
        rejects: where unusable lines go; None stops at the first one.

    Raises:
        InputError: no such file, broken UTF-8, a line that is too long, a file without any text.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    rows = _read_lines(path, _as_text, compressed=False, limit=max_line_bytes, rejects=rejects)
    yield from _usable(path, rows, rejects)


def _usable(path: Path, rows: Iterator[Row | None], rejects: RejectLog | None) -> Iterator[Row]:
    number = 0
    for number, row in enumerate(rows, start=1):  # noqa: B007
        if row is not None:
            yield row
    if number == 0:
        error = BadRow(f"{path}:1", "empty_file", "the file has no rows; remove it or fill it")
        if rejects is None:
            raise error
        rejects.take(error, "")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows in the format the suffix names, atomically, and return their number.

    The same rows give the same bytes, gzipped or not. Parquet holds all rows in memory while writing.

    Raises:
        InputError: unknown suffix, or a value JSON cannot hold (NaN, a date, half a surrogate pair).
    """
    suffix = suffix_of(path)
    if suffix == ".parquet":
        from zhihui.records.parquet import write_parquet

        return write_parquet(path, rows)
    count = 0
    with atomic_open(path, "wb") as stream:
        if suffix == ".jsonl":
            for count, row in enumerate(rows, start=1):
                stream.write(_line(row, path, count))
        else:
            # No name and no time in the header: equal rows give equal bytes.
            with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed:
                for count, row in enumerate(rows, start=1):
                    packed.write(_line(row, path, count))
    return count


def suffix_of(path: Path) -> str:
    """Return which of the known suffixes a path has.

    Raises:
        InputError: none of them.
    """
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if path.name.endswith(suffix):
            return suffix
    raise InputError(f"{path}: unknown kind of file; name it {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def _line(row: Mapping[str, Any], path: Path, number: int) -> bytes:
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: row {number} cannot be written as JSON: {error}") from None


def _read_lines(
    path: Path,
    parse: Callable[[bytes, str], dict[str, Any] | None],
    *,
    compressed: bool,
    limit: int,
    rejects: RejectLog | None,
) -> Iterator[Row | None]:
    """Yield a row for each line that holds one, None for each line that was set aside."""
    with gzip.open(path, "rb") if compressed else path.open("rb") as opened:
        stream = cast("IO[bytes]", opened)
        number = 0
        while True:
            number += 1
            where = f"{path}:{number}"
            line: bytes = b""
            try:
                line = stream.readline(limit + 2)  # the two may be the line's end
                if not line:
                    return
                if number == 1:
                    line = line.removeprefix(_BOM)
                if len(line.rstrip(b"\r\n")) > limit:
                    _skip_rest(stream, line, limit)
                    reason = f"the line is longer than {limit} bytes; split the text into passages"
                    raise BadRow(where, "line_too_long", reason)
                data = parse(line, where)
            except BadRow as error:
                if rejects is None:
                    raise
                rejects.take(error, line[:4096].decode("utf-8", errors="replace").rstrip("\r\n"))
                yield None
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                damage = BadRow(where, "broken_gzip", f"damaged gzip data ({error}); fetch or pack the file again")
                if rejects is None:
                    raise damage from None
                rejects.take(damage, "")
                yield None
                return
            else:
                if data is not None:
                    yield Row(where, data)


def _skip_rest(stream: IO[bytes], line: bytes, limit: int) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(limit)


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        mend = "convert the file, e.g. iconv -f GB18030 -t UTF-8"
        reason = f"not UTF-8 at byte {error.start + 1} of the line; {mend}"
        raise BadRow(where, "not_utf8", reason) from None


def _as_text(line: bytes, where: str) -> dict[str, Any] | None:
    text = _decode(line, where)
    return {"text": text} if text else None


def _parse(line: bytes, where: str) -> dict[str, Any] | None:
    text = _decode(line, where)
    if not text:
        return None
    try:
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        reason = "holds half a surrogate pair, which is no character; remove it"
        raise BadRow(where, "half_surrogate", reason) from None
    except (ValueError, RecursionError) as error:
        raise BadRow(where, "not_json", f"not JSON ({error}); write one JSON object a line") from None
    if not isinstance(data, dict):
        reason = f"holds {type(data).__name__}, not an object; write one JSON object a line"
        raise BadRow(where, "not_object", reason)
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond what a number can hold")
    return number
