"""From one format to another, nothing dropped unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.progress import Bar, bar
from zhihui.records.beir import is_beir
from zhihui.records.example import Example
from zhihui.records.formats import Format, beir, guess_source, guess_target, named
from zhihui.records.rejects import REJECTED, BadRow, RejectLog
from zhihui.records.rows import SUFFIXES, suffix_of


def convert(
    source: Path,
    target: Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    split: str | None = None,
    negatives: int | None = None,
    quarantine: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Convert examples; the target appears whole or not at all.

    Args:
        source: file or folder.
        target: file, or folder for BEIR.
        source_format: name of a format; None tells it by the source.
        target_format: name of a format; None is native for a file, BEIR for a folder.
        split: BEIR only: the only split read, and the split written.
        negatives: keep the first N of each example; None keeps all.
        quarantine: set unusable rows aside in "<target>.rejected.jsonl" instead of stopping.
        overwrite: replace an existing target.

    Returns:
        JSON-like: `from`, `to`, `read` (examples), `written` (rows), `rejected` (rows by reason),
        `rejected_file`, `lost` (examples by field the target has no place for).

    Raises:
        InputError: an unusable row, an unknown format, an existing target, or nothing to write.
    """
    reading = named(source_format) if source_format else guess_source(source)
    writing = named(target_format) if target_format else guess_target(target)
    _check(source, target, reading, writing, split=split, overwrite=overwrite)
    rejected_file = target.with_name(f"{target.name}.{REJECTED}")
    read = partial(beir.read, split=split) if reading is beir.FORMAT else reading.read
    write = partial(beir.write, split=split) if writing is beir.FORMAT else writing.write
    used = 0
    lost: Counter[str] = Counter()

    def counted(examples: Iterable[Example], shown: Bar) -> Iterator[Example]:
        nonlocal used
        for example in examples:
            used += 1
            lost.update(writing.lost(example))
            shown.advance()
            yield example

    log = RejectLog(rejected_file) if quarantine else nullcontext()
    with bar(None, "Converting") as shown, log as rejects:
        examples = read(source, rejects=rejects)
        if negatives is not None:
            examples = _with_negatives(examples, negatives, rejects)
        examples = counted(examples, shown)
        first = next(examples, None)
        rejected = rejects.counts if rejects is not None else {}
        if first is None:
            why = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
            raise InputError(f"{source}: no usable example{f' ({why})' if why else ''}; nothing was written")
        written = write(target, chain([first], examples))
    return {
        "from": reading.name,
        "to": writing.name,
        "read": used,
        "written": written,
        "rejected": dict(rejected),
        "rejected_file": str(rejected_file) if rejected else None,
        "lost": dict(lost),
    }


def _check(source: Path, target: Path, reading: Format, writing: Format, *, split: str | None, overwrite: bool) -> None:
    if split is not None and beir.FORMAT not in (reading, writing):
        raise InputError(f"--split {split}: neither {reading.name} nor {writing.name} has splits; leave it out")
    if reading is writing is beir.FORMAT:
        raise InputError(f"{target}: source and target are both BEIR; copy the folder, or pass --to")
    if target.name in ("", ".."):
        raise InputError(f"{target}: give the name of a new file or folder")
    if writing is beir.FORMAT and target.name.endswith(SUFFIXES):
        raise InputError(f"{target}: BEIR is a folder; give a name without suffix")
    if writing is not beir.FORMAT:
        suffix_of(target)
    if not target.exists():
        return
    old, new = source.resolve(), target.resolve()
    if new == old or new in old.parents or (target.is_file() and new.parent == old):
        raise InputError(f"{target}: is the source or part of it; choose another target")
    if not overwrite:
        raise InputError(f"{target}: exists; choose another target, or pass --overwrite to replace it")
    if target.is_dir() != (writing is beir.FORMAT):
        what = "a folder" if target.is_dir() else "a file"
        raise InputError(f"{target}: is {what}, which {writing.name} is not; choose another target")
    if target.is_dir() and not is_beir(target) and any(target.iterdir()):
        raise InputError(f"{target}: is not a BEIR set, so it is not replaced; choose another target")


def _with_negatives(examples: Iterable[Example], count: int, rejects: RejectLog | None) -> Iterator[Example]:
    for number, example in enumerate(examples, start=1):
        if len(example.neg) >= count:
            scores = None if example.neg_scores is None else example.neg_scores[:count]
            yield replace(example, neg=example.neg[:count], neg_scores=scores)
            continue
        name = f"example {number}" + (f" (id {example.id})" if example.id else "")
        fault = BadRow(name, "too_few_negatives", f"has {len(example.neg)} negatives, {count} are wanted; mine more")
        if rejects is None:
            raise fault
        rejects.take(fault, example.to_row())
