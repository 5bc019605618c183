"""Mining as a stage: from a data set to a folder with examples that have negatives."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhihui.encoder.cache import BLOCK
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.mining.candidates import Search, check_models
from zhihui.mining.config import MiningConfig
from zhihui.mining.negatives import mine
from zhihui.ranking.reranker import Reranker
from zhihui.records import (
    REJECTED,
    BadRow,
    Example,
    Passage,
    RejectLog,
    RetrievalSet,
    Row,
    is_beir,
    read_beir,
    read_examples,
    read_rows,
    write_examples,
)
from zhihui.runs import Manifest, run_stage

TRAIN = "train.jsonl"
_WORK = "work"
"""Vectors and rankings of a run under way."""


def mine_files(
    data: Path,
    out: Path,
    config: MiningConfig,
    *,
    split: str = "train",
    corpus: Path | None = None,
    grades: Path | None = None,
    encoder: TextEncoder | None = None,
    reranker: Reranker | None = None,
    cache: Path | None = None,
    device: str | None = None,
    search: Search | None = None,
    block: int = BLOCK,
    quarantine: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Mine negatives for a data set; `out` gets train.jsonl and, if anything was set aside, rejected.jsonl.

    A run that was killed finds the vectors and rankings it had made and goes on from them.

    Args:
        data: BEIR folder, or a file or folder of examples.
        out: the stage's folder.
        config: miners, filters, seed.
        split: of a BEIR folder: whose queries become examples.
        corpus: BEIR folder or file of rows with a text; by default the BEIR folder's own, else all passages
            of the examples.
        grades: file or folder of examples whose positives and graded negatives count for equal queries, such as those
            of a label distillation.
        encoder: needed by dense miners, and only by them.
        reranker: needed by cross miners and filters, and only by them.
        cache: folder of vectors that several runs share; none keeps them for this run only. It changes no result.
        device: where vectors are compared; None takes a GPU if there is one.
        search: compares vectors in a way of its own, in place of `device`; it changes no rank.
        block: texts that the encoder is given at once; with a search of several machines all of them want some.
        quarantine: set unusable rows aside in place of stopping at the first.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data, a miner or filter without its model, a model that nothing uses, or `grades` without
            `max_grade`.
    """
    check_models(config, encoder=encoder is not None, reranker=reranker is not None)
    check_grades(config, grades)

    def work(folder: Path) -> dict[str, Any]:
        with RejectLog(folder / REJECTED) as rejects:
            task = _read(data, split, corpus, rejects if quarantine else None)
            if grades is not None:
                task.judged.extend(read_examples(grades, rejects=rejects if quarantine else None))
            mined = mine(
                task.examples,
                task.passages,
                config,
                encoder=encoder,
                reranker=reranker,
                judged=task.judged,
                rejects=rejects,
                folder=folder / _WORK,
                cache=cache,
                device=device,
                search=search,
                block=block,
            )
            write_examples(folder / TRAIN, mined.examples)
        shutil.rmtree(folder / _WORK, ignore_errors=True)
        return {**mined.counts, "rejected": dict(sorted(rejects.counts.items()))}

    inputs: dict[str, Path | str] = {"data": data}
    if corpus is not None:
        inputs["corpus"] = corpus
    if grades is not None:
        inputs["grades"] = grades
    if encoder is not None:
        inputs["encoder"] = encoder.fingerprint
    if reranker is not None:
        inputs["reranker"] = reranker.fingerprint
    settings = {"split": split if is_beir(data) else None, "quarantine": quarantine, "mining": config}
    return run_stage("mine", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def check_grades(config: MiningConfig, grades: Path | None) -> None:
    """Check that a file of grades is there and has a threshold to be held against.

    Raises:
        InputError: no such file, or no `max_grade`.
    """
    if grades is not None and config.max_grade is None:
        raise InputError("grades filter nothing without a threshold; give one (--max-grade), on the teacher's scale")
    if grades is not None and not grades.exists():
        raise InputError(f"{grades}: no such file or folder")


# --------------------------------------------------------------------------- what is mined for, and from


@dataclass(frozen=True)
class _Task:
    examples: list[Example]
    passages: dict[str, Passage]
    judged: list[Example]


def _read(data: Path, split: str, corpus: Path | None, rejects: RejectLog | None) -> _Task:
    judged: list[Example] = []
    passages: dict[str, Passage] = {}
    if is_beir(data):
        whole = read_beir(data, rejects=rejects)
        examples = whole.examples(split)
        judged += _all_splits(whole)
        passages = whole.corpus
    else:
        examples = list(read_examples(data, rejects=rejects))
        if corpus is None:
            texts = (text for example in examples for text in (*example.pos, *example.neg))
            passages = {text: Passage(text) for text in texts}
    if corpus is not None and is_beir(corpus):
        other = read_beir(corpus, rejects=rejects)
        judged += _all_splits(other)
        passages = other.corpus
    elif corpus is not None:
        passages = _passages(corpus, rejects)
    return _Task(examples, passages, judged)


def _all_splits(data: RetrievalSet) -> list[Example]:
    return [example for split in data.qrels for example in data.examples(split)]


def _passages(path: Path, rejects: RejectLog | None) -> dict[str, Passage]:
    """Read rows with a text and perhaps a title and an _id or id, else the place of the row is the id."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder but not a BEIR one; give a file of rows with a text")
    found: dict[str, Passage] = {}
    for row in read_rows(path, rejects=rejects):
        try:
            key, passage = _passage(row)
            if key in found:
                raise BadRow(row.where, "duplicate_id", f"id {key!r} is given twice; keep one of the rows")
            found[key] = passage
        except BadRow as error:
            if rejects is None:
                raise
            rejects.take(error, row.data)
    return found


def _passage(row: Row) -> tuple[str, Passage]:
    text, title = row.data.get("text"), row.data.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        raise BadRow(row.where, "wrong_type", '"text" and "title" must be strings; a passage needs a "text"')
    passage = Passage(text=text, title=title)
    if not passage.full:
        raise BadRow(row.where, "blank_text", "title and text are blank; fill the passage or remove it")
    key = row.data.get("_id", row.data.get("id"))
    return row.where if key is None else str(key), passage
