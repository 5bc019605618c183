"""BEIR folders as examples: relevant passages are positives, those judged irrelevant are negatives."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.records.beir import read_beir, write_beir
from zhihui.records.example import Example
from zhihui.records.formats.base import Format, text_id, unheld
from zhihui.records.rejects import RejectLog
from zhihui.records.retrieval import Passage, RetrievalSet
from zhihui.runs import replace_folder


def read(path: Path, *, rejects: RejectLog | None = None, split: str | None = None) -> Iterator[Example]:
    """Yield an example for each judged query; passages of grade 0 or less are its negatives.

    Passages that nobody judged are in no example.

    Args:
        path: the folder.
        rejects: where unusable rows go; None stops at the first one.
        split: the only split to read; None reads all. An example's split is in `meta["split"]`.

    Raises:
        InputError: the folder cannot be used, or has no such split.
    """
    data = read_beir(path, rejects=rejects)
    for name in sorted(data.qrels) if split is None else [split]:
        yield from judged_examples(data, name)


def judged_examples(data: RetrievalSet, split: str) -> Iterator[Example]:
    """Yield the examples of a split with its passages of grade 0 or less as negatives."""
    for example in data.examples(split):
        assert example.id is not None, "examples of a set carry the query's id"
        refused = [key for key, grade in data.qrels[split][example.id].items() if grade < 1]
        example.neg = [data.corpus[key].full for key in refused]
        example.meta |= {"split": split, **({"neg_ids": refused} if refused else {})}
        yield example


def write(path: Path, examples: Iterable[Example], *, split: str | None = None) -> int:
    """Write a folder, whole or not at all, and return the number of queries; one that is there is replaced.

    Negatives become judgements of grade 0. Whole scores of 1 or more become grades, all others grade 1. Ids
    that are missing are made from the texts.

    Args:
        path: the folder.
        examples: those of one query are joined.
        split: where the judgements go; None takes each example's `meta["split"]`, or else "test".

    Raises:
        InputError: one id stands for two texts.
    """
    data = RetrievalSet(name=path.name, corpus={}, queries={}, qrels={})
    for number, example in enumerate(examples, start=1):
        query_id = example.id or text_id(example.query)
        _claim(data.queries, query_id, example.query, f"{path}: example {number}: query")
        name = split or example.meta.get("split", "test")
        judged = data.qrels.setdefault(str(name), {}).setdefault(query_id, {})
        grades = _grades(example)
        for side, texts, given in (("pos_ids", example.pos, grades), ("neg_ids", example.neg, None)):
            for place, (key, text) in enumerate(zip(_ids(example, side, texts), texts, strict=True)):
                _claim(data.corpus, key, Passage(text=text), f"{path}: example {number}: passage")
                judged[key] = max(judged.get(key, 0), 0 if given is None else given[place])
    partial = path.with_name(f".{path.name}.partial")
    try:
        if partial.exists():  # of a killed attempt
            shutil.rmtree(partial)
        write_beir(partial, data)
        replace_folder(path, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(data.queries)


def lost(example: Example) -> list[str]:
    """Return the fields that have no place in a folder."""
    whole = example.pos_scores is None or _grades(example) == example.pos_scores
    fields = ("id", "pos_scores") if whole else ("id",)
    return unheld(example, fields=fields, meta=("pos_ids", "neg_ids", "split"))


FORMAT = Format(name="beir", keys=frozenset(), read=read, write=write, lost=lost)


def _claim(table: dict[str, Any], key: str, value: Any, what: str) -> None:
    if table.setdefault(key, value) != value:
        raise InputError(f"{what} id {key!r} already stands for another text; make the ids unique or leave them out")


def _grades(example: Example) -> list[int]:
    scores = example.pos_scores or [1.0] * len(example.pos)
    if all(score >= 1 and score.is_integer() for score in scores):
        return [int(score) for score in scores]
    return [1] * len(scores)


def _ids(example: Example, key: str, texts: list[str]) -> list[str]:
    ids = example.meta.get(key)
    if isinstance(ids, list) and len(ids) == len(texts) and all(isinstance(i, str) for i in ids):
        return ids
    return [text_id(text) for text in texts]
