from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import GOOD, Answer, Loopback, always, completion
from pydantic import BaseModel
from questions import Grade, ask, endpoint, outcomes, teacher

from zhihui.errors import InputError, RunFailure
from zhihui.teacher import Budget, Limits, Parameters
from zhihui.teacher.request import first_request


def test_an_answer_comes_back_as_its_schema_and_the_second_time_without_a_call(tmp_path):
    with Loopback(always(GOOD)) as server, teacher(tmp_path, server.url) as asked:
        (first,) = asked.ask([ask()], label="t")
        (again,) = asked.ask([ask()], label="t")
        assert first.value == again.value == Grade(grade=3, reason="答了")
        assert (first.cached, again.cached) == (False, True)
        assert first.teacher == "m"
        assert len(server.calls) == 1
        assert asked.counts == {"calls": 1, "prompt_tokens": 10, "answer_tokens": 5, "cost": 6e-05, "cached": 1}


def test_what_is_sent_is_what_the_config_says(tmp_path):
    parameters = Parameters(
        temperature=0.5, top_p=0.9, seed=7, max_answer_tokens=50, extra_body={"chat_template_kwargs": {"think": False}}
    )
    _, server, _ = outcomes(tmp_path, always(GOOD), parameters=parameters, query={"api-version": "1"})
    (call,) = server.calls
    assert call.path == "/v1/chat/completions?api-version=1"
    asked = call.body
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    sent = {name: asked[name] for name in ("model", "temperature", "top_p", "seed", "max_tokens")}
    assert sent == {"model": "m", "temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 50}
    assert asked["chat_template_kwargs"] == {"think": False}
    shape = asked["response_format"]["json_schema"]
    assert shape["strict"]
    assert shape["schema"]["required"] == ["grade", "reason"]
    assert shape["schema"]["additionalProperties"] is False
    assert "default" not in shape["schema"]["properties"]["reason"]


def test_outcomes_come_in_the_order_of_the_questions_though_answers_do_not(tmp_path):
    def slow_first(call):
        return replace(GOOD, wait=0.2 if "问题0：" in call.user else 0)

    found, server, _ = outcomes(tmp_path, slow_first, asks=[ask(number) for number in range(40)])
    assert [outcome.ask.id for outcome in found] == [f"q{number}" for number in range(40)]
    assert server.most_open > 1


def test_no_more_calls_are_under_way_than_allowed(tmp_path):
    _, server, _ = outcomes(
        tmp_path,
        always(replace(GOOD, wait=0.01)),
        asks=[ask(number) for number in range(30)],
        limits=Limits(concurrency=3),
    )
    assert server.most_open == 3


def test_the_same_question_twice_at_once_is_one_call(tmp_path):
    found, server, _ = outcomes(tmp_path, always(replace(GOOD, wait=0.05)), asks=[ask()] * 10)
    assert len(found) == 10
    assert len(server.calls) == 1
    assert [outcome.cached for outcome in found].count(True) == 9


def test_a_teacher_without_the_role_says_how_to_name_one(tmp_path):
    with teacher(tmp_path, "http://127.0.0.1:9/v1") as asked:
        object.__setattr__(asked.config, "roles", {"writer": ("e0",)})
        with pytest.raises(InputError, match="no teacher for the role judge; add it to roles"):
            list(asked.ask([ask()], label="t"))


def test_questions_may_be_fed_by_the_outcomes_of_others(tmp_path):
    with (
        Loopback(always(replace(GOOD, wait=0.002))) as server,
        teacher(tmp_path, server.url, limits=Limits(concurrency=2)) as asked,
    ):
        first = asked.ask((ask(number) for number in range(100)), label="first")
        second = asked.ask((ask(f"{one.ask.id}-again", role="writer") for one in first), label="second")
        assert [one.ask.id for one in second] == [f"qq{number}-again" for number in range(100)]
        assert len(server.calls) == 200


def test_questions_are_taken_only_a_bounded_number_ahead(tmp_path):
    taken = []

    def questions():
        for number in range(10_000):
            taken.append(number)
            yield ask(number)

    with Loopback(always(GOOD)) as server, teacher(tmp_path, server.url) as asked:
        asking = asked.ask(questions(), label="t")
        next(asking)
        assert 0 < len(taken) <= 4 * 8
        asking.close()


def test_an_ask_that_is_left_early_leaves_nothing_running(tmp_path):
    before = set(threading.enumerate())
    with (
        Loopback(lambda call: replace(GOOD, wait=0 if "问题0：" in call.user else 30)) as server,
        teacher(tmp_path, server.url) as asked,
    ):
        asking = asked.ask((ask(number) for number in range(100)), label="t")
        assert next(asking).value is not None
        start = time.monotonic()
        asking.close()
        assert time.monotonic() - start < 4, "it waited for the calls under way, which would have timed out at 5 s"
        assert not [thread for thread in threading.enumerate() if thread.name == "teacher"]
        assert asked.counts["calls"] > 1, "calls whose answer is unknown count as made"
        (later,) = asked.ask([ask(0)], label="t")
        assert later.cached
    assert set(threading.enumerate()) == before


def test_a_stop_of_the_outer_of_two_asks_ends_both(tmp_path):
    with Loopback(always(GOOD)) as server, teacher(tmp_path, server.url, budget=Budget(calls=50)) as asked:
        first = asked.ask((ask(number) for number in range(100)), label="first")
        second = asked.ask((ask(f"{one.ask.id}-again", role="writer") for one in first), label="second")
        del first
        with pytest.raises(RunFailure, match=r"calls 50 of 50"):
            list(second)
        assert len(server.calls) == asked.counts["calls"] == 50
        assert asked._cache._base.execute("SELECT COUNT(*) FROM replies").fetchone() == (50,)


def test_an_ask_that_outlives_its_teacher_ends_quietly(tmp_path):
    with Loopback(lambda call: replace(GOOD, wait=0 if "问题0：" in call.user else 30)) as server:
        with teacher(tmp_path, server.url) as asked:
            asking = asked.ask((ask(number) for number in range(9)), label="t")
            next(asking)
        assert not [thread for thread in threading.enumerate() if thread.name == "teacher"]
        asking.close()


def test_an_ask_that_nobody_closes_does_not_keep_the_process(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from questions import ask, teacher
asking = teacher(Path({str(tmp_path)!r}), sys.argv[1]).ask((ask(number) for number in range(9)), label="t")
next(asking)
"""
    with Loopback(lambda call: replace(GOOD, wait=0 if "问题0：" in call.user else 30)) as server:
        assert subprocess.run([sys.executable, "-c", code, server.url], timeout=60).returncode == 0


def test_an_error_in_the_questions_ends_the_asking_as_it_is(tmp_path):
    def questions():
        yield ask(1)
        raise KeyError("mine")

    with (
        Loopback(always(replace(GOOD, wait=30))) as server,
        teacher(tmp_path, server.url) as asked,
        pytest.raises(KeyError, match="mine"),
    ):
        list(asked.ask(questions(), label="t"))


def test_calls_wait_for_those_under_way_where_both_might_exceed_the_budget(tmp_path):
    # Ten calls take 150 tokens in all; at its worst one alone may take several hundred.
    worst = first_request(endpoint("http://e"), ask()).most_tokens + 100
    found, server, counts = outcomes(
        tmp_path, always(GOOD), asks=[ask(number) for number in range(10)], budget=Budget(tokens=worst + 150)
    )
    assert [one.value.grade for one in found] == [3] * 10
    assert counts["prompt_tokens"] + counts["answer_tokens"] == 150
    assert server.most_open == 1


class Nested(BaseModel):
    first: Grade = Grade(grade=1)
    rest: list[Grade] = []


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"parameters": Parameters(max_answer_tokens=100, seed=1)},
        {"query": {"v": "2"}},
        {"asks": [replace(ask(), user="另一个问题")]},
        {"asks": [replace(ask(), system="另一个身份")]},
        {"asks": [ask(schema=Nested)]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_an_answer_makes_another_request(tmp_path, change):
    with Loopback(always(GOOD)) as server:
        for changes in ({}, {}, change):
            asks = changes.get("asks", [ask()])
            with teacher(tmp_path, server.url, **{name: changes[name] for name in changes if name != "asks"}) as asked:
                list(asked.ask(asks, label="t"))
        assert len(server.calls) == 2


def test_nested_schemas_stay_valid_when_made_strict(tmp_path):
    answer = completion(json.dumps({"first": {"grade": 2}, "rest": [{"grade": 0}]}))
    found, server, _ = outcomes(tmp_path, always(answer), asks=[ask(schema=Nested)])
    assert found[0].value == Nested(first=Grade(grade=2), rest=[Grade(grade=0)])
    schema = server.calls[0].body["response_format"]["json_schema"]["schema"]
    assert schema["$defs"]["Grade"]["additionalProperties"] is False
    assert "default" not in json.dumps(schema)


def test_a_usage_that_is_not_told_counts_at_its_worst(tmp_path):
    silent = {name: value for name, value in GOOD.body.items() if name != "usage"}
    *_, counts = outcomes(tmp_path, always(Answer(silent)))
    assert counts["answer_tokens"] == 100
    assert counts["prompt_tokens"] >= len(ask().user.encode())


def test_an_estimate_sends_nothing_and_knows_the_cache(tmp_path):
    asks = [ask(number) for number in range(10)]
    with Loopback(always(GOOD)) as server, teacher(tmp_path, server.url) as asked:
        before = asked.estimate([*asks, asks[0]])
        assert not server.calls
        assert (before.asks, before.calls, before.cached) == (11, 10, 0)
        assert before.answer_tokens == 10 * 100
        assert before.cost == pytest.approx((before.prompt_tokens * 1 + 1000 * 10) / 1e6, rel=1e-6)
        list(asked.ask(asks[:4], label="t"))
        after = asked.estimate(asks)
        assert (after.calls, after.cached) == (6, 4)
        assert len(server.calls) == 4


def test_asking_inside_a_running_event_loop_is_allowed(tmp_path):
    async def main(url):
        with teacher(tmp_path, url) as asked:
            return list(asked.ask([ask()], label="t"))

    with Loopback(always(GOOD)) as server:
        assert asyncio.run(main(server.url))[0].value is not None


def test_the_fingerprint_is_of_what_decides_the_answers(tmp_path):
    url = "http://127.0.0.1:9/v1"
    with teacher(tmp_path, url) as one:
        base = one.fingerprint
    same = {"budget": Budget(calls=3), "timeout": 9.0, "limits": Limits(concurrency=2), "run": "other"}
    other = {"model": "n", "parameters": Parameters(temperature=1.0, max_answer_tokens=100), "context": 5000}
    for name, value in same.items():
        with teacher(tmp_path, url, **{name: value}) as one:
            assert one.fingerprint == base, name
    for name, value in other.items():
        with teacher(tmp_path, url, **{name: value}) as one:
            assert one.fingerprint != base, name
