"""`zhihui synth` over Ray: the examples of one machine, one budget, and nothing paid twice."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import closing

import pytest
from loopback import Loopback, completion
from questions import ask, teacher

from zhihui.distributed.teacher import RayTeacher
from zhihui.errors import RunFailure
from zhihui.records import write_rows
from zhihui.synthesis.grading import GradeGiven
from zhihui.teacher import Budget

pytestmark = pytest.mark.slow
TEACHER = """
endpoints: {{small: {{base_url: {url}, model: tiny, limits: {{concurrency: 4}}}}}}
roles: {{writer: [small]}}
budget: {{calls: {calls}}}
cache: {cache}
"""
TOPICS = ["红茶", "绿茶", "香菇", "木耳", "海带", "粉丝", "番茄", "土豆", "雨伞", "小猫", "小狗", "单车"]


def write_query(call):
    topic = next(topic for topic in TOPICS if f"{topic}的说明" in call.user)
    return completion(json.dumps({"queries": [{"number": 1, "query": f"家里的{topic}怎么处理才好"}]}))


def grade(call):
    number = int(re.search(r"问题(\d+)", call.user).group(1))
    return completion(json.dumps({"number": 1, "grade": number % 5, "reason": f"第{number}题"}))


def paid(server):
    """Return what was asked, which the server was paid for as often as it was asked."""
    return sorted(call.user for call in server.calls)


def test_the_examples_are_those_of_one_machine_and_the_budget_is_one(cluster, zhihui, tmp_path):
    rows = [{"_id": f"p{n}", "text": f"{topic}的说明：先洗净，再放好。"} for n, topic in enumerate(TOPICS)]
    write_rows(tmp_path / "corpus.jsonl", rows)
    common = ["synth", "query", tmp_path / "corpus.jsonl", "--set", "queries=1", "--set", "retriever=none"]
    with Loopback(write_query) as server:
        for name, calls in (("here", 12), ("poor", 7), ("rich", 12)):
            given = TEACHER.format(
                url=server.url, calls=calls, cache=tmp_path / f"{name.replace('rich', 'poor')}.sqlite"
            )
            (tmp_path / f"{name}.yaml").write_text(given, encoding="utf-8")
        zhihui(*common, "--teacher", tmp_path / "here.yaml", "--out", tmp_path / "here")
        once = paid(server)
        server.calls.clear()
        over_ray = [*common, "--out", tmp_path / "there", "--ray", "local"]
        with pytest.raises(RunFailure, match="the teacher's budget is used up: calls 7 of 7"):
            zhihui(*over_ray, "--teacher", tmp_path / "poor.yaml")
        assert len(server.calls) == 7
        assert not (tmp_path / "there").exists()
        shown = json.loads(zhihui(*over_ray, "--teacher", tmp_path / "rich.yaml", "--json"))
        assert paid(server) == once, "what was answered before the budget ended is not asked again"
    counts = shown["manifest"]["counts"]
    assert counts["accepted"] > 0
    assert counts["teacher"] == {"calls": 12, "prompt_tokens": 120, "answer_tokens": 60, "cost": 0.0, "cached": 7}
    for name in ("train.jsonl", "rejected.jsonl"):
        here, there = tmp_path / "here" / name, tmp_path / "there" / name
        assert here.exists() == there.exists()
        assert not here.exists() or here.read_bytes() == there.read_bytes()


def test_a_worker_that_dies_is_replaced_and_its_answers_are_kept(cluster, tmp_path):
    questions = [ask(number, schema=GradeGiven) for number in range(60)]
    found = []
    with (
        Loopback(grade) as server,
        teacher(tmp_path, server.url, budget=Budget(calls=70)) as asked,
        closing(RayTeacher(cluster, asked)) as workers,
    ):
        for outcome in workers.ask(questions, label="t"):
            found.append(outcome)
            if len(found) == 3:
                os.kill(workers._ray.get(workers._workers[1].process.remote()), signal.SIGKILL)
        calls = workers.counts["calls"]
    assert [outcome.ask for outcome in found] == questions
    assert [outcome.value.grade for outcome in found] == [number % 5 for number in range(60)]
    assert len(server.calls) - len(set(paid(server))) <= 8, "only calls that were under way when it died are made again"
    assert calls >= len(server.calls), "each of them is booked"


def test_a_budget_in_tokens_is_never_exceeded(cluster, tmp_path):
    questions = [ask(number, schema=GradeGiven) for number in range(40)]
    budget = Budget(tokens=1600)  # a call is booked at over 900 and charged 15: only one can be under way
    with Loopback(grade) as server, teacher(tmp_path, server.url, budget=budget) as asked:
        with closing(RayTeacher(cluster, asked)) as workers:
            found = list(workers.ask(questions, label="t"))
        assert workers.counts["prompt_tokens"] + workers.counts["answer_tokens"] == 40 * 15
    assert len(server.calls) == len(found) == 40, "a worker waits for what the other's calls turn out to cost"
