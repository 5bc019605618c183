"""What a data set is like: sizes, lengths, duplicates, scripts, and faults worth mending before training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from zhihui.progress import track
from zhihui.records.beir import is_beir, read_beir
from zhihui.records.distribution import Distribution, Seen, TextStatistics, TokenCounter
from zhihui.records.example import Example
from zhihui.records.files import read_examples
from zhihui.records.formats.beir import judged_examples
from zhihui.records.rejects import RejectLog

_NEAR_EMPTY_QUERY = 2  # 胃痛 is a query, 痛 hardly is
_NEAR_EMPTY_PASSAGE = 5


def collect(path: Path, *, tokenizer: Path | None = None, rejects: RejectLog | None = None) -> dict[str, Any]:
    """Return the statistics of a file or folder of examples, or of a BEIR folder.

    A duplicate is an exact repetition of an earlier text (of an earlier query and positive, for pairs).
    Lengths are in characters and, with a tokenizer, in tokens.

    Args:
        path: example file, folder of example files, or BEIR folder, whose passages are those of the corpus.
        tokenizer: folder with a tokenizer.json.
        rejects: where unusable rows go; None stops at the first one.

    Returns:
        JSON-like: `kind`, `rows`, `queries`, `passages` (see `TextStatistics.summary`), `pairs`, `per_row`,
        `negative_is_positive` (rows with such a negative), `sources` (rows by source) or `splits` (judged
        queries), `rejected`.

    Raises:
        InputError: no such path, or an unusable row.
    """
    counter = None if tokenizer is None else TokenCounter(tokenizer)
    counts = _Counts(counter)
    if is_beir(path):
        kind = "beir"
        breakdown = {"splits": _count_beir(path, counts, rejects)}
    else:
        kind = "examples"
        sources: Counter[str] = Counter()
        for example in track(read_examples(path, rejects=rejects), total=None, label="Reading examples"):
            sources[example.source or ""] += 1
            counts.queries.add(example.query)
            for passage in (*example.pos, *example.neg):
                counts.passages.add(passage)
            counts.add_row(example)
        breakdown = {"sources": dict(sources.most_common())}
    rejected = dict(rejects.counts) if rejects is not None else {}
    return {"kind": kind, **counts.summary(), **breakdown, "rejected": rejected}


class _Counts:
    def __init__(self, counter: TokenCounter | None) -> None:
        self.queries = TextStatistics(near_empty_below=_NEAR_EMPTY_QUERY, tokens=counter)
        self.passages = TextStatistics(near_empty_below=_NEAR_EMPTY_PASSAGE, tokens=counter)
        self._pairs = Seen()
        self._positives = Distribution()
        self._negatives = Distribution()
        self._clashes = 0

    def add_row(self, example: Example) -> None:
        for positive in example.pos:
            self._pairs.add(example.query, positive)
        self._positives.add(len(example.pos))
        self._negatives.add(len(example.neg))
        self._clashes += not set(example.pos).isdisjoint(example.neg)

    def summary(self) -> dict[str, Any]:
        return {
            "rows": self._positives.counts.total(),
            "queries": self.queries.summary(),
            "passages": self.passages.summary(),
            "pairs": {"count": self._pairs.count, "duplicates": self._pairs.duplicates},
            "per_row": {"positives": self._positives.summary(), "negatives": self._negatives.summary()},
            "negative_is_positive": self._clashes,
        }


def _count_beir(path: Path, counts: _Counts, rejects: RejectLog | None) -> dict[str, int]:
    data = read_beir(path, rejects=rejects)
    for query in data.queries.values():
        counts.queries.add(query)
    for passage in track(data.corpus.values(), total=len(data.corpus), label="Reading passages"):
        counts.passages.add(passage.full)
    for split in sorted(data.qrels):
        for example in judged_examples(data, split):
            counts.add_row(example)
    return {split: len(data.qrels[split]) for split in sorted(data.qrels)}
