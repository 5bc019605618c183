"""The formats examples are exchanged in, by name."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from zhihui.errors import InputError
from zhihui.records.beir import is_beir
from zhihui.records.files import example_files
from zhihui.records.formats import beir, ms_swift, native, sentence_transformers, tevatron
from zhihui.records.formats.base import Format
from zhihui.records.rejects import RejectLog
from zhihui.records.rows import SUFFIXES, Row, read_rows

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (native.FORMAT, sentence_transformers.FORMAT, tevatron.FORMAT, ms_swift.FORMAT, beir.FORMAT)
}

__all__ = ["FORMATS", "Format", "guess_source", "guess_target", "named"]


def named(name: str) -> Format:
    """Return the format of a name.

    Raises:
        InputError: no such format; the message lists those there are.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; there are: {', '.join(FORMATS)}")
    return FORMATS[name]


def guess_source(path: Path) -> Format:
    """Return the format of what is at a path, told by the first row whose keys fit one.

    Raises:
        InputError: no such path, no row that fits, or one that fits several formats.
    """
    if is_beir(path):
        return beir.FORMAT
    files = example_files(path)
    strange: Row | None = None
    for row in chain.from_iterable(read_rows(file, rejects=RejectLog(None)) for file in files):
        found = [each.name for each in FORMATS.values() if each.keys and each.keys <= row.data.keys()]
        if len(found) == 1:
            return FORMATS[found[0]]
        if found:
            raise InputError(f"{row.where}: the keys fit {' and '.join(found)}; pass --from")
        strange = strange or row
    if strange is None:
        strange = next(read_rows(files[0]))  # raises what is wrong with the first line
    keys = ", ".join(sorted(strange.data)) or "none"
    raise InputError(f"{strange.where}: the keys ({keys}) fit no known format; mend the rows or pass --from")


def guess_target(path: Path) -> Format:
    """Return native for a file and BEIR for a folder; the other formats have to be named."""
    return native.FORMAT if path.name.endswith(SUFFIXES) else beir.FORMAT
