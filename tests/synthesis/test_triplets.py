from __future__ import annotations

import re
from collections import Counter

import pytest
from scripted import CARE, SUBJECTS, Scripted, grade_by, shown

from zhihui.errors import InputError
from zhihui.records import RejectLog
from zhihui.synthesis import TripletConfig
from zhihui.synthesis.checks import QueryChecks
from zhihui.synthesis.methods import read_book
from zhihui.synthesis.tools import Tools
from zhihui.synthesis.triplet import TasksWritten, TripletWritten, distil_triplets

TASKS = [f"关于{subject * 3}，{answer}" for subject in SUBJECTS[::2] for answer in CARE.values()]
LOOSE = QueryChecks(length_slack=50.0)


def number_of(ask):
    return int(re.search(r"样本编号 \d+-(\d+)", ask.user)[1])  # type: ignore[index]


def brainstorm(ask):
    number = int(re.search(r"第 \d+-(\d+) 批", ask.user)[1])  # type: ignore[index]
    return TasksWritten(tasks=TASKS[(number - 1) * 5 : number * 5])


def triplet(number, **changes):
    subject, other = SUBJECTS[number % 10], SUBJECTS[(number + 3) % 10]
    given = {
        "query": f"{subject}第{chr(0x4E00 + number * 37)}{chr(0x5100 + number * 53)}种毛病怎么处理",
        "positive": f"处理{subject}的毛病要先断开来源，"
        + "再一步一步检查各处，记下现象，" * 4
        + f"最后换掉{subject}坏的部分。",
        "hard_negative": f"挑选{other}的时候要看颜色，"
        + "多走几家比较价钱，问清产地，" * 4
        + f"不要一次买太多{other}。",
    }
    return TripletWritten(**(given | changes))


def distilled(config, tasks=brainstorm, write=lambda ask: triplet(number_of(ask)), judge=None):
    rejects = RejectLog(None)
    answers = {"tasks": tasks, "triplet": write} | ({} if judge is None else {"grade": grade_by(judge)})
    teacher = Scripted(**answers)
    made = distil_triplets(config, Tools(teacher=teacher, book=read_book(None), rejects=rejects))
    lost = rejects.counts.total() - sum(
        1 for ask in teacher.asked_with("tasks") if teacher.answers["tasks"](ask) == "refused"
    )
    assert made.counts["accepted"] + lost == config.triplets, "nothing may be lost"
    return made, rejects.counts, teacher


CONFIG = TripletConfig(triplets=12, tasks=6, tasks_per_call=5, checks=LOOSE)


def test_tasks_are_brainstormed_and_each_gets_its_share():
    made, rejected, teacher = distilled(CONFIG)
    assert not rejected
    assert len(teacher.asked_with("tasks")) == 2
    assert [ask.user.partition("。")[0] for ask in teacher.asked[:2]] == ["领域：医疗健康", "领域：法律与政务"]
    assert made.counts["tasks"] == 6
    assert Counter(example.meta["task"] for example in made.examples) == dict.fromkeys(TASKS[:6], 2)
    first = made.examples[0]
    assert first.prompt == first.meta["task"] == TASKS[0]
    assert (len(first.pos), len(first.neg), first.source) == (1, 1, "triplet")
    assert first.meta.keys() == {"method", "teacher", "template", "task", "persona", "type", "difficulty", "length"}
    assert len({ask.user for ask in teacher.asked}) == 14, "equal questions would get one answer"
    made, _, _ = distilled(TripletConfig(triplets=2, tasks=1, tasks_per_call=5, checks=LOOSE, instruction=False))
    assert made.examples[0].prompt is None


def test_near_tasks_and_tasks_in_another_language_are_left_out():
    tasks = TasksWritten(tasks=[TASKS[0], TASKS[0] + "。", "find an answer", TASKS[4]])
    made, _, teacher = distilled(TripletConfig(triplets=4, tasks=4, tasks_per_call=4, checks=LOOSE), lambda ask: tasks)
    assert made.counts["tasks"] == 2
    assert made.counts["tasks_left_out"] == 2
    assert [shown(ask, "任务")[0] for ask in teacher.asked_with("triplet")] == [TASKS[0], TASKS[4]] * 2


def test_each_reason_is_counted():
    def write(ask):
        number = number_of(ask)
        twin = triplet(number).positive
        changes = {
            1: {"query": "what is it"},
            2: {"positive": "太短。"},
            3: {"hard_negative": "长" * 600},
            4: {"hard_negative": twin[:-3] + "部件。"},
            5: {"query": triplet(6).query},
            7: {"positive": "much too English a text for this set, " * 4},
        }
        return "not_json" if number == 8 else triplet(number, **changes.get(number, {}))

    made, rejected, _ = distilled(CONFIG, write=write)
    assert rejected == Counter(
        not_chinese=1,
        positive_length=1,
        hard_negative_length=1,
        negative_is_positive=1,
        near_duplicate=1,
        positive_not_chinese=1,
        not_json=1,
    )
    assert len(made.examples) == 5


def test_without_a_task_nothing_is_written_and_nothing_lost():
    made, rejected, teacher = distilled(CONFIG, tasks=lambda ask: "refused")
    assert not made.examples
    assert rejected == Counter(refused=2, no_task=12)
    assert not teacher.asked_with("triplet")


def test_the_judge_sees_both_passages():
    def judge(query, passage):
        subject = query[:2]
        if subject == "绿茶":
            return 1
        if subject == "小猫":
            return 4
        return 4 if passage.startswith("处理") else 0

    config = TripletConfig(triplets=10, tasks=6, tasks_per_call=5, checks=LOOSE, judge=True)
    made, rejected, _ = distilled(config, judge=judge)
    assert rejected == Counter(positive_fails=1, negative_answers=1)
    assert made.examples[0].pos_scores == [4.0]
    assert made.examples[0].neg_scores == [0.0]
    assert made.examples[0].meta["grades"]["neg"] == [{"given": [0, 0], "reason": "等级0"}]


def test_the_seed_gives_other_questions():
    _, _, first = distilled(CONFIG)
    _, _, again = distilled(CONFIG)
    _, _, other = distilled(TripletConfig(triplets=12, tasks=6, tasks_per_call=5, checks=LOOSE, seed=1))
    assert [ask.user for ask in first.asked] == [ask.user for ask in again.asked]
    assert not {ask.user for ask in first.asked} & {ask.user for ask in other.asked}


def test_settings_out_of_bounds_are_refused():
    for given, message in (
        ({"triplets": 0}, "triplets is 0"),
        ({"domains": ()}, "domains is empty"),
        ({"passage_least": 90, "passage_most": 80}, "passage_most is 80, below passage_least 90"),
        ({"positive_at": 0}, "positive_at is 0"),
        ({"duplicate_at": 0}, "duplicate_at is 0"),
    ):
        with pytest.raises(InputError, match=message):
            TripletConfig(**given)
