"""Calibration: the three numbers by which a model of terms weighs its parts, chosen on judged queries.

How much a length, a repetition and the semantic part should say differs from one collection to another, as k1 and b of
BM25 do; the gradient of a contrastive loss does not find them, for it also counts how far scores are spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder import Encoder
from zhihui.encoder.prefixes import unit
from zhihui.errors import InputError
from zhihui.records import RetrievalSet
from zhihui.records.sampling import evenly

_DEPTH = 10
_LEAST_SHARE, _LEAST_LENGTH = 0.01, 0.01
Judged = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]
"""Of each relevant passage: the query's row, the passage's column, the grade."""


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """What is tried, beside what the model has, and on how much."""

    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
    """Of the cosine that is the semantic part's; at least 0.01, or a prefix of the vector would be nothing."""
    saturations: tuple[float, ...] = (0.5, 1.0, 2.0)
    """k1 of BM25: the higher, the more a repeated term says."""
    lengths: tuple[float, ...] = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
    """What passages are lengthened by, in their median norms: the higher, the less short ones are preferred."""
    queries: int = 1000
    """Most queries to choose by; the first of the split."""
    passages: int = 20_000
    """Most passages beside the queries' own, evenly from the corpus."""

    def __post_init__(self) -> None:
        for name, least in (("shares", _LEAST_SHARE), ("saturations", 0.0), ("lengths", _LEAST_LENGTH)):
            values = getattr(self, name)
            if not values or not all(least <= value < math.inf for value in values):
                raise InputError(f"{name} {list(values)}: give one or more numbers of at least {least}")
        if max(self.shares) > 1:
            raise InputError(f"shares {list(self.shares)}: a share of the cosine is at most 1")
        for name in ("queries", "passages"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: at least 1 is needed to choose by")


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """How a model of terms weighs its parts, and what that scores."""

    share: float
    """Of the cosine that is the semantic part's."""
    saturation: float
    """k1 of BM25."""
    length: float
    """What passages are lengthened by."""
    ndcg_at_10: float
    """On the queries chosen by, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The model's own weighing, and the best of those tried."""

    before: Weighing
    after: Weighing
    queries: int
    passages: int


def calibrate(encoder: Encoder, data: RetrievalSet, split: str, config: CalibrationConfig) -> Calibration:
    """Give a model of terms the weighing that surely has the highest nDCG@10 on a split; it is changed in place.

    Every combination is tried. What counts is the mean gain over the model's own weighing less one standard error, so
    that few queries change little; where none is above zero, the model's own stays.

    Args:
        encoder: a model of terms.
        data: the set.
        split: whose queries are chosen by; never the one to measure on.
        config: what is tried.

    Raises:
        InputError: a model that has layers or does not mark its passages, or no such split.
    """
    if encoder.has_layers:
        raise InputError(f"{encoder.name}: only models of terms are calibrated; train this one")
    queries, passages, judged = _sample(data, split, config)
    tried = _tried(encoder, config, queries, passages, judged)
    before, own_scores = next(tried)
    best, surest = before, 0.0
    for found, scores in tried:
        if (gain := _sure_gain(scores - own_scores)) > surest:
            best, surest = found, gain
    encoder.backbone.config.semantic_share = best.share
    encoder.backbone.config.saturation = best.saturation
    encoder.backbone.length.fill_(math.log(best.length))
    return Calibration(before=before, after=best, queries=len(queries), passages=len(passages))


def _tried(
    encoder: Encoder, config: CalibrationConfig, queries: Sequence[str], passages: Sequence[str], judged: Judged
) -> Iterator[tuple[Weighing, NDArray[np.float64]]]:
    """Yield what every combination scores, on average and query by query `[Q]`; the model's own comes first."""
    own, length = encoder.backbone.config, math.exp(float(encoder.backbone.length))
    for saturation in dict.fromkeys((own.saturation, *config.saturations)):
        parts = _Parts(encoder, saturation, queries, passages)
        lengths = dict.fromkeys((length, *(factor * parts.usual for factor in config.lengths)))
        yield from parts.weighings(dict.fromkeys((own.semantic_share, *config.shares)), lengths, judged)


def _sure_gain(gains: NDArray[np.float64]) -> float:
    """Return the mean of the queries' gains less its standard error; of one query nothing is sure."""
    if len(gains) < 2:
        return 0.0
    return float(gains.mean() - gains.std(ddof=1) / len(gains) ** 0.5)


def _sample(data: RetrievalSet, split: str, config: CalibrationConfig) -> tuple[list[str], list[str], Judged]:
    """Return queries, passages and which are relevant to which."""
    relevant = {
        query: {passage: grade for passage, grade in grades.items() if grade >= 1}
        for query, grades in data.judged(split).items()
    }
    chosen = [query for query, grades in relevant.items() if grades][: config.queries]
    if not chosen:
        raise InputError(f"{data.name}: no query of {split} has a relevant passage; there is nothing to choose by")
    wanted = {passage for query in chosen for passage in relevant[query]}
    others = [passage for passage in data.corpus if passage not in wanted]
    kept = wanted.union(evenly(others, config.passages))
    passages = [passage for passage in data.corpus if passage in kept]
    column = {passage: number for number, passage in enumerate(passages)}
    triples = [
        (row, column[passage], float(grade))
        for row, query in enumerate(chosen)
        for passage, grade in relevant[query].items()
    ]
    rows, columns, grades = zip(*triples, strict=True)
    return (
        [data.queries[query] for query in chosen],
        [data.corpus[passage].full for passage in passages],
        (np.array(rows), np.array(columns), np.array(grades)),
    )


class _Parts:
    """Products of the parts of vectors at one saturation: those of any share and length are sums of them."""

    def __init__(self, encoder: Encoder, saturation: float, queries: Sequence[str], passages: Sequence[str]) -> None:
        config, length = encoder.backbone.config, encoder.backbone.length
        self.saturation = saturation
        own, config.saturation = config.saturation, saturation
        try:
            query, passage = encoder.encode_queries(queries), encoder.encode_documents(passages)
        finally:
            config.saturation = own
        size = config.semantic_size
        self.semantic = unit(query[:, :size]) @ unit(passage[:, :size]).T
        sketch = unit(passage[:, size + 1 :])
        self.lexical = unit(query[:, size + 1 :]) @ sketch.T
        if not passage[:, size].all():
            raise InputError(f"{encoder.name}: its document prompt does not mark passages; leave it as it was built")
        # The number that lengthens stands beside the sketch, so their ratio tells the sketch's norm.
        self.norms = math.exp(float(length)) * np.linalg.norm(passage[:, size + 1 :], axis=1) / passage[:, size]
        self.usual = float(np.median(self.norms))

    def weighings(
        self, shares: Iterable[float], lengths: Iterable[float], judged: Judged
    ) -> Iterator[tuple[Weighing, NDArray[np.float64]]]:
        """Yield what every share and length score, on average and query by query `[Q]`."""
        for length in lengths:
            lexical = self.lexical * (self.norms / np.sqrt(self.norms**2 + length**2)).astype(np.float32)
            for share in shares:
                scores = np.float32(share) * self.semantic + np.float32(1 - share) * lexical
                found = _ndcg(scores, judged)
                mean = float(found.mean())
                yield Weighing(share=share, saturation=self.saturation, length=length, ndcg_at_10=mean), found


def _ndcg(scores: NDArray[np.float32], judged: Judged) -> NDArray[np.float64]:
    """Return the nDCG@10 of each query `[Q]` by scores `[Q, N]`; see `zhihui.evaluation.metrics.score_ranks`."""
    rows, columns, grades = judged
    ranks = 1 + np.fromiter(
        (np.count_nonzero(scores[row] > scores[row, column]) for row, column in zip(rows, columns, strict=True)),
        dtype=np.int64,
        count=len(rows),
    )
    gains = np.where(ranks <= _DEPTH, grades / np.log2(ranks + 1), 0.0)
    found = np.bincount(rows, weights=gains)
    order = np.lexsort((-grades, rows))
    place = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
    ideal = np.bincount(rows[order], weights=np.where(place < _DEPTH, grades[order] / np.log2(place + 2), 0.0))
    return np.asarray(found / ideal)
