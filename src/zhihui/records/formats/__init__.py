"""The formats examples are exchanged in, by name."""

from __future__ import annotations

from pathlib import Path

from zhihui.errors import InputError
from zhihui.records.beir import is_beir
from zhihui.records.files import example_files
from zhihui.records.formats import beir, ms_swift, native, sentence_transformers, tevatron
from zhihui.records.formats.base import Format
from zhihui.records.rejects import RejectLog
from zhihui.records.rows import SUFFIXES, read_rows

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
    """Return the format of what is at a path, told by the keys of its first usable row.

    Raises:
        InputError: no such path, or no format or more than one has these keys.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if is_beir(path):
        return beir.FORMAT
    first = next(read_rows(example_files(path)[0], rejects=RejectLog(None)), None)
    keys = set() if first is None else first.data.keys()
    found = [each for each in FORMATS.values() if each.keys and each.keys <= keys]
    if len(found) != 1:
        what = " and ".join(each.name for each in found) or "no known format"
        raise InputError(f"{path}: its keys ({', '.join(sorted(keys)) or 'none'}) fit {what}; pass --from")
    return found[0]


def guess_target(path: Path) -> Format:
    """Return native for a file and BEIR for a folder; the other formats have to be named."""
    return native.FORMAT if path.name.endswith(SUFFIXES) else beir.FORMAT
