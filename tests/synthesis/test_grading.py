from __future__ import annotations

import pytest
from scripted import Scripted, fits, grade_by, shown

from zhihui.errors import InputError
from zhihui.synthesis.grading import GradeGiven, Grader, GradesGiven, GradingConfig, Item
from zhihui.synthesis.methods import read_book

PASSAGES = [f"第{number}段" for number in range(10)]


def graded(teacher, config=None, items=None):
    grader = Grader(teacher, read_book(None), config or GradingConfig())
    items = items or [Item(id="q", query="问", passages=PASSAGES)]
    return list(grader.grade(items, label="grade")), grader.counts()


def test_each_group_is_shown_in_an_order_and_in_its_reverse():
    teacher = Scripted(grade=grade_by(lambda query, passage: int(passage[1]) % 5))
    (found,), counts = graded(teacher, GradingConfig(group=4))
    orders = [shown(ask, "材料") for ask in teacher.asked]
    assert [len(order) for order in orders] == [4, 4, 4, 4, 2, 2]
    assert orders[0] == orders[1][::-1]
    assert orders[2] == orders[3][::-1]
    assert sorted(text for order in orders[::2] for text in order) == PASSAGES
    assert orders[0] + orders[2] + orders[4] != PASSAGES
    assert [grade.mean for grade in found.grades] == [number % 5 for number in range(10)]
    assert all(len(grade.given) == 2 for grade in found.grades)
    assert counts["graded"] == 10
    assert counts["disagreements"] == 0


def test_orders_are_the_seed_s():
    def orders(seed):
        teacher = Scripted(grade=grade_by(lambda query, passage: 2))
        graded(teacher, GradingConfig(seed=seed))
        return [ask.user for ask in teacher.asked]

    assert orders(1) == orders(1) != orders(2)


def test_a_judge_that_favours_places_is_seen_and_balanced():
    """A judge that takes off a grade for every place further down gives all passages the same mean."""

    def answer(ask):
        count = len(shown(ask, "材料"))
        return GradesGiven(grades=[GradeGiven(number=n, grade=5 - n, reason="位") for n in range(1, count + 1)])

    teacher = Scripted(grade=answer)
    (found,), counts = graded(teacher, GradingConfig(group=5), [Item(id="q", query="问", passages=PASSAGES[:5])])
    assert [grade.mean for grade in found.grades] == [2.0] * 5
    assert sorted(grade.spread for grade in found.grades) == [0, 2, 2, 4, 4]
    assert counts["disagreements"] == 4
    assert counts["earlier_place_adds"] == 3.0  # of the four passages that moved: 4, 4, 2 and 2 grades


def test_one_passage_is_asked_once_and_three_orders_give_three_grades():
    teacher = Scripted(grade=grade_by(lambda query, passage: 3))
    (found,), _ = graded(teacher, None, [Item(id="q", query="问", passages=["唯一"])])
    assert found.grades[0].given == [3]
    (found,), _ = graded(teacher, GradingConfig(orders=3), [Item(id="q", query="问", passages=["甲", "乙"])])
    assert found.grades[0].given == [3, 3, 3]


def test_an_item_with_a_failure_has_no_grades_and_the_others_do():
    def answer(ask):
        if "坏" in ask.user:
            return "refused"
        if "漏" in ask.user:
            return GradesGiven(grades=[GradeGiven(number=1, grade=4, reason="一")])
        return grade_by(fits)(ask)

    items = [Item(id=query, query=query, passages=["甲", "乙"]) for query in ("好", "坏", "漏", "也好")]
    found, counts = graded(Scripted(grade=answer), None, items)
    assert [(each.item.id, each.failure) for each in found] == [
        ("好", None),
        ("坏", "refused"),
        ("漏", "ungraded"),
        ("也好", None),
    ]
    assert [len(each.grades) for each in found] == [2, 0, 0, 2]
    assert found[2].detail == "the judge left out passage 2 of 2"
    assert counts["graded"] == 4


def test_repeated_and_unknown_numbers_do_not_count():
    given = [(1, 4), (1, 0), (7, 2), (2, 1)]
    answer = GradesGiven(grades=[GradeGiven(number=n, grade=grade, reason=str(grade)) for n, grade in given])
    (found,), _ = graded(Scripted(grade=lambda ask: answer), None, [Item(id="q", query="问", passages=["甲", "乙"])])
    assert sorted(grade.given for grade in found.grades) == [[1, 4], [4, 1]]


def test_a_long_passage_is_cut_and_counted_once():
    teacher = Scripted(grade=grade_by(lambda query, passage: 1))
    _, counts = graded(
        teacher, GradingConfig(passage_characters=50), [Item(id="q", query="问", passages=["短", "长" * 90])]
    )
    assert {len(text) for ask in teacher.asked for text in shown(ask, "材料")} == {1, 50}
    assert (counts["texts_cut"], counts["texts_cleaned"]) == (1, 0)


def test_numbers_out_of_bounds_are_refused():
    for given, message in (
        ({"group": 0}, "group is 0; give at least 1"),
        ({"orders": 0}, "orders is 0"),
        ({"passage_characters": 5}, "passage_characters is 5; give at least 50"),
    ):
        with pytest.raises(InputError, match=message):
            GradingConfig(**given)
