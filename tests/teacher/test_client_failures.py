from __future__ import annotations

import time
from dataclasses import replace

import pytest
from loopback import GOOD, Answer, Loopback, always, completion, error, in_turn
from questions import Grade, ask, outcomes, teacher

from zhihui.errors import RunFailure
from zhihui.teacher import Limits

KEY = "sk-never-to-be-seen-0123456789"


@pytest.mark.parametrize(
    ("refused", "form"),
    [({"json_schema"}, "json_object"), ({"json_schema", "json_object"}, "text")],
    ids=["no schema", "no format at all"],
)
def test_a_format_that_is_answered_400_is_not_tried_again(tmp_path, refused, form):
    def answering(call):
        if call.form in refused:
            return error(400, f"response_format {call.form} is not supported")
        assert "JSON Schema" in call.body["messages"][0]["content"]
        return GOOD

    with Loopback(answering) as server, teacher(tmp_path, server.url) as asked:
        assert next(iter(asked.ask([ask(1)], label="t"))).value is not None
        assert len(server.calls) == 1 + len(refused)
        assert [one.value.grade for one in asked.ask([ask(2), ask(3)], label="t")] == [3, 3]
        assert [call.form for call in server.calls[1 + len(refused) :]] == [form, form]
        assert asked.counts["calls"] == 3, "what is refused is not charged"


@pytest.mark.parametrize(
    ("answering", "failure", "calls"),
    [
        (always(completion(None, refusal="我不能回答")), "refused", 1),
        (always(completion("", finish="content_filter")), "content_filter", 1),
        (always(error(400, "filtered", code="content_filter")), "content_filter", 1),
        (always(error(400, "Output data may contain inappropriate content.")), "content_filter", 1),
        (always(completion('{"grade": 3, "rea', finish="length")), "cut_off", 1),
        (always(completion("<think>让我想想", finish="length")), "cut_off", 1),
        (always(completion(None, finish="length")), "cut_off", 1),
        (always(error(400, "too long", code="context_length_exceeded")), "too_long", 1),
        (always(error(400, "This model's maximum context length is 10 tokens.")), "too_long", 1),
        (always(error(413, "Request Entity Too Large")), "too_long", 1),
        (always(completion("相关")), "not_json", 2),
        (always(completion('{"grade": 9}')), "wrong_schema", 2),
        (in_turn(completion("相关"), completion('{"grade": 9}')), "wrong_schema", 2),
    ],
)
def test_each_way_of_failing_has_its_name_and_is_not_paid_for_again(tmp_path, answering, failure, calls):
    with Loopback(answering) as server, teacher(tmp_path, server.url) as asked:
        (first,) = asked.ask([ask()], label="t")
        assert (first.value, first.failure) == (None, failure)
        assert first.detail
        assert not first.cached
        assert len(server.calls) == calls
    with Loopback(answering) as other, teacher(tmp_path, server.url) as asked:
        (again,) = asked.ask([ask()], label="t")
        assert (again.failure, again.detail, again.cached) == (failure, first.detail, True)
        assert not other.calls


def test_a_fault_is_shown_to_the_teacher_once_and_mended(tmp_path):
    found, server, counts = outcomes(tmp_path, in_turn(completion('{"grade": 9}'), GOOD))
    assert found[0].value == Grade(grade=3, reason="答了")
    first, second = server.calls
    assert second.body["messages"][:2] == first.body["messages"]
    assert second.body["messages"][2] == {"role": "assistant", "content": '{"grade": 9}'}
    assert "grade" in second.user
    assert counts["calls"] == 2, "a repair counts against the budget"


@pytest.mark.parametrize(
    "fault",
    [
        error(408, "timeout"),
        error(409, "conflict"),
        error(429, "slow down"),
        error(500, "oops"),
        error(503, "overloaded"),
        error(529, "overloaded"),
        Answer("<html>bad gateway</html>", status=502),
        Answer("<html>login</html>"),
        Answer({"choices": []}),
        replace(GOOD, cut=0),
        replace(GOOD, cut=0.9),
        replace(GOOD, wait=3),
    ],
    ids=lambda fault: f"{fault.status} cut {fault.cut} wait {fault.wait} {str(fault.body)[:12]!r}",
)
def test_a_passing_fault_is_tried_again(tmp_path, fault):
    found, server, _ = outcomes(tmp_path, in_turn(fault, GOOD), timeout=0.4)
    assert found[0].value is not None
    assert len(server.calls) == 2


def test_an_endpoint_that_stays_away_fails_by_name_and_is_asked_again_by_the_next_run(tmp_path):
    found, server, counts = outcomes(tmp_path, always(error(500, "oops")), retries=2)
    assert (found[0].failure, found[0].cached) == ("unreachable", False)
    assert found[0].detail == "HTTP 500: oops (try 3 of 3)"
    assert len(server.calls) == 3
    assert counts["calls"] == 0
    found, *_ = outcomes(tmp_path, always(GOOD))
    assert found[0].value is not None


def test_an_endpoint_that_answers_nothing_stops_the_run(tmp_path):
    with Loopback(always(error(500, "oops"))) as server, teacher(tmp_path, server.url, retries=0) as asked:
        with pytest.raises(RunFailure, match=r"20 requests in a row were left unanswered, .* HTTP 500: oops"):
            list(asked.ask((ask(number) for number in range(1000)), label="t"))
        assert len(server.calls) <= 20 + 8


def test_a_wait_that_the_endpoint_asks_for_is_kept_and_a_longer_one_is_not_waited_for(tmp_path):
    slow = error(429, "slow down", headers={"retry-after": "0.3"})
    start = time.monotonic()
    found, *_ = outcomes(tmp_path / "a", in_turn(slow, GOOD))
    assert found[0].value is not None
    assert time.monotonic() - start >= 0.3, "it came back too early"  # a lower bound holds on any machine
    slower = error(429, "slow down", headers={"retry-after": "1000"})
    found, server, _ = outcomes(tmp_path / "b", in_turn(slower, GOOD))
    assert found[0].failure == "unreachable"
    assert "asks to wait 1000 s" in found[0].detail
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), r"teacher e0: .* refuses the key \(TEACHER_KEY\): HTTP 401"),
        (error(403, "Country not supported"), r"forbids it \(TEACHER_KEY\): HTTP 403"),
        (error(404, "The model m does not exist"), "knows no such model or address: HTTP 404: The model m"),
        (error(402, "Insufficient Balance"), "wants to be paid"),
        (error(429, "You exceeded your quota", code="insufficient_quota"), "has no credit left"),
        (error(405, "Method Not Allowed"), "cannot be asked: HTTP 405"),
    ],
    ids=lambda value: value.status if isinstance(value, Answer) else "",
)
def test_what_no_retry_mends_stops_the_run_in_one_line_without_the_key(tmp_path, monkeypatch, answer, message):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with pytest.raises(RunFailure, match=message) as raised:
        outcomes(tmp_path, always(answer), api_key_env="TEACHER_KEY", asks=[ask(number) for number in range(9)])
    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value)


def test_a_prompt_that_cannot_fit_is_not_sent(tmp_path):
    long = replace(ask(), user="长" * 1000)
    found, server, _ = outcomes(tmp_path, always(GOOD), asks=[long, ask()], context=900)
    assert found[0].failure == "too_long"
    assert "800 fit" in found[0].detail
    assert found[1].value is not None
    assert len(server.calls) == 1


def test_the_next_endpoint_is_asked_only_where_the_first_gives_nothing(tmp_path):
    with (
        Loopback(lambda call: GOOD if "问题1：" in call.user else completion(None, refusal="不")) as cheap,
        Loopback(always(completion('{"grade": 4}'))) as strong,
        teacher(tmp_path, cheap.url, strong.url) as asked,
    ):
        found = list(asked.ask([ask(1), ask(2)], label="t"))
        assert [outcome.value.grade for outcome in found] == [3, 4]
        assert len(cheap.calls) == 2
        assert len(strong.calls) == 1


def test_an_endpoint_that_is_down_is_left_out_and_the_next_one_asked(tmp_path):
    with Loopback(always(GOOD)) as strong, teacher(tmp_path, "http://127.0.0.1:9/v1", strong.url, retries=0) as asked:
        found = list(asked.ask((ask(number) for number in range(60)), label="t"))
    assert all(outcome.value for outcome in found)
    assert asked._lanes["e0"].misses == 20, "it was asked to the end"


def test_a_stop_lets_calls_on_the_wire_finish_and_keeps_their_answers(tmp_path):
    def answering(call):
        return error(401, "no") if "问题0：" in call.user else replace(GOOD, wait=0.3)

    with Loopback(answering) as server, teacher(tmp_path, server.url, limits=Limits(concurrency=4)) as asked:
        with pytest.raises(RunFailure, match="refuses the key"):
            list(asked.ask([ask(number) for number in range(4)], label="t"))
        assert asked.estimate([ask(number) for number in range(1, 4)]).cached == 3


def test_a_wait_that_the_endpoint_asks_for_holds_back_every_call(tmp_path):
    times = []

    def answering(call):
        times.append(time.monotonic())
        return GOOD if len(times) > 1 else error(429, "slow down", headers={"retry-after": "0.3"})

    asks = [ask(number) for number in range(5)]
    outcomes(tmp_path, answering, asks=asks, limits=Limits(concurrency=1))
    assert len(times) == 6
    assert min(later - times[0] for later in times[1:]) >= 0.3
