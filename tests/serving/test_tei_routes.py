from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serving_client import call, serving
from serving_models import TEXTS

from zhihui.serving.models import served


def test_embed_is_a_bare_list_of_vectors(url, encoder):
    bare = encoder.encode_queries(TEXTS, instruction="")
    assert np.abs(np.float32(call(url, "/embed", {"inputs": TEXTS}).json) - bare).max() < 1e-6
    one = call(url, "/embed", {"inputs": TEXTS[1], "prompt_name": "query", "truncate": True})
    assert np.abs(np.float32(one.json) - encoder.encode_queries(TEXTS[1:2])).max() < 1e-6
    short = np.float32(call(url, "/embed", {"inputs": TEXTS, "dimensions": 8}).json)
    assert short.shape == (len(TEXTS), 8)
    assert np.linalg.norm(short, axis=1) == pytest.approx(1, abs=1e-6)


def test_the_headers_account_for_time_and_size(url):
    headers = call(url, "/embed", {"inputs": ["好", "信息"]}).headers
    assert headers["x-compute-characters"] == "3"
    assert int(headers["x-compute-tokens"]) >= 4
    stages = sum(float(headers[f"x-{stage}-time"]) for stage in ("tokenization", "queue", "inference"))
    assert 0 < stages <= float(headers["x-total-time"]) + 0.5
    assert headers["x-compute-type"] == "cpu"


def test_a_model_without_normalisation(encoder):
    settings = encoder.settings
    encoder.settings = replace(settings, normalize=False)
    try:
        with serving(served([encoder], name="zh")) as (url, _):
            raw = np.float32(call(url, "/embed", {"inputs": TEXTS, "normalize": False}).json)
            assert np.abs(raw - encoder.encode_queries(TEXTS, instruction="")).max() < 1e-5
            unit = np.float32(call(url, "/embed", {"inputs": TEXTS}).json)
            assert np.abs(raw / np.linalg.norm(raw, axis=1, keepdims=True) - unit).max() < 1e-6
            assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.01
    finally:
        encoder.settings = settings


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/embed", {"inputs": "好", "normalize": False}, "gives unit vectors only"),
        ("/embed", {"inputs": []}, "0 texts"),
        ("/embed", {}, "inputs: field required"),
        ("/similarity", {"inputs": {"source_sentence": "好", "sentences": []}}, "0 texts"),
        ("/similarity", {"inputs": ["好"]}, "inputs"),
        ("/tokenize", {"inputs": "长" * 100_001}, "more than 100000 characters"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "",
)
def test_errors_have_teis_shape(url, path, body, message):
    reply = call(url, path, body)
    assert reply.status == 400
    assert reply.json.keys() == {"error", "error_type"}
    assert reply.json["error_type"] == "Validation"
    assert message in reply.message


def test_similarity(url, encoder):
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:4]}, "parameters": {"prompt_name": "query"}}
    vectors = encoder.encode_queries(TEXTS[:4])
    assert np.abs(np.float32(call(url, "/similarity", body).json) - vectors[1:] @ vectors[0]).max() < 1e-6


def test_tokenize_shows_the_tokens_that_are_embedded(url, encoder):
    shown = call(url, "/tokenize", {"inputs": TEXTS[:3], "prompt_name": "query"}).json
    assert [[token["id"] for token in row] for row in shown] == encoder.tokenize(TEXTS[:3], role="query")
    (row,) = call(url, "/tokenize", {"inputs": "信息检索"}).json
    assert row[-1]["special"]
    assert (row[-1]["start"], row[-1]["stop"]) == (None, None)
    assert "".join(token["text"] for token in row[:-1] if token["start"] is not None)[:1] == "信"
    bare = call(url, "/tokenize", {"inputs": "信息检索", "add_special_tokens": False}).json[0]
    assert [token["id"] for token in bare] == [token["id"] for token in row[:-1]]


def test_info_tells_what_an_index_must_not_mix(url, encoder):
    info = call(url, "/info").json
    assert info["fingerprint"] == encoder.fingerprint
    assert (info["dimension"], info["max_input_length"], info["model_dtype"]) == (64, 512, "float32")
    assert info["model_type"] == {"embedding": {"pooling": "lasttoken"}}
    assert info["prompts"] == encoder.settings.prompts


def test_several_models_by_name(encoder):
    other = type(encoder)(encoder.backbone, encoder.tokenizer, replace(encoder.settings, prompts={}), name="other")
    with serving(served([encoder], name="zh"), served([other], name="plain:one")) as (url, _):
        assert [each["id"] for each in call(url, "/v1/models").json["data"]] == ["zh", "plain:one"]
        query = {"inputs": "好", "prompt_name": "query"}
        first, named, second = (
            call(url, "/embed", {**query, **more}).json for more in ({}, {"model": "zh"}, {"model": "plain:one"})
        )
        assert first == named != second
        alias = call(url, "/embed", {"inputs": "好", "model": "plain:one:query"}).json
        assert alias == second
