"""Examples of several places in one file, all of them or a draw."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.records.beir import is_beir, read_beir
from zhihui.records.example import Example
from zhihui.records.files import read_examples, write_examples
from zhihui.records.rejects import REJECTED, RejectLog
from zhihui.runs import Manifest, run_stage

TRAIN = "train.jsonl"


@dataclass(frozen=True, kw_only=True)
class GatherConfig:
    """How many examples are taken.

    Raises:
        InputError: a number out of bounds.
    """

    rows: int | None = None
    """Examples drawn from all that there are, in their order, to try on a few what costs something; None takes all."""
    source: str | None = None
    """Name that all examples get in place of their data sets': training then mixes them in a batch. None keeps them."""
    seed: int = 0
    """Of the draw."""

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise InputError(f"rows is {self.rows}; take at least 1, or leave it out for all")


def gather_files(
    data: Sequence[Path],
    out: Path,
    config: GatherConfig,
    *,
    split: str = "train",
    quarantine: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Put examples one after the other; `out` gets train.jsonl.

    Args:
        data: files or folders of examples, or BEIR folders.
        out: the stage's folder.
        config: how many are taken.
        split: of BEIR folders: whose queries become examples.
        quarantine: set unusable rows aside in place of stopping at the first.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data, or fewer examples than are to be drawn.
    """

    def work(folder: Path) -> dict[str, Any]:
        with RejectLog(folder / REJECTED) as rejects:
            bad = rejects if quarantine else None
            found = [_read(path, split, bad) for path in data]
            examples = _drawn([example for each in found for example in each], config)
            if config.source is not None:
                examples = [replace(example, source=config.source) for example in examples]
            write_examples(folder / TRAIN, examples)
        return {"read": [len(each) for each in found], "taken": len(examples), "rejected": dict(rejects.counts)}

    inputs: dict[str, Path | str] = {f"data.{number}": path for number, path in enumerate(data)}
    settings = {"split": split if any(map(is_beir, data)) else None, "quarantine": quarantine, "gather": config}
    return run_stage("gather", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def _read(path: Path, split: str, rejects: RejectLog | None) -> list[Example]:
    return (
        read_beir(path, rejects=rejects).examples(split) if is_beir(path) else [*read_examples(path, rejects=rejects)]
    )


def _drawn(examples: list[Example], config: GatherConfig) -> list[Example]:
    if config.rows is None:
        return examples
    if config.rows > len(examples):
        raise InputError(f"rows is {config.rows}, and there are {len(examples)} examples; take fewer, or leave it out")
    places = random.Random(config.seed).sample(range(len(examples)), config.rows)
    return [examples[place] for place in sorted(places)]
