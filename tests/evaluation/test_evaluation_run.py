"""Evaluating systems: numbers, ties, reuse, storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhihui.errors import InputError
from zhihui.evaluation.bootstrap import interval
from zhihui.evaluation.metrics import METRICS, score_run
from zhihui.evaluation.run import as_json, average, evaluate
from zhihui.evaluation.stored import read_found, write_found
from zhihui.evaluation.systems import Bm25System, DenseSystem, HybridSystem, RankFusionSystem, RetrievalSystem
from zhihui.ranking import TopK, reciprocal_rank_fusion, score_fusion
from zhihui.records import RetrievalSet
from zhihui.runs import to_json


class Fixed:
    """A system that ranks by a table of scores."""

    fingerprint = "fixed"

    def __init__(self, scores: dict[str, dict[str, float]], name: str = "fixed") -> None:
        self.scores = scores
        self.name = name
        self.calls = 0

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        self.calls += 1
        number = {key: place for place, key in enumerate(data.corpus)}
        found = TopK.empty(len(query_ids), k)
        for row, query_id in enumerate(query_ids):
            scores = {number[key]: score for key, score in self.scores.get(query_id, {}).items()}
            ordered = sorted(scores, key=lambda key: (-scores[key], key))[:k]
            found.indices[row, : len(ordered)] = ordered
            found.scores[row, : len(ordered)] = [scores[key] for key in ordered]
        return found


TABLE = {
    "q1": {"茶": 0.5, "菜": 0.75, "雨": 0.5, "猫": 0.25},
    "q2": {"猫": 1.0, "雨": 1.0, "茶": 1.0},
    "q3": {"书": 0.5},
    "q5": {"病": 0.1},
}


def test_scores_are_those_of_the_run(tiny: RetrievalSet) -> None:
    result = evaluate(tiny, "test", [Fixed(TABLE)]).systems[0]
    expected = score_run(tiny.qrels["test"], TABLE)
    for place, scores in enumerate(expected.values()):
        assert {metric: result.scores[metric][place] for metric in METRICS} == pytest.approx(scores)
    assert result.intervals["ndcg_at_10"] == interval(result.scores["ndcg_at_10"])
    assert 0 < result.intervals["ndcg_at_10"].value < 1


def test_top_and_ranks_put_the_greater_id_first(tiny: RetrievalSet) -> None:
    evaluation = evaluate(tiny, "test", [Fixed(TABLE)])
    found = dict(zip(evaluation.query_ids, evaluation.system("fixed").found, strict=True))
    assert sorted(["茶", "雨", "猫"], reverse=True) == [key for key, _ in found["q2"].top]
    assert found["q2"].ranks == {"猫": [key for key, _ in found["q2"].top].index("猫") + 1}
    assert found["q1"].ranks == {"菜": 1, "茶": 3 if "雨" > "茶" else 2}
    assert found["q4"].top == []
    assert found["q4"].ranks == {}


def test_only_the_judged_queries_of_the_split_count(tiny: RetrievalSet) -> None:
    data = replace(tiny, qrels={"dev": {"q2": {"猫": 1}}, **tiny.qrels})
    evaluation = evaluate(data, "dev", [Fixed(TABLE)])
    assert evaluation.query_ids == ["q2"]
    assert len(evaluation.systems[0].scores["ndcg_at_10"]) == 1


@pytest.mark.parametrize("way", ["hybrid", "rrf"])
def test_a_fusion_takes_the_rankings_of_its_parts_without_asking_again(tiny: RetrievalSet, way: str) -> None:
    other = {"q1": {"茶": 2.0}, "q2": {"猫": 1.0}, "q4": {"书": 1.0}}
    parts = [Fixed(TABLE, "a"), Fixed(other, "b")]
    fused: RetrievalSystem
    if way == "hybrid":
        fused, merge = HybridSystem.with_bm25(*parts), partial(score_fusion, weights=[0.4, 0.6])
    else:
        fused, merge = RankFusionSystem(parts), reciprocal_rank_fusion
    together = evaluate(tiny, "test", [*parts, fused])
    assert [part.calls for part in parts] == [1, 1]
    alone = evaluate(tiny, "test", [fused])
    assert together.system(way).found == alone.system(way).found
    ids = list(together.query_ids)
    merged = merge([part.rank(tiny, ids, 1000) for part in parts], 1000)
    best = [list(tiny.corpus)[row[0]] if row[0] >= 0 else None for row in merged.indices]
    assert best[ids.index("q1")] == "茶"
    assert [found.top[0][0] if found.top else None for found in alone.systems[0].found] == best


def test_depth_cuts_the_ranking(tiny: RetrievalSet) -> None:
    result = evaluate(tiny, "test", [Fixed(TABLE)], k=1).systems[0]
    assert result.scores["recall_at_1000"][0] == 0.5
    assert len(result.found[0].top) == 1


def test_bm25_finds_common_words(tiny: RetrievalSet) -> None:
    found = evaluate(tiny, "test", [Bm25System()])
    result = found.system("bm25")
    assert result.scores["hit_rate_at_1"][found.query_ids.index("q2")] == 1
    assert result.scores["hit_rate_at_1000"][found.query_ids.index("q7")] == 0


def test_the_instruction_reaches_the_queries(tiny: RetrievalSet, encoder: Any) -> None:
    plain = DenseSystem(encoder)
    told = DenseSystem(encoder, name="told", instruction="请找出能回答问题的段落：")
    evaluation = evaluate(tiny, "test", [plain, told])
    assert evaluation.system("bigrams").found[0].top != evaluation.system("told").found[0].top
    assert plain.fingerprint != told.fingerprint


def test_observers_see_the_whole_ranking(tiny: RetrievalSet, encoder: Any) -> None:
    seen = {}
    evaluate(
        tiny,
        "test",
        [DenseSystem(encoder)],
        k=20,
        observe=lambda system, ranking: seen.update({system.name: ranking.indices.shape}),
    )
    assert seen == {"bigrams": (len(tiny.qrels["test"]), 20)}


def test_two_runs_agree(tiny: RetrievalSet, encoder: Any) -> None:
    one, two = (evaluate(tiny, "test", [Bm25System(), DenseSystem(encoder)]) for _ in range(2))
    for a, b in zip(one.systems, two.systems, strict=True):
        assert (a.found, a.intervals) == (b.found, b.intervals)


@pytest.mark.parametrize(
    ("split", "systems", "message"),
    [
        ("dev", ["x"], "no split 'dev'; there are: test"),
        ("test", [], "no system to evaluate"),
        ("test", ["x", "x"], "two systems have one name"),
    ],
)
def test_mistakes_are_named(tiny: RetrievalSet, split: str, systems: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(tiny, split, [Fixed({}, name) for name in systems])


def test_what_was_found_comes_back_from_disk(tiny: RetrievalSet, encoder: Any, tmp_path: Path) -> None:
    evaluation = evaluate(tiny, "test", [Bm25System(), DenseSystem(encoder)], seed=3)
    write_found(tmp_path / "found.jsonl", evaluation)
    back = read_found(tmp_path / "found.jsonl", tiny, seed=3)
    assert (back.split, back.query_ids) == (evaluation.split, evaluation.query_ids)
    for ours, theirs in zip(evaluation.systems, back.systems, strict=True):
        assert (ours.name, ours.fingerprint, ours.seconds, ours.found, ours.intervals) == (
            theirs.name,
            theirs.fingerprint,
            theirs.seconds,
            theirs.found,
            theirs.intervals,
        )
        for metric in METRICS:
            np.testing.assert_array_equal(ours.scores[metric], theirs.scores[metric])


def test_what_was_found_on_another_set_is_refused(tiny: RetrievalSet, encoder: Any, tmp_path: Path) -> None:
    write_found(tmp_path / "found.jsonl", evaluate(tiny, "test", [DenseSystem(encoder)]))
    fewer = replace(tiny, qrels={"test": {"q1": {"茶": 1}}})
    with pytest.raises(InputError, match="not those of tiny"):
        read_found(tmp_path / "found.jsonl", fewer)


def test_the_average_counts_each_set_the_same(tiny: RetrievalSet) -> None:
    small = replace(tiny, name="small", qrels={"test": {"q1": {"茶": 1}}})
    both = [evaluate(data, "test", [Fixed(TABLE)]) for data in (tiny, small)]
    means = [one.systems[0].intervals["mrr_at_10"].value for one in both]
    assert average(both)["fixed"]["mrr_at_10"].value == pytest.approx(sum(means) / 2)
    assert average(both[:1])["fixed"] == both[0].systems[0].intervals
    with pytest.raises(InputError, match="different systems"):
        average([both[0], evaluate(small, "test", [Fixed(TABLE, "other")])])


def test_results_are_plain_json(tiny: RetrievalSet) -> None:
    found = as_json(average([evaluate(tiny, "test", [Fixed(TABLE)])]))
    assert list(found) == ["fixed"]
    assert set(found["fixed"]) == set(METRICS)
    assert set(found["fixed"]["ndcg_at_10"]) == {"value", "low", "high"}
    assert '"low"' in to_json(found)
