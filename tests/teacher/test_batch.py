from __future__ import annotations

import json

import pytest
from loopback import Loopback, completion
from questions import ask, config, teacher

from zhihui.errors import InputError
from zhihui.teacher import ApiTeacher, read_batch, write_batch

NOWHERE = "http://127.0.0.1:9/v1"
ASKS = [ask(number) for number in range(4)]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def result(key, body, status=200):
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "b", "custom_id": key, "response": response, "error": None})


def test_what_a_batch_answered_is_free(tmp_path):
    out, back = tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    with teacher(tmp_path, NOWHERE) as asked:
        counts = write_batch(asked, [*ASKS, ASKS[0]], out)
        assert (counts.written, counts.known) == (4, 0)
        rows = lines(out)
        assert [(row["method"], row["url"]) for row in rows] == [("POST", "/v1/chat/completions")] * 4
        back.write_text("\n".join(result(row["custom_id"], completion('{"grade": 2}').body) for row in rows[::-1]))
        counts = read_batch(asked, back)
        assert (counts.written, counts.known, counts.failed, counts.prompt_tokens) == (4, 0, 0, 40)
        assert [one.value.grade for one in asked.ask(ASKS, label="t")] == [2] * 4
        assert asked.counts["calls"] == 0
        assert read_batch(asked, back).known == 4
        assert write_batch(asked, ASKS, out).known == 4
        assert out.read_text() == ""


def test_a_body_in_the_file_is_the_body_that_would_be_sent(tmp_path):
    with Loopback(lambda call: completion('{"grade": 2}')) as server, teacher(tmp_path, server.url) as asked:
        write_batch(asked, ASKS[:1], tmp_path / "out.jsonl")
        list(asked.ask(ASKS[:1], label="t"))
        assert lines(tmp_path / "out.jsonl")[0]["body"] == server.calls[0].body


def test_failed_requests_and_repairs_are_in_the_next_file(tmp_path):
    out, back = tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    with teacher(tmp_path, NOWHERE) as asked:
        write_batch(asked, ASKS, out)
        keys = [row["custom_id"] for row in lines(out)]
        filtered = {"error": {"code": "content_filter", "message": "no"}}
        back.write_text(
            "\n".join(
                [
                    result(keys[0], completion('{"grade": 9}').body),
                    result(keys[1], {"error": {"message": "oops"}}, status=500),
                    result(keys[2], filtered, status=400),
                    json.dumps({"custom_id": keys[3], "response": None, "error": {"code": "batch_expired"}}),
                ]
            )
        )
        counts = read_batch(asked, back)
        assert (counts.written, counts.failed) == (2, 2)
        assert write_batch(asked, ASKS, out).known == 1
        again = lines(out)
        assert len(again[0]["body"]["messages"]) == 4, "an answer that did not fit is shown to be mended"
        assert [row["custom_id"] for row in again[1:]] == [keys[1], keys[3]]


@pytest.mark.parametrize("line", ["not json", '{"custom_id": "task-1", "response": {}}', "[1]"])
def test_a_file_that_is_no_result_changes_nothing(tmp_path, line):
    out, back = tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    with teacher(tmp_path, NOWHERE) as asked:
        write_batch(asked, ASKS, out)
        back.write_text(result(lines(out)[0]["custom_id"], completion('{"grade": 2}').body) + f"\n{line}\n")
        with pytest.raises(InputError, match=r"back.jsonl:2: no result of a request that zhihui wrote"):
            read_batch(asked, back)
        assert asked.estimate(ASKS).cached == 0
        with pytest.raises(InputError, match="no such file"):
            read_batch(asked, tmp_path / "absent.jsonl")


def test_a_batch_is_for_one_endpoint(tmp_path):
    two = config(tmp_path, NOWHERE, "http://127.0.0.1:10/v1")
    object.__setattr__(two, "roles", {"judge": ("e0",), "writer": ("e1",)})
    mixed = [ask(1), ask(2, role="writer")]
    with ApiTeacher(two, run="run") as asked:
        with pytest.raises(InputError, match="go to e0 and e1, and a batch file is for one endpoint; name it"):
            write_batch(asked, mixed, tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()
        assert write_batch(asked, mixed, tmp_path / "out.jsonl", endpoint="e1").written == 1
