"""Metrics against tables worked out by hand and against pytrec_eval."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.evaluation.metrics import K_VALUES, METRICS, score_run


def scores(grades: dict[str, int], results: dict[str, float]) -> dict[str, float]:
    return score_run({"q": grades}, {"q": results})["q"]


def test_one_positive_at_rank_three() -> None:
    found = scores({"c": 1}, {"a": 3.0, "b": 2.0, "c": 1.0})
    assert found["ndcg_at_1"] == found["mrr_at_1"] == found["hit_rate_at_1"] == 0
    assert found["ndcg_at_3"] == pytest.approx(1 / math.log2(4))
    assert found["mrr_at_3"] == found["map_at_3"] == pytest.approx(1 / 3)
    assert found["recall_at_3"] == found["hit_rate_at_3"] == 1
    assert found["precision_at_5"] == pytest.approx(1 / 5)


def test_several_positives_of_which_one_is_not_found() -> None:
    found = scores({"a": 1, "c": 1, "z": 1}, {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0})
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg_at_3"] == pytest.approx((1 + 1 / math.log2(4)) / ideal)
    assert found["ndcg_at_1"] == 1
    assert found["map_at_3"] == pytest.approx((1 + 2 / 3) / 3)
    assert found["map_at_1"] == pytest.approx(1 / 3)
    assert found["recall_at_3"] == pytest.approx(2 / 3)
    assert found["precision_at_3"] == pytest.approx(2 / 3)
    assert found["mrr_at_1"] == 1


def test_graded_gains_are_linear() -> None:
    found = scores({"a": 1, "b": 3, "c": 0, "d": -2}, {"c": 5.0, "d": 4.5, "a": 4.0, "b": 3.0})
    dcg = 1 / math.log2(4) + 3 / math.log2(5)
    assert found["ndcg_at_5"] == pytest.approx(dcg / (3 + 1 / math.log2(3)))
    assert found["ndcg_at_3"] == pytest.approx((1 / math.log2(4)) / (3 + 1 / math.log2(3)))
    assert found["recall_at_3"] == pytest.approx(1 / 2)


def test_ties_put_the_greater_id_first() -> None:
    tied = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert [scores({key: 1}, tied)["mrr_at_10"] for key in "cba"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert scores({"9": 1}, {"10": 1.0, "9": 1.0})["mrr_at_10"] == 1


def test_scores_equal_in_single_precision_are_ties() -> None:
    assert scores({"b": 1}, {"a": 1.0 + 1e-12, "b": 1.0})["ndcg_at_1"] == 1


def test_a_query_without_results_scores_zero_and_is_counted() -> None:
    found = score_run({"q": {"a": 1}, "r": {"a": 1}, "s": {"a": 0}}, {"q": {"a": 1.0}, "s": {"a": 1.0}, "x": {}})
    assert list(found) == ["q", "r", "s"]
    assert found["q"]["ndcg_at_10"] == 1
    assert set(found["r"].values()) == {0.0}
    assert set(found["s"].values()) == {0.0}


def test_the_keys_are_mtebs() -> None:
    assert set(METRICS) == set(scores({"a": 1}, {"a": 1.0})) == set(scores({"a": 1}, {}))
    assert len(METRICS) == 6 * len(K_VALUES)


passage_ids = st.sampled_from([f"d{number}" for number in range(30)])
queries = st.sampled_from(["q0", "q1", "q2"])
judgements = st.dictionaries(
    queries, st.dictionaries(passage_ids, st.integers(-1, 3), min_size=1, max_size=15), min_size=1
)
results = st.dictionaries(
    queries, st.dictionaries(passage_ids, st.integers(0, 8).map(lambda score: score / 4), max_size=30)
)
NAMES = {
    "ndcg": "ndcg_cut",
    "map": "map_cut",
    "recall": "recall",
    "precision": "P",
    "hit_rate": "success",
}


@settings(deadline=None, max_examples=300)
@given(judgements, results)
def test_random_runs_score_as_pytrec_eval_does(
    qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]
) -> None:
    cuts = ",".join(map(str, K_VALUES))
    judge = pytrec_eval.RelevanceEvaluator(qrels, {f"{theirs}.{cuts}" for theirs in NAMES.values()})
    theirs = judge.evaluate({query: run.get(query, {}) for query in qrels})
    ours = score_run(qrels, run)
    assert set(ours) == set(qrels)
    for query, found in ours.items():
        for family, name in NAMES.items():
            for k in K_VALUES:
                expected = theirs[query][f"{name}_{k}"]
                assert found[f"{family}_at_{k}"] == pytest.approx(expected, abs=1e-12), (query, family, k)


@settings(deadline=None, max_examples=200)
@given(judgements, results)
def test_reciprocal_rank_is_that_of_mteb(qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]) -> None:
    """The definition in mteb's `mrr`, written out again: pytrec_eval has no cut for it."""
    for query, found in score_run(qrels, run).items():
        ordered = sorted(run.get(query, {}).items(), key=lambda item: (item[1], item[0]), reverse=True)
        first = next((n for n, (key, _) in enumerate(ordered, 1) if qrels[query].get(key, 0) > 0), math.inf)
        expected = [1 / first if first <= k else 0 for k in K_VALUES]
        np.testing.assert_allclose([found[f"mrr_at_{k}"] for k in K_VALUES], expected)
