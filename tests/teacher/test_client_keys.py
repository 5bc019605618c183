from __future__ import annotations

import logging

import pytest
from loopback import GOOD, Loopback, always, completion, error, in_turn
from questions import ask, outcomes, teacher

from zhihui.errors import InputError, MissingExtra

KEY = "sk-never-to-be-seen-0123456789"


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
def test_the_key_goes_to_the_endpoint_and_nowhere_else(tmp_path, monkeypatch, caplog, header):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEACHER_KEY", KEY)
    echo = completion(f'{{"grade": 3, "reason": "{KEY}"}}')
    answering = in_turn(error(500, f"key {KEY} is slow"), error(400, f"bad {KEY}"), echo)
    with (
        Loopback(answering) as server,
        teacher(tmp_path, server.url, api_key_env="TEACHER_KEY", key_header=header) as asked,
    ):
        (found,) = asked.ask([ask()], label="t")
        sent = [call.headers.get(header.lower()) for call in server.calls]
        assert sent == [f"Bearer {KEY}" if header == "Authorization" else KEY] * 3
        assert all(("authorization" in call.headers) == (header == "Authorization") for call in server.calls)
        assert found.value.reason == "[key]"
        said = repr((asked, asked.config, found, asked.fingerprint, asked.counts)) + caplog.text
    assert "chat/completions" in caplog.text, "nothing was logged: the check would be empty"
    assert KEY not in said
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes(), file


def test_a_key_that_is_not_there_is_asked_for_by_its_name_only_when_something_is_sent(tmp_path, monkeypatch):
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    outcomes(tmp_path, always(GOOD), asks=[ask(1)])
    with (
        teacher(tmp_path, "http://127.0.0.1:9/v1", api_key_env="TEACHER_KEY") as asked,
        pytest.raises(InputError, match="the environment variable TEACHER_KEY is not set"),
    ):
        list(asked.ask([ask(2)], label="t"))


def test_without_the_client_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"pip install 'zhihui\[synth\]'"):
        outcomes(tmp_path, always(GOOD))
