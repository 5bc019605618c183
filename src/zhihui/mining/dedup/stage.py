"""Dedup as a stage: from examples to those that neither repeat one another nor an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zhihui.mining.dedup.config import DedupConfig
from zhihui.mining.dedup.protected import read_protected
from zhihui.mining.dedup.report import Tally
from zhihui.mining.dedup.verdicts import Verdict, judge
from zhihui.records import REJECTED, Example, RejectLog, Row, is_beir, read_beir, write_examples
from zhihui.records.files import read_by
from zhihui.runs import Manifest, run_stage

TRAIN = "train.jsonl"
REPORT = "report.md"


def dedup_files(
    data: Path,
    out: Path,
    config: DedupConfig,
    *,
    against: Sequence[Path] = (),
    split: str = "train",
    quarantine: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Remove repeated and contaminated examples; `out` gets train.jsonl, report.md and, if any went, rejected.jsonl.

    Args:
        data: file or folder of examples, or a BEIR folder.
        out: the stage's folder.
        config: threshold and what is compared.
        against: evaluation sets, BEIR folders.
        split: of a BEIR folder as data: whose queries become examples.
        quarantine: set unusable rows aside in place of stopping at the first.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data or evaluation sets.
        MissingExtra: rensa or OpenCC is not installed.
    """

    def work(folder: Path) -> dict[str, Any]:
        protected = read_protected(against, config)
        tally = Tally()
        with RejectLog(folder / REJECTED) as rejects:
            examples, places = _read(data, split, rejects if quarantine else None)

            def kept() -> Iterator[Example]:
                verdicts = judge(examples, places, protected, config)
                for example, place, verdict in zip(examples, places, verdicts, strict=True):
                    if verdict is None:
                        yield example
                    else:
                        tally.add(verdict)
                        rejects.add(_rejected(example, verdict), verdict.reason, place, detail=_detail(verdict))

            number = write_examples(folder / TRAIN, kept())
        counts: dict[str, Any] = {
            "examples": len(examples),
            "kept": number,
            "protected": dict(Counter(each.set for each in protected)),
            "removed_against": {name: tally.sets[name] for name in dict.fromkeys(each.set for each in protected)},
            "rejected": dict(sorted(rejects.counts.items())),
        }
        tally.write(folder / REPORT, counts, config.threshold)
        return counts

    inputs: dict[str, Path | str] = {"data": data, **{f"against.{n}": folder for n, folder in enumerate(against)}}
    settings = {"split": split if is_beir(data) else None, "quarantine": quarantine, "dedup": config}
    return run_stage("dedup", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def _read(data: Path, split: str, rejects: RejectLog | None) -> tuple[list[Example], list[str]]:
    """Return the examples and the place each came from."""
    if is_beir(data):
        found = read_beir(data, rejects=rejects).examples(split)
        return found, [f"{data}: query {example.id}" for example in found]
    places: list[str] = []

    def parse(row: Row) -> Example:
        example = Example.from_row(row.data, where=row.where)
        places.append(row.where)
        return example

    return list(read_by(data, parse, rejects=rejects)), places


def _rejected(example: Example, verdict: Verdict) -> dict[str, Any]:
    match = {"id": verdict.id, "text": verdict.matched, "similarity": round(verdict.similarity, 6)}
    return {"example": example.to_row(), "match": match}


def _detail(verdict: Verdict) -> str:
    return f"similarity {verdict.similarity:.3f} to {verdict.id}"
