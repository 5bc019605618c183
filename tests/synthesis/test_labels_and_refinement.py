from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scripted import Scripted, fits, grade_by

from zhihui.errors import InputError
from zhihui.records import Example, RejectLog
from zhihui.synthesis import LabelConfig, RefineConfig
from zhihui.synthesis.label import distil_labels
from zhihui.synthesis.methods import read_book
from zhihui.synthesis.refine import refine
from zhihui.synthesis.tools import Tools

GRADES = {"五": 4, "四": 3, "三": 2, "一": 1, "零": 0}


def by_first(query, passage):
    return GRADES[passage[0]]


def done(make, examples, config, answer):
    rejects = RejectLog(None)
    made = make(examples, config, Tools(teacher=Scripted(grade=answer), book=read_book(None), rejects=rejects))
    assert made.counts["accepted"] + rejects.counts.total() == len(examples), "nothing may be lost"
    return made, rejects.counts


def test_labels_become_scores_with_reasons(examples):
    made, rejected = done(distil_labels, examples, LabelConfig(), grade_by(fits))
    assert not rejected
    assert [example.pos_scores for example in made.examples] == [[4.0]] * 10
    assert [example.neg_scores for example in made.examples] == [[1.0, 1.0]] * 10
    assert made.examples[0].meta["grades"] == {
        "teacher": ["scripted"],
        "template": "grade@1",
        "pos": [{"given": [4, 4], "reason": "等级4"}],
        "neg": [{"given": [1, 1], "reason": "等级1"}, {"given": [1, 1], "reason": "等级1"}],
    }
    assert made.examples[0].meta["negatives"] == examples[0].meta["negatives"]
    assert made.examples[0].neg == examples[0].neg
    assert "grades" not in examples[0].meta, "the given examples stay as they were"


def test_an_example_that_could_not_be_graded_is_rejected_whole(examples):
    def answer(ask):
        return "cut_off" if "小猫怎么清洗" in ask.user else grade_by(fits)(ask)

    made, rejected = done(distil_labels, examples, LabelConfig(), answer)
    assert rejected == Counter(cut_off=1)
    assert [example.id for example in made.examples] == [f"q{n}" for n in range(10) if n != 4]


def test_an_example_without_an_id_gets_a_stable_one():
    example = Example(query="问", pos=["五"])
    (first,), (second,) = (done(distil_labels, [example], LabelConfig(), grade_by(by_first))[0].examples for _ in "ab")
    assert first.id == second.id
    (other,) = done(distil_labels, [replace(example, query="问题")], LabelConfig(), grade_by(by_first))[0].examples
    assert other.id != first.id


MIXED = Example(
    query="问",
    pos=["四甲", "五甲", "三甲", "零甲"],
    neg=["零乙", "四乙", "三乙", "一乙"],
    id="m",
    meta={
        "pos_ids": ["p0", "p1", "p2", "p3"],
        "neg_ids": ["n0", "n1", "n2", "n3"],
        "negatives": [{"rank": 0}, {"rank": 1}, {"rank": 2}, {"rank": 3}],
        "grades": {"pos": [], "neg": []},
        "own": 1,
    },
)


def refined(config, example=MIXED):
    made, rejected = done(refine, [example], config, grade_by(by_first))
    return made.examples[0] if made.examples else None, made.counts["passages_by_fate"], rejected


def test_the_best_become_positives_borderline_goes_and_each_decision_is_kept():
    found, fates, _ = refined(RefineConfig())
    assert found.pos == ["五甲", "四甲", "四乙"]
    assert found.pos_scores == [4.0, 3.0, 3.0]
    assert found.neg == ["零乙", "一乙", "零甲"]
    assert found.neg_scores == [0.0, 1.0, 0.0]
    assert fates == {
        "neg_borderline": 1,
        "neg_kept": 2,
        "neg_promoted": 1,
        "pos_borderline": 1,
        "pos_demoted": 1,
        "pos_kept": 2,
    }
    assert found.meta["pos_ids"] == ["p1", "p0", "n1"]
    assert found.meta["neg_ids"] == ["n0", "n3", "p3"]
    assert found.meta["negatives"] == [{"rank": 0}, {"rank": 3}, {"miner": "demoted", "rank": None, "score": None}]
    assert found.meta["own"] == 1
    assert "grades" not in found.meta
    decisions = found.meta["refinement"]["decisions"]
    assert len(decisions) == 8
    assert decisions[2] == {
        "from": "pos", "place": 2, "to": "removed", "why": "borderline", "grade": 2.0, "reason": "等级2"
    }  # fmt: skip


def test_false_ones_are_removed_when_asked():
    found, fates, _ = refined(RefineConfig(false_positives="remove", false_negatives="remove", positives=1))
    assert found.pos == ["五甲"]
    assert found.neg == ["零乙", "一乙"]
    assert fates["pos_not_among_best"] == fates["pos_false_positive"] == fates["neg_false_negative"] == 1


def test_thresholds_move_the_verdict():
    found, _, _ = refined(RefineConfig(positive_at=2, negative_at=0.5))
    assert found.pos == ["五甲", "四甲", "四乙", "三甲", "三乙"]
    assert found.neg == ["零乙", "零甲"]


def test_lists_about_passages_go_when_they_cannot_be_kept_true():
    without = replace(MIXED, meta={"pos_ids": ["p0", "p1", "p2", "p3"]})
    found, _, _ = refined(RefineConfig(), without)
    assert "pos_ids" not in found.meta, "a promoted negative has no id"
    assert "neg_ids" not in found.meta


def test_a_text_on_both_sides_ends_on_one():
    found, fates, _ = refined(RefineConfig(), Example(query="问", pos=["五甲", "零甲"], neg=["五甲", "零甲", "零甲"]))
    assert (found.pos, found.neg) == (["五甲"], ["零甲"])
    assert fates == {"pos_kept": 1, "pos_demoted": 1, "neg_repeated": 3}


def test_an_example_without_a_positive_left_is_rejected_with_its_decisions():
    made, _, rejected = refined(RefineConfig(), Example(query="问", pos=["三甲"], neg=["零乙"]))
    assert made is None
    assert rejected == Counter(no_positive=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positive_at": 1, "negative_at": 2}, "negative_at 2, positive_at 1: give grades from 0 to 4"),
        ({"positive_at": 5}, "positive_at 5"),
        ({"positives": 0}, "positives is 0; give at least 1"),
        ({"false_negatives": "keep"}, "false_negatives is 'keep'; use promote or remove"),
        ({"group": 0}, "group is 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        RefineConfig(**given)
