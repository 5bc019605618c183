"""Retrieval metrics under mteb's names and definitions, which are trec_eval's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

K_VALUES = (1, 3, 5, 10, 20, 100, 1000)
"""The cut-offs of mteb's retrieval tasks."""

FAMILIES = ("ndcg", "map", "recall", "precision", "mrr", "hit_rate")

METRICS = tuple(f"{family}_at_{k}" for family in FAMILIES for k in K_VALUES)
"""Every key of `score_run`, e.g. "ndcg_at_10"."""


def score_run(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Score the results of every judged query; one without results scores 0.

    Results are ordered as trec_eval orders them: by score in single precision, ties by the greater id first.
    The gain of a passage is its grade (no exponent), and a grade below 1 means not relevant.

    Args:
        qrels: query id -> passage id -> grade.
        run: query id -> passage id -> score; the order of the entries does not matter, unjudged queries are
            ignored.

    Returns:
        Query id -> metric -> value in [0, 1], the metrics being `METRICS`.

    """
    return {
        query_id: score_ranks(grades, ranks_of_relevant(grades, run.get(query_id, {})))
        for query_id, grades in qrels.items()
    }


def ranks_of_relevant(grades: Mapping[str, int], scores: Mapping[str, float]) -> dict[str, int]:
    """Return the 1-based rank of each relevant passage among the results of one query, best first."""
    if not scores:
        return {}
    single = np.fromiter(scores.values(), dtype=np.float32, count=len(scores)).tolist()
    ordered = sorted(zip(single, scores, strict=True), reverse=True)
    return {passage_id: rank for rank, (_, passage_id) in enumerate(ordered, start=1) if grades.get(passage_id, 0) >= 1}


def score_ranks(grades: Mapping[str, int], ranks: Mapping[str, int]) -> dict[str, float]:
    """Score one query from where its relevant passages were found.

    Args:
        grades: passage id -> grade of everything judged for the query.
        ranks: passage id -> 1-based rank of the relevant passages among the results; the others are absent.

    Returns:
        Metric -> value in [0, 1]: nDCG with linear gains and discount log2(rank + 1) (Järvelin and
        Kekäläinen 2002), average precision cut at k over all relevant passages, recall, precision over k,
        reciprocal rank of the first relevant passage, and whether there is one.

    """
    gains = np.sort(np.array([grade for grade in grades.values() if grade >= 1], dtype=np.float64))[::-1]
    if not len(gains) or not ranks:
        return dict.fromkeys(METRICS, 0.0)
    found = sorted((rank, grades[passage_id]) for passage_id, rank in ranks.items())
    positions = np.array([rank for rank, _ in found], dtype=np.float64)
    dcg = _running(np.array([gain for _, gain in found]) / np.log2(positions + 1))
    ideal = _running(gains / np.log2(np.arange(2, len(gains) + 2)))
    precisions = _running(np.arange(1, len(found) + 1) / positions)
    scores = {}
    for k, hits in zip(K_VALUES, np.searchsorted(positions, K_VALUES, side="right").tolist(), strict=True):
        scores[f"ndcg_at_{k}"] = dcg[hits] / ideal[min(k, len(gains))]
        scores[f"map_at_{k}"] = precisions[hits] / len(gains)
        scores[f"recall_at_{k}"] = hits / len(gains)
        scores[f"precision_at_{k}"] = hits / k
        scores[f"mrr_at_{k}"] = 1 / found[0][0] if hits else 0.0
        scores[f"hit_rate_at_{k}"] = 1.0 if hits else 0.0
    return {metric: float(scores[metric]) for metric in METRICS}


def as_arrays(per_query: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    """Return the values `[Q]` of each metric, in the order of the queries."""
    return {metric: np.array([scores[metric] for scores in per_query], dtype=np.float64) for metric in METRICS}


def _running(values: NDArray[np.float64]) -> list[float]:
    """Return the sums of the first 0, 1, 2, ... values."""
    return [0.0, *np.cumsum(values).tolist()]
