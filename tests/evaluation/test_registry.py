"""The published systems as data: scores, averages, and what cannot be run."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest

from zhihui.errors import InputError
from zhihui.evaluation.cmteb import tasks
from zhihui.evaluation.registry import check_runnable, find_system, systems

TABLE = {"zhihui": "76.74", "zpoint": "76.36", "gte-qwen2-7b": "76.03", "360zhinao": "75.06", "age-hybrid": "74.97"}
"""The five systems of the table of June 2024 and their averages."""


def mean(key: str) -> Decimal:
    return sum((Decimal(str(score)) for score in find_system(key).scores.values()), Decimal()) / 8


@pytest.mark.parametrize("key", TABLE)
def test_the_averages_of_the_table_follow_from_its_scores(key: str) -> None:
    assert str(mean(key).quantize(Decimal("0.01"), ROUND_HALF_UP)) == TABLE[key]
    assert find_system(key).average == float(TABLE[key])


@pytest.mark.parametrize("key", systems())
def test_every_system_has_a_score_for_each_task_and_their_average(key: str) -> None:
    system = find_system(key)
    assert list(system.scores) == list(tasks())
    # Rounded scores may be off by half a hundredth each, and so may their mean.
    assert abs(mean(key) - Decimal(str(system.average))) <= Decimal("0.005")
    assert system.source
    assert system.hub.count("/") == 1


def test_the_table_comes_first_and_in_its_order() -> None:
    assert list(systems())[:5] == sorted(TABLE, key=lambda key: -float(TABLE[key])) == list(TABLE)


def test_a_system_is_told_its_task_only_where_its_prompt_has_room_for_it() -> None:
    assert find_system("zhihui").template == "Instruct: {task}\nQuery: "
    assert find_system("bge-large-zh-v1.5").template is None
    assert find_system("zpoint").template is None


@pytest.mark.parametrize(
    ("key", "trust", "message"),
    [
        ("age-hybrid", True, "AGE_Hybrid: its weights were never published, so it cannot be run; .*74.97"),
        ("conan-v2", True, "Conan-embedding-v2: it is behind a paid service"),
        ("qzhou-zh", False, "runs only with the code of Kingsoft-LLM/QZhou-Embedding-Zh; allow it by --trust-remote"),
    ],
)
def test_what_cannot_be_run_says_so(key: str, trust: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_runnable(find_system(key), trust_remote_code=trust)


@pytest.mark.parametrize(("key", "trust"), [("zhihui", False), ("zpoint", False), ("qzhou-zh", True)])
def test_what_can_be_run_is_let_through(key: str, trust: bool) -> None:
    check_runnable(find_system(key), trust_remote_code=trust)


def test_an_unknown_system_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"system 'gte-qwen-7b' is unknown; did you mean gte-qwen2-7b\?"):
        find_system("gte-qwen-7b")
