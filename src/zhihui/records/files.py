"""Examples in and out of files of the native format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from zhihui.errors import InputError
from zhihui.records.example import Example
from zhihui.records.rejects import REJECTED, BadRow, RejectLog
from zhihui.records.rows import SUFFIXES, Row, read_rows, write_rows


def read_examples(path: Path, *, rejects: RejectLog | None = None) -> Iterator[Example]:
    """Yield the examples of a file, or of all files of a folder in the order of their names.

    Args:
        path: a .jsonl, .jsonl.gz or .parquet file, or a folder of such files (not of its subfolders); what a
            stage rejected is left out.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        InputError: no such path, a folder without example files, or an unusable row
            ("file:line: reason; mend").
    """
    return read_by(path, lambda row: Example.from_row(row.data, where=row.where), rejects=rejects)


def read_by(path: Path, parse: Callable[[Row], Example], *, rejects: RejectLog | None) -> Iterator[Example]:
    """Yield what `parse` makes of each row of a file or folder of files.

    Args:
        path: as in `read_examples`.
        parse: raises BadRow for an unusable row; it need not say where.
        rejects: where unusable rows go; None stops at the first one.
    """
    for file in example_files(path):
        for row in read_rows(file, rejects=rejects):
            try:
                example = parse(row)
            except BadRow as error:
                located = error if error.where else BadRow(row.where, error.code, error.reason)
                if rejects is None:
                    raise located from None
                rejects.take(located, row.data)
            else:
                yield example


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples to a .jsonl, .jsonl.gz or .parquet file, atomically, and return their number."""
    return write_rows(path, (example.to_row() for example in examples))


def example_files(path: Path) -> list[Path]:
    """Return the files `read_examples` reads for a path.

    Raises:
        InputError: no such path, or a folder without example files.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    if (path / "qrels").is_dir():
        raise InputError(f"{path}: is a BEIR folder, not a folder of examples; convert it with `zhihui convert`")
    files = [
        file
        for file in sorted(path.iterdir())
        if file.is_file()
        and file.name.endswith(SUFFIXES)
        and not file.name.startswith(".")
        and not (file.name == REJECTED or file.name.endswith(f".{REJECTED}"))
    ]
    if not files:
        raise InputError(f"{path}: holds no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    return files
