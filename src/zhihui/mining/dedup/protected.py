"""Texts that training must not see: the queries of evaluation sets and the passages that answer them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from zhihui.errors import InputError
from zhihui.mining.dedup.config import DedupConfig
from zhihui.records import RetrievalSet, is_beir, read_beir

TRAIN_SPLIT = "train"


class Protected(NamedTuple):
    """A text of an evaluation set."""

    set: str
    role: Literal["query", "passage"]
    id: str
    text: str


def read_protected(folders: Sequence[Path], config: DedupConfig) -> list[Protected]:
    """Return the texts of evaluation sets in the BEIR layout that training must not see, each set's in its own order.

    Raises:
        InputError: not such a folder, one without a split to protect, or a named split that no set has.
    """
    found: list[Protected] = []
    missing = set(config.splits)
    for folder in folders:
        if not is_beir(folder):
            raise InputError(f"{folder}: not a BEIR folder; it needs corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv")
        data = read_beir(folder)
        splits = [split for split in sorted(data.qrels) if split in config.splits or not config.splits]
        splits = [split for split in splits if config.splits or split != TRAIN_SPLIT]
        if not splits:
            wanted = ", ".join(config.splits) or "any but train"
            raise InputError(f"{folder}: no split to protect ({wanted}); there are: {', '.join(sorted(data.qrels))}")
        missing -= set(splits)
        found += _texts(data, splits, config)
    if folders and missing:
        raise InputError(f"no evaluation set has a split {min(missing)!r}; mend the name")
    return found


def _texts(data: RetrievalSet, splits: Sequence[str], config: DedupConfig) -> Iterator[Protected]:
    queries = dict.fromkeys(query for split in splits for query in data.judged(split))
    for query in queries:
        yield Protected(data.name, "query", query, data.queries[query])
    passages = dict.fromkeys(
        passage
        for split in splits
        for grades in data.judged(split).values()
        for passage, grade in grades.items()
        if grade >= 1 and config.passages == "relevant"
    )
    for passage in data.corpus if config.passages == "all" else passages:
        yield Protected(data.name, "passage", passage, data.corpus[passage].full)
