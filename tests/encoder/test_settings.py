from __future__ import annotations

import pytest

from zhihui.encoder import DEFAULT_TASK, EncoderSettings, query_prompt
from zhihui.errors import InputError


def test_the_defaults_are_those_of_the_original_recipe():
    settings = EncoderSettings()
    assert (settings.pooling, settings.normalize, settings.max_length) == ("lasttoken", True, 512)
    assert settings.prompt("query") == f"Instruct: {DEFAULT_TASK}\nQuery: "
    assert settings.prompt("document") == ""


def test_an_instruction_replaces_the_prompt_and_an_empty_one_removes_it():
    settings = EncoderSettings(prompts={"query": "问："})
    assert settings.prompt("query") == "问："
    assert settings.prompt("query", "找答案") == query_prompt("找答案") == "Instruct: 找答案\nQuery: "
    assert settings.prompt("query", "") == ""


def test_an_instruction_is_not_for_documents():
    with pytest.raises(ValueError, match="belongs to queries"):
        EncoderSettings().prompt("document", "找答案")


def test_a_role_without_prompt_gets_none():
    assert EncoderSettings(prompts={}).prompt("query") == ""


def test_settings_do_not_share_their_prompts():
    EncoderSettings().prompts["query"] = "changed"
    assert EncoderSettings().prompt("query") == query_prompt(DEFAULT_TASK)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pooling": "max"}, "pooling 'max' is unknown; choose one of lasttoken, mean, cls"),
        ({"max_length": 1}, "max_length 1 leaves no room"),
        ({"max_length": -5}, "max_length -5 leaves no room"),
        ({"prompts": ["query"]}, "must map a role"),
        ({"prompts": {"query": None}}, "must map a role"),
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        EncoderSettings(**given)
