from __future__ import annotations

import pytest

from zhihui.errors import InputError
from zhihui.synthesis.checks import QueryChecks, chinese_share, fault_of
from zhihui.synthesis.draws import LENGTHS, TYPES, Variety

PASSAGE = "承租人返还租赁物时，出租人应当在扣除水电费之后把押金退还给承租人，不得无故拖延。"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("押金什么时候退", None),
        ("Kubernetes Pod 如何调度", None),
        ("  ", "blank_query"),
        ("how to get my deposit back", "not_chinese"),
        ("押金", "query_too_short"),
        ("押金" * 20, "query_too_long"),
        ("本文中的押金怎么退", "points_at_passage"),
        ("根据材料，押金怎么退", "points_at_passage"),
        ("在扣除水电费之后把押金退还给承租人吗", "copied"),
        ("扣除水电费 押金", None),
    ],
)
def test_faults_have_their_reason(query, reason):
    found = fault_of(query, QueryChecks(), passage=PASSAGE, length=(6, 20))
    assert (found and found[0]) == reason


def test_bounds_move_the_verdict():
    copied = "在扣除水电费之后把押金退还给承租人吗"
    assert fault_of(copied, QueryChecks(copied_run=18), passage=PASSAGE) is None
    assert fault_of(copied, QueryChecks(copied_share=1.0), passage=PASSAGE) is None
    assert fault_of("押金", QueryChecks(length_slack=1.0), length=(6, 20)) is None
    assert fault_of("deposit", QueryChecks(chinese=0)) is None
    assert chinese_share("Pod 调度 1") == 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chinese": 1.5}, "chinese is 1.5; give a share from 0 to 1"),
        ({"copied_run": 0}, "copied_run is 0; give at least 1"),
        ({"copied_share": -1}, "copied_share is -1"),
        ({"length_slack": -0.1}, "length_slack is -0.1"),
    ],
)
def test_bounds_out_of_range_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        QueryChecks(**given)


def test_draws_are_the_seed_s_and_use_every_type_before_one_again():
    variety = Variety()
    drawn = variety.draw(7, "3\0passage")
    assert drawn == variety.draw(7, "3\0passage") != variety.draw(7, "4\0passage")
    assert {one.type for one in drawn[:5]} == set(TYPES)
    assert len({one.persona for one in drawn}) == 7
    assert [one.number for one in drawn] == [1, 2, 3, 4, 5, 6, 7]
    assert all(one.characters == LENGTHS[one.type][one.length] for one in drawn)
    only = Variety(types=("title",), personas=("店主",), lengths=("short",), difficulties=("hard",)).draw(3, "")
    assert {(one.type, one.persona, one.length, one.difficulty) for one in only} == {("title", "店主", "short", "hard")}
    with pytest.raises(InputError, match="types is empty"):
        Variety(types=())
    with pytest.raises(InputError, match="blank"):
        Variety(personas=("",))
