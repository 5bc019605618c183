from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scripted import SUBJECTS, Scripted, fits, grade_by, shown

from zhihui.errors import InputError
from zhihui.records import RejectLog
from zhihui.synthesis import RewriteConfig
from zhihui.synthesis.methods import read_book
from zhihui.synthesis.rewrite import Rewritten, rewrite
from zhihui.synthesis.tools import Tools


def subject_of(ask):
    (query,) = shown(ask, "原查询")
    return next(subject for subject in SUBJECTS if subject in query)


def writer(**queries):
    """Return a writer that gives these for a subject, and a good one for any other."""

    def answer(ask):
        subject = subject_of(ask)
        return queries.get(subject) or Rewritten(difference="清洗", queries=[f"想给{subject}做清洁，该用什么擦"])

    return answer


def rewritten(examples, write, judge=fits, config=None):
    rejects = RejectLog(None)
    teacher = Scripted(rewrite=write, grade=grade_by(judge))
    made = rewrite(examples, config or RewriteConfig(), Tools(teacher=teacher, book=read_book(None), rejects=rejects))
    assert made.counts["accepted"] + rejects.counts.total() == made.counts["wanted"], "nothing may be lost"
    return made, rejects.counts, teacher


def test_a_query_that_tells_positives_from_negatives_is_accepted(examples):
    made, rejected, teacher = rewritten(examples, writer())
    assert not rejected
    first = made.examples[0]
    assert first.query == "想给红茶做清洁，该用什么擦"
    assert (first.pos, first.neg) == (examples[0].pos, examples[0].neg)
    assert (first.pos_scores, first.neg_scores) == ([4.0], [1.0, 1.0])
    assert first.id.startswith("q0-")
    assert first.meta["original"] == "红茶怎么清洗"
    assert first.meta["difference"] == "清洗"
    assert (first.meta["template"], first.meta["grades"]["template"]) == ("rewrite@1", "grade@1")
    assert {ask.role for ask in teacher.asked_with("grade")} == {"judge"}
    assert {ask.role for ask in teacher.asked_with("rewrite")} == {"writer"}


def test_one_passage_on_the_wrong_side_and_the_query_is_rejected(examples):
    def judge(query, passage):
        if "绿茶" in query:
            return 2
        if "小猫" in query and "通风" in passage:
            return 3
        return fits(query, passage)

    made, rejected, _ = rewritten(examples, writer(), judge)
    assert rejected == Counter(positive_fails=1, negative_answers=1)
    assert len(made.examples) == 8


def test_each_reason_is_counted(examples):
    given = [replace(examples[0], neg=[], meta={}), *examples[1:]]
    write = writer(
        绿茶="refused",
        自行车=Rewritten(difference="无", queries=[]),
        电动车=Rewritten(difference="无", queries=["how to clean it"]),
        小猫=Rewritten(difference="无", queries=["小猫怎么清洗？"]),
        小狗=Rewritten(difference="无", queries=["小狗" + "很脏" * 50]),
        雨伞=Rewritten(difference="无", queries=["想知道上述材料里雨伞怎么擦"]),
        雨靴=Rewritten(difference="无", queries=["雨靴沾泥了拿什么擦", "多写的一条"]),
    )
    made, rejected, _ = rewritten(given, write)
    assert rejected == Counter(
        no_negative=1,
        refused=1,
        not_written=1,
        not_chinese=1,
        near_duplicate=1,
        query_too_long=1,
        points_at_passage=1,
    )
    assert [example.meta["original"][:2] for example in made.examples] == ["雨靴", "番茄", "土豆"]
    assert made.counts["unasked"] == 1


def test_the_writer_sees_the_first_and_the_judge_all(examples):
    many = replace(examples[0], neg=[f"红茶的第{n}种放法是通风。" for n in range(12)], meta={})
    _, _, teacher = rewritten([many], writer(), config=RewriteConfig(negatives=3))
    assert shown(teacher.asked_with("rewrite")[0], "负例") == many.neg[:3]
    judged = [text for ask in teacher.asked_with("grade")[::2] for text in shown(ask, "材料")]
    assert sorted(judged) == sorted([*many.pos, *many.neg])


def test_several_queries_of_one_example_must_differ(examples):
    two = Rewritten(difference="清洗", queries=["想给红茶做清洁，该用什么擦", "想给红茶做清洁该用什么擦"])
    made, rejected, _ = rewritten(examples[:1], lambda ask: two, config=RewriteConfig(queries=2))
    assert len(made.examples) == 1
    assert rejected == Counter(near_duplicate=1)


def test_settings_out_of_bounds_are_refused():
    for given, message in (
        ({"queries": 0}, "queries is 0"),
        ({"positive_at": 1, "negative_below": 2}, "negative_below 2, positive_at 1"),
        ({"group": 0}, "group is 0"),
        ({"duplicate_at": 2}, "duplicate_at is 2"),
        ({"most_characters": 1}, "most_characters is 1; give at least 10"),
    ):
        with pytest.raises(InputError, match=message):
            RewriteConfig(**given)
