from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import completion
from pydantic import BaseModel, RootModel
from questions import Grade

from zhihui.teacher.reply import NoReply, Reply, json_values, read_answer, read_reply

GOOD = Grade(grade=3, reason="好")
JSON = '{"grade": 3, "reason": "好"}'


class Grades(RootModel[list[Grade]]):
    pass


class Loose(BaseModel):
    """Fits any object: a part taken for the whole would go unseen."""

    anything: int | None = None


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"\n  {JSON}\n",
        f"```json\n{JSON}\n```",
        f"好的，答案如下：\n{JSON}\n希望有帮助。",
        f"<think>先看 {{格式}}，也许 {{'grade': 1}}</think>{JSON}",
        f'也许是 {{"grade": 1}}，再想想</think>\n{JSON}',
        f'例如 {{"grade": 0}}。\n答案：{JSON}',
        f"格式为 {{grade: 数字}}：{JSON}",
        f'{JSON}\n依据：{{"source": "第二段"}}',
        '{"grade": 3, "reason": "好", "more": [1, {"x": "}"}]}',
        '{"grade": "3", "reason": "好"}',
    ],
)
def test_an_answer_is_found_whatever_stands_around_it(text):
    reading = read_answer(Reply(text=text), Grade)
    assert (reading.value, reading.failure) == (GOOD, None)


@pytest.mark.parametrize(
    ("text", "failure", "detail"),
    [
        ("", "not_json", "it is empty"),
        ("相关", "not_json", "no JSON in it"),
        ('<think>{"grade": 3}', "not_json", "no JSON in it"),
        ('<think>{"grade": 3}</think>不知道', "not_json", "no JSON in it"),
        ('{"grade": 3, "reason": "好"', "not_json", "no JSON in it"),
        ('{"grade": 3 "reason": "好"}', "not_json", "no JSON in it"),
        ('{"grade": 9}', "wrong_schema", "grade: Input should be less than or equal to 4"),
        ('{"grade": {"grade": 3}}', "wrong_schema", "grade: Input should be a valid integer"),
        ("[3]", "not_json", "no JSON in it"),
        ('{"grade": ' + "9" * 5000 + "}", "not_json", "no JSON in it"),
        ('{"a":' * 100_000, "not_json", "no JSON in it"),
        ('{"grade": 3, "reason": "\\ud800"}', "wrong_schema", "it holds half a surrogate pair"),
    ],
    ids=range(12),
)
def test_what_cannot_be_used_has_a_name_and_a_reason(text, failure, detail):
    reading = read_answer(Reply(text=text), Grade)
    assert (reading.value, reading.failure) == (None, failure)
    assert reading.detail.startswith(detail)
    assert reading.mendable


@pytest.mark.parametrize(
    "text", ['{"x": {"anything": 1} "y": {"anything": 2}}', '{"x": {"anything": 1}, }', "{'x': {\"anything\": 1}}"]
)
def test_a_part_of_an_object_that_is_broken_is_not_the_answer(text):
    assert read_answer(Reply(text=text), Loose).failure == "not_json"


def test_an_answer_complete_at_its_length_limit_counts_and_one_that_is_not_is_cut_off():
    assert read_answer(Reply(text=JSON + "\n以上", cut=True), Grade).value == GOOD
    cut = read_answer(Reply(text=JSON[:-3], cut=True, answer_tokens=100), Grade)
    assert (cut.failure, cut.detail, cut.mendable) == ("cut_off", "stopped at 100 tokens", False)


def test_an_array_is_found_where_the_schema_is_one():
    text = '见 [1]：```\n[{"grade": 1}, {"grade": 2}]\n```'
    assert [one.grade for one in read_answer(Reply(text=text), Grades).value.root] == [1, 2]


PROSE = st.text(st.characters(exclude_characters="{}[]<>", exclude_categories=["Cs"]), max_size=40)
VALUES = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(VALUES, PROSE, PROSE, PROSE, st.booleans(), st.booleans(), st.sampled_from([None, 2]))
def test_any_object_comes_out_of_prose_fences_and_thoughts(value, before, after, thoughts, fenced, thought, indent):
    written = json.dumps(value, ensure_ascii=False, indent=indent)
    text = f"{before}```json\n{written}\n```{after}" if fenced else f"{before}{written}{after}"
    text = f"<think>{thoughts}</think>{text}" if thought else text
    assert list(json_values(text)) == [value]


@given(VALUES, st.floats(0, 1, exclude_max=True))
def test_a_part_of_an_object_is_never_taken_for_the_whole(value, share):
    written = json.dumps(value, ensure_ascii=False)
    part = written[: int(len(written) * share)]
    assert list(json_values(part)) == []
    assert read_answer(Reply(text=part), Loose).value is None


@given(st.text() | st.lists(st.sampled_from([*'{}[]",:\\1a \n', "</think>", "<think>"])).map("".join))
def test_no_text_is_too_strange_to_be_read(text):
    for opening in "{[":
        for found in json_values(text, opening):
            assert isinstance(found, dict if opening == "{" else list)
    reading = read_answer(Reply(text=text), Grade)
    assert (reading.value is None) == (reading.failure is not None)


@given(
    st.binary(max_size=60) | st.just(b"{}") | st.just(b'{"choices": [{"message": null}]}'), st.sampled_from([200, 400])
)
def test_no_body_is_too_strange_to_be_refused(raw, status):
    with pytest.raises(NoReply):
        read_reply(status, raw.decode("utf-8", "replace"))


def test_a_body_is_read_member_by_member():
    body = completion("文", finish="length", prompt=7, answer=8).body
    reply = read_reply(200, json.dumps(body))
    assert reply == Reply(text="文", cut=True, model="m-1", prompt_tokens=7, answer_tokens=8)
    body["choices"][0]["message"]["content"] = [{"type": "text", "text": "一"}, {"type": "text", "text": "二"}]
    body["usage"] = {"prompt_tokens": "many"}
    assert read_reply(200, json.dumps(body)) == Reply(text="一二", cut=True, model="m-1")


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (400, {"error": {"message": "x", "code": "content_filter"}}, "content_filter"),
        (400, {"error": {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "content_filter"),
        (400, {"error": {"message": "x", "code": "data_inspection_failed"}}, "content_filter"),
        (400, {"error": {"message": "系统检测到敏感内容", "code": 1301}}, "content_filter"),
        (403, {"error": {"message": "input flagged by moderation", "code": 403}}, "content_filter"),
        (400, {"object": "error", "message": "This model's maximum context length is 9", "code": 400}, "too_long"),
        (400, {"error": {"message": "the request exceeds the available context size"}}, "too_long"),
        (400, {"code": "InvalidParameter", "message": "Range of input length should be [1, 6000]"}, "too_long"),
        (422, {"detail": "prompt is too long"}, "too_long"),
    ],
    ids=range(9),
)
def test_errors_about_the_prompt_are_known_however_a_server_puts_them(status, body, failure):
    assert read_reply(status, json.dumps(body, ensure_ascii=False)).failure == failure
