from __future__ import annotations

import random
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.mining import Miner, MiningConfig, mine
from zhihui.mining.filters import FILTERS
from zhihui.mining.pool import normalized
from zhihui.ranking import BM25, exact
from zhihui.records import Example, Passage, RejectLog

ALL = ("bm25:2-12:3", "dense:1-20:3", "random:2")


def config(*specs, **settings):
    return MiningConfig(miners=tuple(Miner.parse(spec) for spec in specs), **settings)


def rows(mined):
    return {example.id: example.to_row() for example in mined.examples}


def lists(examples, passages, encoder):
    """The whole lists of both retrievers for each query, by text."""
    texts = [passage.full for passage in passages.values()]
    queries = [example.query for example in examples]
    found = {
        "bm25": BM25(texts).search(queries, len(texts)),
        "dense": exact.search(encoder.encode_queries(queries), encoder.encode_documents(texts), len(texts)),
    }
    return {
        method: [
            [(texts[i], float(s)) for i, s in zip(*pair, strict=True) if i >= 0]
            for pair in zip(top.indices, top.scores, strict=True)
        ]
        for method, top in found.items()
    }


def test_negatives_come_from_their_windows_with_rank_and_score(examples, passages, encoder):
    mined = mine(examples, passages, config(*ALL), encoder=encoder)
    whole = lists(examples, passages, encoder)
    windows = {"bm25": range(2, 13), "dense": range(1, 21)}
    for number, example in enumerate(mined.examples):
        origin = example.meta["negatives"]
        assert [entry["miner"] for entry in origin] == ["bm25"] * 3 + ["dense"] * 3 + ["random"] * 2
        assert len(set(example.neg)) == len(example.neg) == 8
        for text, entry in zip(example.neg, origin, strict=True):
            if entry["miner"] == "random":
                assert entry["rank"] is entry["score"] is None
                continue
            assert entry["rank"] in windows[entry["miner"]]
            scores = dict(whole[entry["miner"]][number])
            assert scores[text] == pytest.approx(entry["score"], abs=1e-4)
            better = sum(score > scores[text] + 1e-5 for score in scores.values())
            equal = sum(abs(score - scores[text]) <= 1e-5 for score in scores.values())
            assert better < entry["rank"] <= better + equal
    assert mined.counts["mined"] == {"bm25:2-12:3": 120, "dense:1-20:3": 120, "random:2": 80}
    assert set(mined.counts["shortfall"].values()) == {0}
    assert mined.counts["positives_in_window"]["dense:1-20:3"] == 40


def test_examples_are_left_as_they_were(examples, passages, encoder):
    before = [example.to_row() for example in examples]
    copies = [replace(example, meta=dict(example.meta)) for example in examples]
    mine(copies, passages, config(*ALL), encoder=encoder)
    assert [example.to_row() for example in copies] == before


def test_a_seed_gives_the_same_and_another_seed_others(examples, passages, encoder):
    first = rows(mine(examples, passages, config(*ALL, seed=3), encoder=encoder))
    assert rows(mine(examples, passages, config(*ALL, seed=3), encoder=encoder)) == first
    assert rows(mine(examples, passages, config(*ALL, seed=4), encoder=encoder)) != first


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.randoms(use_true_random=False))
def test_the_order_of_rows_and_passages_changes_nothing(examples, passages, encoder, order):
    shuffled = order.sample(examples, len(examples))
    corpus = dict(order.sample(list(passages.items()), len(passages)))
    setting = config(*ALL, margin=0.01)
    mined = mine(shuffled, corpus, setting, encoder=encoder)
    assert [example.id for example in mined.examples] == [example.id for example in shuffled]
    assert rows(mined) == rows(mine(examples, passages, setting, encoder=encoder))


def test_other_examples_change_nothing(examples, passages, encoder):
    whole = rows(mine(examples, passages, config(*ALL), encoder=encoder))
    for part in (examples[:1], examples[7:19]):
        assert rows(mine(part, passages, config(*ALL), encoder=encoder)).items() <= whole.items()


def test_another_miner_does_not_change_the_draw_of_the_first(examples, passages, encoder):
    alone = mine(examples, passages, config(ALL[0]))
    more = mine(examples, passages, config(*ALL), encoder=encoder)
    for one, other in zip(alone.examples, more.examples, strict=True):
        assert one.neg == other.neg[:3]


def test_draws_are_spread_over_the_window(examples, passages):
    counts = np.zeros(13)
    for seed in range(10):
        for example in mine(examples, passages, config("bm25:1-12:3", seed=seed)).examples:
            counts[[entry["rank"] for entry in example.meta["negatives"]]] += 1
    assert (counts[2:] > 60).all()  # 1200 draws over 11 ranks or so; the positive is usually the first


class TestPositives:
    """A positive must never come back as a negative."""

    @pytest.fixture
    def everything(self):
        """Takes all there is: whatever is allowed becomes a negative."""
        return config("bm25:1-70:70", "dense:1-70:70", "random:70")

    def negatives(self, examples, passages, everything, encoder, **more):
        return mine(examples, passages, everything, encoder=encoder, **more).examples[0].neg

    def test_all_the_others_are_taken(self, examples, passages, everything, encoder):
        expected = {passage.full for passage in passages.values()} - set(examples[0].pos)
        negatives = self.negatives(examples, passages, everything, encoder)
        assert set(negatives) == expected
        assert len(negatives) == len(expected)

    def test_same_id_in_other_words(self, examples, passages, everything, encoder):
        first = replace(examples[0], pos=["完全是另外一句话"], meta={"pos_ids": ["小猫-多少钱", "没有这个"]})
        negatives = self.negatives([first], passages, everything, encoder)
        assert passages["小猫-多少钱"].full not in negatives
        assert examples[0].pos[0] in negatives

    @pytest.mark.parametrize(
        "twin",
        ["紅茶怎麼清洗？關於紅茶，第0條說得清楚。", " 红茶怎么清洗？ 关于红茶，第０条说得清楚。\n"],
    )
    def test_same_text_after_normalisation(self, examples, passages, everything, encoder, twin):
        first = replace(examples[0], pos=[twin], meta={})
        negatives = self.negatives([first], passages, everything, encoder)
        assert examples[0].pos[0] not in negatives
        assert len(negatives) == len(passages) - 1
        corpus = {**passages, "twin": Passage(twin)}
        assert len(self.negatives(examples, corpus, everything, encoder)) == len(passages) - 1

    def test_text_written_down_without_its_title(self, passages, everything, encoder):
        corpus = {**passages, "t": Passage(text="浇水以后要晒太阳。", title="养花")}
        for text in ("浇水以后要晒太阳。", "养花 浇水以后要晒太阳。"):
            example = Example(query="花怎么养", pos=[text])
            negatives = self.negatives([example], corpus, everything, encoder)
            assert "养花 浇水以后要晒太阳。" not in negatives
            assert len(negatives) == len(passages)

    def test_positives_of_an_equal_query(self, examples, passages, everything, encoder):
        other = Example(query="紅茶 怎麼清洗", pos=[passages["雨伞-放在哪里"].full], id="other")
        for more in ({"examples": [*examples, other]}, {"examples": examples, "judged": [other]}):
            negatives = self.negatives(more.pop("examples"), passages, everything, encoder, **more)
            assert passages["雨伞-放在哪里"].full not in negatives
            assert len(negatives) == len(passages) - 2

    def test_the_query_itself(self, examples, passages, everything, encoder):
        corpus = {**passages, "echo": Passage("红茶怎么清洗")}
        assert "红茶怎么清洗" not in self.negatives(examples, corpus, everything, encoder)


class TestFilters:
    @pytest.mark.parametrize(
        ("setting", "allowed"),
        [
            ({"margin": 0.2}, lambda negative, positive: negative < positive - 0.2),
            ({"ratio": 0.6}, lambda negative, positive: negative < 0.6 * positive),
            ({"margin": 0.0}, lambda negative, positive: negative < positive),
        ],
    )
    def test_the_threshold_is_that_of_the_best_positive(self, examples, passages, encoder, setting, allowed):
        two = [replace(e, pos=[*e.pos, "跟问题没有关系的一句话"]) for e in examples]
        mined = mine(two, passages, config("dense:1-60:60", **setting), encoder=encoder)
        (name,) = setting
        held_back = 0
        for example in mined.examples:
            query = encoder.encode_queries([example.query])[0]
            best = max(encoder.encode_documents(example.pos) @ query)
            others = [passage.full for passage in passages.values() if passage.full not in example.pos]
            expected = {
                text
                for text, score in zip(others, encoder.encode_documents(others) @ query, strict=True)
                if allowed(score, best)
            }
            assert set(example.neg) == expected
            held_back += len(others) - len(expected)
        assert mined.counts["filtered"] == {**dict.fromkeys(FILTERS, 0), name: held_back}
        assert mined.counts["shortfall"]["dense:1-60:60"] == held_back + len(examples)
        assert (held_back > 0) == (name == "ratio" or setting["margin"] > 0)

    @pytest.mark.parametrize("setting", [{"margin": 0.25}, {"ratio": 0.75}])
    def test_a_score_at_the_threshold_is_held_back(self, setting):
        class Table:
            name = fingerprint = "table"
            scores: ClassVar = {"正": 1.0, "在线上": 0.75, "在线下": 0.5}

            def encode_queries(self, texts, *, instruction=None):
                return np.ones((len(texts), 1), np.float32)

            def encode_documents(self, texts):
                return np.array([[self.scores[text]] for text in texts], np.float32)

        corpus = {text: Passage(text) for text in Table.scores}
        example = Example(query="问", pos=["正"])
        mined = mine([example], corpus, config("dense:1-3:2", **setting), encoder=Table())
        assert mined.examples[0].neg == ["在线下"]

    def test_what_was_held_back_is_logged_with_its_score(self, examples, passages, encoder, tmp_path):
        with RejectLog(tmp_path / "rejected.jsonl") as log:
            mined = mine(
                examples,
                passages,
                config("dense:1-9:2", margin=0.3, ratio=0.9),
                encoder=encoder,
                rejects=log,
            )
        assert dict(log.counts) == {key: n for key, n in mined.counts["filtered"].items() if n}
        text = (tmp_path / "rejected.jsonl").read_text(encoding="utf-8")
        assert len(text.splitlines()) == sum(mined.counts["filtered"].values()) > 0
        assert "best positive" in text

    def test_lists_of_bm25_are_not_filtered(self, examples, passages, encoder):
        filtered = mine(examples, passages, config(*ALL, margin=1.9), encoder=encoder)
        assert filtered.counts["mined"] == {"bm25:2-12:3": 120, "dense:1-20:3": 0, "random:2": 80}

    def test_a_positive_of_negative_score_still_outscores_its_negatives(self, passages, encoder):
        class Opposed(type(encoder)):
            def encode_queries(self, texts, *, instruction=None):
                return -super().encode_queries(texts, instruction=instruction)

        example = Example(query="红茶怎么清洗", pos=[passages["红茶-放在哪里"].full])
        mined = mine([example], passages, config("dense:1-60:60", ratio=0.9), encoder=Opposed())
        assert mined.examples[0].neg
        query = Opposed().encode_queries([example.query])[0]
        best = float(encoder.encode_documents(example.pos)[0] @ query)
        assert best < 0
        assert max(encoder.encode_documents(mined.examples[0].neg) @ query) < best


class TestGiven:
    def test_given_negatives_stay_in_front_and_are_not_mined_again(self, examples, passages, encoder):
        given = [passages["绿茶-怎么清洗"].full, "一句不在语料里的话"]
        first = replace(examples[0], neg=given)
        mined = mine([first], passages, config("bm25:1-60:60", "random:60"), encoder=encoder)
        example = mined.examples[0]
        assert example.neg[:2] == given
        assert example.neg.count(given[0]) == 1
        assert example.meta["negatives"][:2] == [{"miner": "given", "rank": None, "score": None}] * 2
        assert mined.counts["given"] == 2

    def test_even_one_that_is_a_positive_stays_and_is_counted(self, examples, passages):
        first = replace(examples[0], neg=list(examples[0].pos))
        mined = mine([first], passages, config("bm25:1-20:2"))
        assert mined.examples[0].neg[0] == examples[0].pos[0]
        assert mined.counts["given_equal_to_a_positive"] == 1

    def test_origins_of_an_earlier_mining_stay(self, examples, passages):
        once = mine(examples, passages, config("bm25:1-20:2")).examples
        twice = mine(once, passages, config("random:2")).examples
        for one, two in zip(once, twice, strict=True):
            assert two.neg[:2] == one.neg
            assert two.meta["negatives"][:2] == one.meta["negatives"]
            assert [entry["miner"] for entry in two.meta["negatives"]] == ["bm25", "bm25", "random", "random"]

    def test_grades_move_to_the_origin(self, examples, passages):
        first = replace(examples[0], neg=["甲", "乙"], neg_scores=[0.5, 0.25])
        mined = mine([first], passages, config("random:1"))
        assert mined.examples[0].neg_scores is None
        assert [entry.get("grade") for entry in mined.examples[0].meta["negatives"]] == [0.5, 0.25, None]
        assert mined.counts["grades_moved_to_meta"] == 1


def test_shortfalls_are_counted():
    passages = {"a": Passage("红茶要用沸水"), "b": Passage("红茶不要久泡"), "c": Passage("雨天路滑")}
    examples = [Example(query="红茶", pos=["红茶要用沸水"]), Example(query="高铁", pos=["改签要趁早"])]
    mined = mine(examples, passages, config("bm25:1-50:4", "random:2"))
    assert [example.neg for example in mined.examples] == [
        ["红茶不要久泡", "雨天路滑"],
        mined.examples[1].neg,
    ]
    assert mined.counts["shortfall"] == {"bm25:1-50:4": 7, "random:2": 1}
    assert mined.counts["positives_in_window"] == {"bm25:1-50:4": 1}
    only = mine(examples, passages, config("bm25:1-50:4"))
    assert only.counts["examples_without_any"] == 1


def test_instructions_reach_the_encoder(examples, passages, encoder):
    prompts = {"a": None, "b": "", "c": "找反例："}
    same = [replace(examples[0], id=name, prompt=prompt) for name, prompt in prompts.items()]
    mined = mine(same, passages, config("dense:1-60:5"), encoder=encoder).examples
    assert ["找反例：红茶怎么清洗"] in encoder.calls
    score = {
        example.id: {t: e["score"] for t, e in zip(example.neg, example.meta["negatives"], strict=True)}
        for example in mined
    }
    shared = score["a"].keys() & score["c"].keys()
    assert all(score["a"][text] != score["c"][text] for text in shared)
    assert score["a"].keys() != score["c"].keys()


def test_each_query_is_encoded_once(examples, passages, encoder):
    again = [replace(example, id=f"{example.id}-2") for example in examples]
    mine([*examples, *again], passages, config("dense:1-9:1", margin=0.1), encoder=encoder)
    assert sum(map(len, encoder.calls)) == len(passages) + len(examples)


def test_bad_input_is_refused(examples, passages):
    with pytest.raises(InputError, match="no examples"):
        mine([], passages, config("random:1"))
    with pytest.raises(InputError, match="no passages"):
        mine(examples, {}, config("random:1"))
    with pytest.raises(InputError, match="dense mining needs a model"):
        mine(examples, passages, config("dense:1-9:1"))


def test_random_draws_reach_the_whole_pool(passages):
    examples = [Example(query=f"第{n}问", pos=["答"], id=str(n)) for n in range(200)]
    drawn = {text for e in mine(examples, passages, config("random:3")).examples for text in e.neg}
    assert drawn == {passage.full for passage in passages.values()}
    random.seed(0)  # the global generator must not matter
    again = {text for e in mine(examples[:1], passages, config("random:3")).examples for text in e.neg}
    assert again == set(mine(examples, passages, config("random:3")).examples[0].neg)


def test_normalised_texts():
    assert normalized("ＡＢＣ　紅茶\n") == normalized("abc红茶") == "abc红茶"
    assert normalized("a+b") != normalized("a-b")
