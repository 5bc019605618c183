"""The set of a quickstart: with splits to train, watch and measure on, whatever it came with."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from zhihui.errors import InputError
from zhihui.records import RetrievalSet, is_beir, read_beir
from zhihui.records.sampling import evenly

SHARES = {"train": 0.5, "dev": 0.1, "test": 0.4}
"""Of the queries of a set with one split."""
_FEWEST = 20
"""Queries below which splits say nothing."""
_DEV_SHARE = 0.1
"""Of the training queries of a set without a dev split."""


def read_set(folder: Path | None, *, seed: int) -> RetrievalSet:
    """Read a BEIR folder, or the starter set, and give it the splits train, dev and test.

    Queries are divided by a seeded hash of their ids: a set with one split by `SHARES`; from a set with train and test
    but without dev, a tenth of train becomes dev.

    Raises:
        InputError: not a BEIR folder, splits of other names, or too few queries.
    """
    if folder is None:
        with as_file(files("zhihui") / "starter" / "data") as shipped:
            return replace(with_splits(read_beir(shipped), seed=seed), name="starter")
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    if not is_beir(folder):
        raise InputError(f"{folder}: not a BEIR folder; it needs corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv")
    return with_splits(read_beir(folder), seed=seed)


def with_splits(data: RetrievalSet, *, seed: int) -> RetrievalSet:
    """Return the set with the splits train, dev and test; see `read_set`."""
    if (count := sum(map(len, data.qrels.values()))) < _FEWEST:
        raise InputError(f"{data.name}: {count} judged queries are too few to train and measure on; give {_FEWEST}")
    if len(data.qrels) == 1:
        return data.split_queries(SHARES, seed)
    if set(data.qrels) >= {"train", "dev", "test"}:
        return data
    if set(data.qrels) >= {"train", "test"}:
        shares = {"train": 1 - _DEV_SHARE, "dev": _DEV_SHARE}
        divided = replace(data, qrels={"train": data.qrels["train"]}).split_queries(shares, seed)
        return replace(data, qrels=data.qrels | divided.qrels)
    found = ", ".join(sorted(data.qrels)) or "none"
    raise InputError(f"{data.name}: its splits are {found}; one split, or train and test, are needed")


def watched(data: RetrievalSet, split: str, *, queries: int, passages: int) -> RetrievalSet:
    """Return a small set for the curve over training: the first queries, their passages and the first others.

    Args:
        data: the set.
        split: whose queries are taken; the others' judgements are left out.
        queries: most queries.
        passages: most passages, unless the queries' own are more.
    """
    judged = dict(list(data.judged(split).items())[:queries])
    wanted = {key for grades in judged.values() for key in grades}
    kept = wanted | set(evenly([key for key in data.corpus if key not in wanted], passages - len(wanted)))
    corpus = {key: passage for key, passage in data.corpus.items() if key in kept}
    return replace(data, corpus=corpus, qrels={split: judged})
