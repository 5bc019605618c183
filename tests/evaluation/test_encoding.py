"""Encoding under a bar that counts tokens, and systems that fuse, weigh or know nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zhihui.errors import InputError
from zhihui.evaluation.encoding import MeteredEncoder, TokenEstimate
from zhihui.evaluation.run import evaluate
from zhihui.evaluation.systems import Bm25System, DenseSystem, HybridSystem, RandomSystem
from zhihui.ranking import TopK
from zhihui.records import RetrievalSet

TEXTS = ["茶", "清晨的湖面上飘着一层薄薄的雾气", "茶", "雨" * 100, "小猫第一次洗澡"]


class Bars:
    """Stands for the bars on the screen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.total = self.moved = 0
        self.open = 0
        monkeypatch.setattr("zhihui.evaluation.encoding.Bar", self.make)

    def make(self, total: int, label: str) -> Any:
        self.total, self.label = total, label
        self.open += 1
        return SimpleNamespace(advance=self.advance, close=self.close)

    def advance(self, steps: int) -> None:
        self.moved += steps

    def close(self) -> None:
        self.open -= 1


@pytest.mark.parametrize("block", [1, 2, 10])
def test_vectors_are_those_of_the_encoder_and_the_bar_runs_to_its_end(
    encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    bars = Bars(monkeypatch)
    queries = ["怎么泡茶", "下雨了"]
    for _ in range(2):
        bars.moved = 0
        with MeteredEncoder(encoder, tmp_path, label="T2", texts=[*TEXTS, *queries], block=block) as metered:
            np.testing.assert_array_equal(metered.encode_documents(TEXTS), encoder._encode(TEXTS))
            told = metered.encode_queries(queries, instruction="找")
        np.testing.assert_array_equal(told, encoder.encode_queries(queries, instruction="找"))
        assert bars.moved == bars.total
        assert bars.open == 0
    assert bars.label == "T2, tokens"
    assert encoder.documents_encoded == len(set(TEXTS)), "the second time all is on disk"
    assert metered.encode_documents([]).shape == (0, 64)


def test_tokens_are_estimated_by_the_models_own_tokenizer_and_its_longest_text() -> None:
    two_each = SimpleNamespace(
        settings=SimpleNamespace(max_length=50),
        tokenize=lambda texts, role: [list(range(min(2 * len(text), 50))) for text in texts],
    )
    tokens = TokenEstimate(two_each, TEXTS)
    assert [tokens(text) for text in TEXTS] == [2, 30, 2, 50, 14]
    assert TokenEstimate(object(), TEXTS)("雨" * 100) == 70


def ranking(*rows: dict[int, float]) -> TopK:
    found = TopK.empty(len(rows), 3)
    for row, scores in enumerate(rows):
        found.indices[row, : len(scores)] = list(scores)
        found.scores[row, : len(scores)] = list(scores.values())
    return found


def test_a_weighted_sum_by_hand() -> None:
    system = HybridSystem([Bm25System(), RandomSystem()], weights=[0.25, 0.75])
    first = ranking({0: 30.0, 1: 20.0, 2: 10.0}, {4: 5.0}, {})
    second = ranking({2: 0.9, 0: 0.6, 3: 0.5}, {}, {})
    fused = system.fuse([first, second], 4)
    assert fused.indices.tolist() == [[2, 0, 1, 3], [4, -1, -1, -1], [-1] * 4]
    np.testing.assert_allclose(fused.scores[0], [0.75, 0.25 + 0.75 * 0.25, 0.125, 0.0], atol=1e-6)
    assert fused.scores[1, 0] == 0.25


@pytest.mark.parametrize("weights", [[1.0], [-0.1, 1.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_weights_that_weigh_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="give one of 0 or more for each of 2 rankings"):
        HybridSystem([Bm25System(), RandomSystem()], weights=weights)


def test_all_weight_on_one_part_ranks_as_that_part(tiny: RetrievalSet, encoder: Any) -> None:
    dense = DenseSystem(encoder)
    only = HybridSystem([Bm25System(), dense], weights=[0, 1])
    found = evaluate(tiny, "test", [dense, only])
    tops = [[[key for key, _ in one.top[:5]] for one in result.found] for result in found.systems]
    assert tops[0] == tops[1]
    assert only.fingerprint != HybridSystem([Bm25System(), dense], weights=[1, 0]).fingerprint


def test_random_passages_are_the_same_again_and_whole() -> None:
    corpus = {str(number): None for number in range(50)}
    data = RetrievalSet(name="r", corpus=corpus, queries={}, qrels={})  # type: ignore[arg-type]
    found = RandomSystem().rank(data, ["a", "b"], 60)
    again = RandomSystem().rank(data, ["b", "a"], 60)
    np.testing.assert_array_equal(found.indices, again.indices[::-1])
    assert [sorted(row[:50].tolist()) for row in found.indices] == [list(range(50))] * 2
    assert (found.indices[:, 50:] == -1).all()
    assert found.indices[0].tolist() != found.indices[1].tolist()
    assert RandomSystem(seed=1).rank(data, ["a"], 5).indices.tolist() != found.indices[:1, :5].tolist()


def test_passages_with_the_querys_id_are_dropped_on_demand(encoder: Any) -> None:
    from zhihui.records import Passage

    texts = {"a": "绿茶怎么泡", "b": "绿茶用八十度的水冲泡", "c": "猫"}
    data = RetrievalSet(
        name="same",
        corpus={key: Passage(text=text) for key, text in texts.items()},
        queries={"a": texts["a"], "q": "猫"},
        qrels={"test": {"a": {"b": 1, "a": 1}, "q": {"c": 1}}},
    )
    kept = evaluate(data, "test", [DenseSystem(encoder)]).systems[0].found
    dropped = evaluate(data, "test", [DenseSystem(encoder)], ignore_identical_ids=True).systems[0].found
    assert kept[0].ranks == {"a": 1, "b": 2}
    assert dropped[0].ranks == {"b": 1}
    assert dropped[0].top == kept[0].top[1:]
    assert dropped[1] == kept[1]
