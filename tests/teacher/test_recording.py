from __future__ import annotations

from dataclasses import replace

import pytest
from loopback import Loopback, completion
from pydantic import BaseModel
from questions import Grade, ask, teacher

from zhihui.errors import InputError
from zhihui.teacher import RecordedTeacher, RecordingTeacher, write_recording

PAIRS = [(ask(number), Grade(grade=number, reason="因为")) for number in range(4)]


def test_a_recording_answers_without_a_network(tmp_path):
    path = tmp_path / "r.jsonl"
    assert write_recording(path, [*PAIRS, (ask(5), "refused")]) == 5
    recorded = RecordedTeacher(path)
    found = list(recorded.ask((ask(number) for number in (3, 5, 0, 9)), label="t"))
    assert [one.value and one.value.grade for one in found] == [3, None, 0, None]
    assert [one.failure for one in found] == [None, "refused", None, "not_recorded"]
    assert "grade@1" in found[3].detail
    assert recorded.counts["calls"] == 0


def test_the_file_does_not_depend_on_the_order_and_can_be_read_by_people(tmp_path):
    write_recording(tmp_path / "a.jsonl", PAIRS)
    write_recording(tmp_path / "b.jsonl", [*PAIRS[::-1], PAIRS[0]])
    text = (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.jsonl").read_text(encoding="utf-8")
    assert text.count("\n") == len(PAIRS)
    assert '"role":"judge","template":"grade@1","answer":{"grade":0,"reason":"因为"}}' in text
    assert RecordedTeacher(tmp_path / "a.jsonl").fingerprint == RecordedTeacher(tmp_path / "b.jsonl").fingerprint


class Other(BaseModel):
    grade: int


def test_a_question_is_the_same_only_with_role_texts_and_schema(tmp_path):
    write_recording(tmp_path / "r.jsonl", PAIRS)
    same = [replace(ask(1), id="another", template="grade@2")]
    others = [ask(1, role="writer"), replace(ask(1), system="x"), replace(ask(1), user="x"), ask(1, schema=Other)]
    found = list(RecordedTeacher(tmp_path / "r.jsonl").ask([*same, *others], label="t"))
    assert [one.failure for one in found] == [None, *["not_recorded"] * 4]


def test_what_a_teacher_answered_is_recorded_and_answered_the_same(tmp_path):
    def answering(call):
        return completion(None, refusal="不") if "问题2：" in call.user else completion('{"grade": 1}')

    asks = [ask(number) for number in range(4)]
    with Loopback(answering) as server, teacher(tmp_path, server.url) as asked:
        recording = RecordingTeacher(asked)
        live = [(one.value, one.failure) for one in recording.ask(asks, label="t")]
        assert recording.fingerprint == asked.fingerprint
    assert recording.write(tmp_path / "r.jsonl") == 4
    again = RecordedTeacher(tmp_path / "r.jsonl").ask(asks, label="t")
    assert [(one.value, one.failure) for one in again] == live


def test_an_endpoint_that_stayed_away_is_not_recorded(tmp_path):
    assert write_recording(tmp_path / "r.jsonl", [(ask(1), "unreachable"), PAIRS[0]]) == 1


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '"key"', '{"key": "k"}', '{"key": 1, "answer": {}}', '{"key": "k", "failure": "unreachable"}'],
)
def test_a_line_that_is_no_recorded_answer_is_named(tmp_path, line):
    path = tmp_path / "r.jsonl"
    write_recording(path, PAIRS)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"r.jsonl:5: not a recorded answer"):
        RecordedTeacher(path)


def test_two_answers_to_one_question_are_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    write_recording(path, PAIRS)
    text = path.read_text(encoding="utf-8")
    path.write_text(text + text.split("\n")[0].replace("因为", "所以") + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"r.jsonl:5: another answer to a question answered above"):
        RecordedTeacher(path)


def test_a_recording_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such recording"):
        RecordedTeacher(tmp_path / "absent.jsonl")


def test_an_answer_that_no_longer_fits_fails_by_name(tmp_path):
    path = tmp_path / "r.jsonl"
    write_recording(path, PAIRS[:1])
    path.write_text(path.read_text(encoding="utf-8").replace('"grade":0', '"grade":7'), encoding="utf-8")
    (found,) = RecordedTeacher(path).ask([PAIRS[0][0]], label="t")
    assert found.failure == "wrong_schema"
