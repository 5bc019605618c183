"""Robustness: changed queries stay answerable, are compared with themselves, and cost one encoding of the corpus."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pages import Page

from zhihui.errors import InputError
from zhihui.evaluation import Bm25System, DenseSystem, evaluate, interval, paired_difference
from zhihui.evaluation import slices_texts as texts
from zhihui.evaluation.sets import one_set
from zhihui.evaluation.slices import count_truncation, measure_slices
from zhihui.evaluation.slices_stage import headline, slices_files
from zhihui.ranking import TopK
from zhihui.records import Passage, RetrievalSet, write_beir
from zhihui.runs import read_json

QUERY = "租房押金不退怎么办，可以起诉吗？"


def draw() -> random.Random:
    return random.Random(3)


def test_swapping_keeps_the_characters_and_moves_two():
    changed = texts.swapped(QUERY, draw())
    assert sorted(changed) == sorted(QUERY)
    places = [place for place, (old, new) in enumerate(zip(QUERY, changed, strict=True)) if old != new]
    assert len(places) == 2
    assert places[1] == places[0] + 1


def test_no_typo_undoes_another():
    long = QUERY * 4
    for seed in range(20):
        changed = texts.swapped(long, random.Random(seed))
        assert sum(old != new for old, new in zip(long, changed, strict=True)) == 2 * (len(long) // 10)


def test_dropping_takes_one_character_in_ten_and_never_the_last():
    assert len(QUERY) - len(texts.dropped(QUERY, draw())) == 1
    assert len(texts.dropped(QUERY * 4, draw())) == len(QUERY) * 4 - 6
    assert texts.dropped("茶", draw()) == "茶"
    assert texts.dropped("abc 123", draw()) == "abc 123"


def test_homophones_are_of_one_group():
    changed = texts.misheard("在家做菜的时候", draw())
    ((old, new),) = [pair for pair in zip("在家做菜的时候", changed, strict=True) if pair[0] != pair[1]]
    assert any(old in group and new in group for group in texts.HOMOPHONES)
    assert texts.misheard("xyz", draw()) == "xyz"


def test_punctuation_goes_and_comes():
    assert texts.unpunctuated(QUERY, draw()) == "租房押金不退怎么办可以起诉吗"
    assert texts.unpunctuated("？？", draw()) == "？？"
    changed = texts.punctuated("租房押金不退怎么办", draw())
    assert re.sub(r"[，？?！]", "", changed) == "租房押金不退怎么办"
    assert changed.count("，") == 1
    assert changed[-1] in "？?"


def test_small_talk_keeps_the_question_inside():
    changed = texts.chatty("租房押金不退怎么办？", draw())
    assert "租房押金不退怎么办" in changed
    assert changed.startswith(texts.PREFIXES)
    assert len({texts.chatty(QUERY, random.Random(seed)) for seed in range(30)}) > 10


def test_the_other_script_is_the_one_the_queries_are_not_in():
    target, change = texts.other_script(["汉语的检索", "电脑"])
    assert (target, change("汉语的检索", draw())) == ("traditional", "漢語的檢索")
    target, change = texts.other_script(["漢語的檢索", "電腦", "猫"])
    assert (target, change("漢語的檢索", draw())) == ("simplified", "汉语的检索")


# --------------------------------------------------------------------------- measuring


def by_name(found):
    return {one.name: one for one in found.slices}


def test_the_corpus_is_encoded_once_and_the_queries_as_they_are_score_as_ever(tiny, encoder):
    bm25, dense = Bm25System(), DenseSystem(encoder)
    found = measure_slices(tiny, "test", [bm25, dense])
    assert encoder.documents_encoded == len(tiny.corpus)
    plain = evaluate(tiny, "test", [bm25, dense])
    whole = by_name(found)["all queries"]
    for result in plain.systems:
        assert whole.scores[result.name].value == result.intervals["ndcg_at_10"]


def test_a_change_is_paired_with_the_same_queries_unchanged(tiny, encoder):
    found = by_name(measure_slices(tiny, "test", [DenseSystem(encoder)], seed=1))
    swapped = found["characters swapped"]
    assert swapped.queries == 6, "“zzz” has no Chinese characters to swap"
    assert swapped.example is not None
    assert swapped.example[0] != swapped.example[1]
    asked = {
        key: texts.swapped(text, random.Random(f"1:characters swapped:{text}")) for key, text in tiny.queries.items()
    }
    before, after = (
        evaluate(each, "test", [DenseSystem(encoder)]).systems[0].scores["ndcg_at_10"][:6]
        for each in (tiny, replace(tiny, queries=asked))
    )
    assert swapped.scores["bigrams"].value == interval(after, seed=1)
    assert swapped.scores["bigrams"].change == paired_difference(after, before, seed=1)
    assert list(before) != list(before[::-1]), "the order of the pairs matters here"
    assert "punctuation removed" not in found, "no query has any"


def test_terciles_share_the_queries_by_length(tiny):
    found = by_name(measure_slices(tiny, "test", [Bm25System()]))
    groups = [found[f"{name} queries"] for name in ("short", "middle", "long")]
    assert [group.queries for group in groups] == [2, 3, 2]
    lengths = sorted(map(len, tiny.queries.values()))
    edges = [(lengths[0], lengths[1]), (lengths[2], lengths[4]), (lengths[5], lengths[6])]
    assert [group.about for group in groups] == [f"{low} to {high} characters" for low, high in edges]
    weighted = sum(group.queries * group.scores["bm25"].value.value for group in groups) / 7
    assert weighted == pytest.approx(found["all queries"].scores["bm25"].value.value)


class InOrder:
    """A system that finds the passages in the order of the corpus."""

    name = fingerprint = "in order"

    def rank(self, data, query_ids, k):
        found = TopK.empty(len(query_ids), k)
        filled = min(k, len(data.corpus))
        found.indices[:, :filled] = np.arange(filled)
        found.scores[:, :filled] = -np.arange(filled)
        return found


@pytest.mark.parametrize("ignore", [False, True], ids=["counted", "ignored"])
def test_a_passage_with_the_querys_id_makes_room_for_the_eleventh(ignore):
    corpus = {f"d{number}": Passage(f"第{number}段") for number in range(12)}
    data = RetrievalSet(name="own", corpus=corpus, queries={"d3": "茶叶怎么放"}, qrels={"test": {"d3": {"d10": 1}}})
    found = measure_slices(data, "test", [InOrder()], ignore_identical_ids=ignore)
    expected = evaluate(data, "test", [InOrder()], k=100, ignore_identical_ids=ignore).systems[0]
    for one in found.slices:
        assert one.scores["in order"].value.value == expected.scores["ndcg_at_10"][0]
    assert (expected.scores["ndcg_at_10"][0] > 0) == ignore


def test_the_seed_decides_the_changes(tiny):
    examples = [
        [one.example for one in measure_slices(tiny, "test", [Bm25System()], seed=seed).slices] for seed in (0, 0, 1)
    ]
    assert examples[0] == examples[1] != examples[2]


def words(prompted, **_):
    return {"input_ids": [list(range(len(text))) for text in prompted]}


def test_truncation_counts_passages_and_tokens(tiny):
    settings = SimpleNamespace(max_length=15, prompt=lambda role: {"document": "文："}[role])
    model = SimpleNamespace(tokenizer=words, settings=settings)
    found, cut = count_truncation(model, tiny)
    lengths = {key: len(passage.full) + 2 for key, passage in tiny.corpus.items()}
    assert cut == {key for key, length in lengths.items() if length > 15}
    assert (found.cut, found.passages, found.max_length) == (len(cut), 24, 15)
    lost = sum(max(0, length - 15) for length in lengths.values())
    assert found.tokens_lost == pytest.approx(lost / sum(lengths.values()))
    groups = by_name(measure_slices(tiny, "test", [Bm25System()], cut_passages=cut - {"茶"}))
    assert (groups["answer cut"].queries, groups["answer whole"].queries) == (6, 1)


def test_the_headline_names_what_costs_most(tiny, encoder):
    found = measure_slices(tiny, "test", [DenseSystem(encoder)])
    said = headline(found)
    assert said.startswith("bigrams reaches nDCG@10 0.")
    losses = [one for one in found.slices if (change := one.scores["bigrams"].change) and change.high < 0]
    if losses:
        worst = min(losses, key=lambda one: one.scores["bigrams"].change.value)
        assert f"“{worst.name}”" in said
    else:
        assert "none of the changes" in said
    both = measure_slices(tiny, "test", [DenseSystem(encoder, name="m"), Bm25System()])
    assert headline(both).startswith("m reaches"), "a model, wherever it stands"


def test_the_stage_writes_a_page_a_table_and_json(tiny, encoder, tmp_path):
    evil = {key: f"{text}<b>" for key, text in tiny.queries.items()}
    write_beir(tmp_path / "tiny", RetrievalSet(name="tiny", corpus=tiny.corpus, queries=evil, qrels=tiny.qrels))
    manifest = slices_files(one_set(tmp_path / "tiny", None, None, split="test"), tmp_path / "out", {"m": encoder})
    assert manifest.counts["systems"] == 2
    results = read_json(tmp_path / "out" / "results.json")
    assert [one["name"] for one in results["slices"]][:2] == ["all queries", "short queries"]
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert table.startswith("| slice | queries | bm25 | change | m | change |\n| --- |")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "small talk" in page.text
    assert "泡绿茶的水要多热<b>" in page.text
    assert page.tags.count("svg") == 1
    again = slices_files(one_set(tmp_path / "tiny", None, None, split="test"), tmp_path / "out", {"m": encoder})
    assert again.reused
    with pytest.raises(InputError, match="no split 'dev'"):
        slices_files(one_set(tmp_path / "tiny", None, None, split="dev"), tmp_path / "none", {"m": encoder})


def test_a_set_of_other_writing_has_no_changes_that_need_chinese():
    data = RetrievalSet(
        name="latin", corpus={"p": Passage(text="abc def")}, queries={"q": "abc"}, qrels={"test": {"q": {"p": 1}}}
    )
    names = {one.name for one in measure_slices(data, "test", [Bm25System()]).slices}
    assert not names & {"characters swapped", "characters dropped", "homophones", "traditional script"}
    assert {"small talk", "punctuation added"} <= names
