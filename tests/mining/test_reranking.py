"""Cross-encoders in mining: what they re-rank, filter and keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zhihui.errors import InputError, RunFailure
from zhihui.mining import Miner, MiningConfig, mine
from zhihui.mining.stage import mine_files
from zhihui.records import read_examples, write_examples


class Overlap:
    """Scores a pair by the share of the query's characters in the passage; an instruction takes something off."""

    name = "overlap"
    fingerprint = "overlap-1"

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str, str | None]] = []

    def score(self, queries, passages, *, instruction=None):
        self.pairs += [(query, passage, instruction) for query, passage in zip(queries, passages, strict=True)]
        return np.array([self.of(*pair, instruction) for pair in zip(queries, passages, strict=True)], np.float32)

    @staticmethod
    def of(query, passage, instruction=None):
        return np.float32(len({*query} & {*passage}) / len({*query}) - 0.01 * len(instruction or ""))


@pytest.fixture
def reranker():
    return Overlap()


def config(*specs, **settings):
    return MiningConfig(miners=tuple(Miner.parse(spec) for spec in specs), near_duplicates=None, **settings)


def test_a_cross_miner_ranks_what_is_in_the_windows(examples, passages, encoder, reranker):
    mined = mine(
        examples, passages, config("bm25:3-12:0", "dense:1-8:0", "cross:1-30:30"), encoder=encoder, reranker=reranker
    )
    windows = mine(examples, passages, config("bm25:3-12:10", "dense:1-8:8"), encoder=encoder)
    for example, plain in zip(mined.examples, windows.examples, strict=True):
        assert set(example.neg) == set(plain.neg)
        scores = [Overlap.of(example.query, text) for text in example.neg]
        assert scores == sorted(scores, reverse=True)
        origin = example.meta["negatives"]
        assert [entry["score"] for entry in origin] == [round(float(score), 6) for score in scores]
        assert {entry["miner"] for entry in origin} == {"cross"}
        missing = set(range(1, len(origin) + 2)) - {entry["rank"] for entry in origin}
        assert len(missing) == 1, "the positive has a rank too"
    assert mined.counts["mined"]["bm25:3-12:0"] == 0
    assert mined.counts["shortfall"]["bm25:3-12:0"] == 0


def test_several_windows_of_one_method_do_not_share_a_passage(examples, passages, encoder, reranker):
    specs = ("bm25:1-10:2", "bm25:11-40:2", "dense:1-20:2", "cross:1-9:2", "cross:10-30:2", "random:1")
    mined = mine(examples, passages, config(*specs), encoder=encoder, reranker=reranker)
    for example in mined.examples:
        assert len(set(example.neg)) == len(example.neg) == 11
        ranks = [entry["rank"] for entry in example.meta["negatives"]]
        assert all(1 <= rank <= 10 for rank in ranks[:2])
        assert all(11 <= rank <= 40 for rank in ranks[2:4])
        assert all(1 <= rank <= 9 for rank in ranks[6:8])
        assert all(10 <= rank <= 30 for rank in ranks[8:10])


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ({"cross_margin": 0.2}, lambda negative, positive: negative < positive - np.float32(0.2)),
        ({"cross_ratio": 0.7}, lambda negative, positive: negative < 0.7 * positive),
    ],
)
def test_filters_by_its_scores_hold_for_all_ranked_miners(examples, passages, reranker, setting, allowed):
    two = [replace(example, pos=[*example.pos, "没有关系"]) for example in examples]
    mined = mine(two, passages, config("bm25:1-60:60", **setting), reranker=reranker)
    plain = mine(two, passages, config("bm25:1-60:60"))
    for example, every in zip(mined.examples, plain.examples, strict=True):
        best = max(Overlap.of(example.query, text) for text in example.pos)
        expected = {text for text in every.neg if allowed(Overlap.of(example.query, text), best)}
        assert set(example.neg) == expected
    (name,) = setting
    assert mined.counts["filtered"][name] > 0


def test_each_pair_is_scored_once_with_the_instruction_of_its_query(examples, passages, reranker):
    twice = [*examples[:3], replace(examples[0], id="again"), replace(examples[1], id="told", prompt="找反例")]
    mine(twice, passages, config("bm25:1-10:0", "cross:1-5:2", cross_ratio=0.9), reranker=reranker)
    assert len(set(reranker.pairs)) == len(reranker.pairs)
    told = [pair for pair in reranker.pairs if pair[2] == "找反例"]
    assert {pair[0] for pair in told} == {examples[1].query}
    assert len(told) >= 10


def test_the_stage_goes_on_where_it_was_killed(examples, passages, tmp_path, monkeypatch, encoder, reranker):
    monkeypatch.setattr("zhihui.mining.reranking._SHARD", 8)
    monkeypatch.setattr("zhihui.mining.shards.QUERIES", 16)
    write_examples(tmp_path / "in.jsonl", examples)
    setting = config("dense:1-10:1", "bm25:1-10:0", "cross:1-10:2")

    class Killed(Overlap):
        def score(self, queries, texts, *, instruction=None):
            if len(self.pairs) > 150:
                raise KeyboardInterrupt
            return super().score(queries, texts, instruction=instruction)

    killed = Killed()
    with pytest.raises(KeyboardInterrupt):
        mine_files(tmp_path / "in.jsonl", tmp_path / "out", setting, encoder=encoder, reranker=killed)
    mine_files(tmp_path / "in.jsonl", tmp_path / "out", setting, encoder=encoder, reranker=reranker)
    assert killed.pairs
    assert reranker.pairs
    assert set(killed.pairs).isdisjoint(reranker.pairs)
    whole = Overlap()
    manifest = mine_files(tmp_path / "in.jsonl", tmp_path / "whole", setting, encoder=encoder, reranker=whole)
    assert set(whole.pairs) == {*killed.pairs, *reranker.pairs}
    one, other = (list(read_examples(tmp_path / name / "train.jsonl")) for name in ("out", "whole"))
    assert one == other
    assert manifest.inputs["reranker"] == "overlap-1"
    assert not (tmp_path / "whole" / "work").exists()


def test_a_reranker_and_its_use_must_agree(examples, passages, reranker, tmp_path):
    write_examples(tmp_path / "in.jsonl", examples)
    for setting in (config("bm25:1-9:0", "cross:1-5:1"), config("bm25:1-9:1", cross_margin=0.1)):
        with pytest.raises(InputError, match="need a cross-encoder"):
            mine_files(tmp_path / "in.jsonl", tmp_path / "out", setting)
    with pytest.raises(InputError, match="nothing uses the cross-encoder"):
        mine_files(tmp_path / "in.jsonl", tmp_path / "out", config("bm25:1-9:1"), reranker=reranker)


@pytest.mark.parametrize("bad", [np.float32("nan"), None])
def test_broken_scores_end_the_run(examples, passages, bad):
    class Broken(Overlap):
        def score(self, queries, texts, *, instruction=None):
            return np.full(len(texts) if bad is not None else 1, bad or 0.5)

    with pytest.raises(RunFailure, match="overlap returned scores"):
        mine(examples, passages, config("bm25:1-9:0", "cross:1-5:1"), reranker=Broken())
