from __future__ import annotations

from pathlib import Path

import pytest

from zhihui.config import from_mapping, read_yaml
from zhihui.errors import InputError
from zhihui.teacher import Parameters, Price, TeacherConfig

YAML = """
endpoints:
  strong:
    base_url: https://api.openai.com/v1
    model: gpt-x
    api_key_env: OPENAI_API_KEY
    parameters: {temperature: 0, max_answer_tokens: 512}
    price: {input: 2.0, output: 8.0}
  cheap:
    base_url: http://127.0.0.1:8000/v1
    model: Qwen3-8B
    parameters: {extra_body: {chat_template_kwargs: {enable_thinking: false}}}
    limits: {concurrency: 64, requests_per_minute: 500, tokens_per_minute: 100000}
roles:
  judge: [strong]
  writer: [cheap, strong]
budget: {calls: 1000, tokens: 2000000}
cache: runs/answers.sqlite
"""


def built(tmp_path, *changes):
    """Return the config after textual changes to it."""
    text = YAML
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "teacher.yaml"
    path.write_text(text)
    return from_mapping(TeacherConfig, read_yaml(path), where="teacher.yaml")


def test_a_file_becomes_the_config(tmp_path):
    config = built(tmp_path)
    assert [name for name, _ in config.cascade("writer")] == ["cheap", "strong"]
    strong = config.endpoints["strong"]
    assert strong.parameters == Parameters(temperature=0.0, max_answer_tokens=512)
    assert strong.price == Price(input=2.0, output=8.0)
    assert config.endpoints["cheap"].parameters.extra_body == {"chat_template_kwargs": {"enable_thinking": False}}
    assert config.cache == Path("runs/answers.sqlite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("judge: [strong]", "judge: [strange]"),
            "judge asks 'strange', which is no endpoint; there are: strong, cheap",
        ),
        (("judge: [strong]", "judge: []"), "judge has no endpoint, or one twice"),
        (("judge: [strong]", "jugde: [strong]"), "jugde"),
        (("[cheap, strong]", "[cheap, cheap]"), "writer has no endpoint, or one twice"),
        (("api_key_env:", "api_key:"), "unknown setting endpoints.strong.api_key; did you mean"),
        (("budget: {calls: 1000", "budget: {calls: -1"), "calls is -1; give at least 0"),
        (("tokens: 2000000", "cost: 3"), "a budget in cost needs prices; give endpoints.cheap.price"),
        (("https://api.openai.com/v1", "api.openai.com"), "base_url 'api.openai.com' is no address"),
        (("model: gpt-x", "model: ''"), "model is empty"),
        (("temperature: 0", "temperature: 3"), "temperature is 3.0; give 0 to 2"),
        (("max_answer_tokens: 512", "max_answer_tokens: 0"), "max_answer_tokens is 0; give at least 1"),
        (("max_answer_tokens: 512", "max_answer_tokens: 40000"), "context 32768 leaves no room for a prompt"),
        (("input: 2.0", "input: -2.0"), "price input is -2.0"),
        (("concurrency: 64", "concurrency: 0"), "concurrency is 0; give at least 1"),
        (("requests_per_minute: 500", "requests_per_minute: 0"), "requests_per_minute is 0"),
        (("model: Qwen3-8B", "model: Qwen3-8B\n    timeout: 0"), "timeout is 0.0; give a number of seconds above 0"),
        (("model: Qwen3-8B", "model: Qwen3-8B\n    retries: -1"), "retries is -1; give at least 0"),
        (("model: Qwen3-8B", "model: Qwen3-8B\n    answers: xml"), "answers is 'xml'"),
    ],
    ids=lambda value: value[1][:40] if isinstance(value, tuple) else "",
)
def test_mistakes_are_named_with_their_mend(tmp_path, change, message):
    with pytest.raises(InputError, match=r"teacher\.yaml") as raised:
        built(tmp_path, change)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


SECRET = "sk-proj-0123456789abcdef"


@pytest.mark.parametrize(
    "change",
    [
        ("OPENAI_API_KEY", SECRET),
        ("https://api.openai.com/v1", f"https://user:{SECRET}@api.openai.com/v1"),
        ("https://api.openai.com/v1", f"https://api.openai.com/v1?key={SECRET}"),
        ("extra_body: {", f"extra_body: {{api_key: {SECRET}, "),
        ("model: gpt-x", f"model: gpt-x\n    query: {{api-key: {SECRET}}}"),
    ],
    ids=["as its name", "in the address", "behind the address", "in the body", "in the query"],
)
def test_a_key_in_the_config_is_refused_and_not_repeated(tmp_path, change):
    with pytest.raises(InputError) as raised:
        built(tmp_path, change)
    assert SECRET not in str(raised.value)


def test_extra_members_with_innocent_names_are_no_secrets():
    Parameters(extra_body={"max_tokens_thinking": 5, "tokenizer": "x", "prompt_cache_key": "x"})


def test_costs_are_whole_billionths_rounded_up():
    price = Price(input=0.15, output=0.6)
    assert price.nano(1_000_000, 0) == 150_000_000
    assert price.nano(1, 1) == 750
    assert Price(input=0.0001, output=0).nano(1, 0) == 1
