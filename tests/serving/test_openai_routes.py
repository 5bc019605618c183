from __future__ import annotations

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
from openai import OpenAI
from serving_client import call, serving
from serving_models import TEXTS

from zhihui.serving.models import served


def vectors_of(reply):
    assert reply.status == 200, reply.content
    assert [each["index"] for each in reply.json["data"]] == [*range(len(reply.json["data"]))]
    return np.array([each["embedding"] for each in reply.json["data"]], dtype=np.float32)


def apart(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max()


def bare(encoder, texts):
    return encoder.encode_queries(texts, instruction="")


def test_the_openai_client_gets_the_encoders_vectors(url, encoder):
    client = OpenAI(base_url=f"{url}/v1", api_key="any")
    expected = bare(encoder, TEXTS)
    for form in ("base64", "float"):
        answer = client.embeddings.create(model="zh", input=TEXTS, encoding_format=form, user="me")
        found = [each.embedding for each in answer.data]
        if form == "base64":
            found = [np.frombuffer(base64.b64decode(each), dtype="<f4") for each in found]
        assert apart(np.array(found, dtype=np.float32), expected) < 1e-6
    default = client.embeddings.create(model="zh", input=TEXTS)  # asks for base64 and decodes it
    assert apart(np.array([each.embedding for each in default.data], dtype=np.float32), expected) < 1e-6
    tokens = sum(map(len, encoder.tokenize(TEXTS, role="query", instruction="")))
    assert default.usage.prompt_tokens == default.usage.total_tokens == tokens
    assert default.model == "zh"
    assert [each.id for each in client.models.list()] == ["zh"]


def test_with_and_without_v1(url):
    body = {"input": "好"}
    assert call(url, "/embeddings", body).json == call(url, "/v1/embeddings", body).json
    assert call(url, "/models").json["data"] == call(url, "/v1/models").json["data"]


@pytest.mark.parametrize(
    ("fields", "role", "instruction"),
    [
        ({"model": "zh:query"}, "query", None),
        ({"model": "zh:document"}, "document", None),
        ({"prompt_name": "query"}, "query", None),
        ({"input_type": "search_query"}, "query", None),
        ({"input_type": "passage"}, "document", None),
        ({"instruction": "找出同义句"}, "query", "找出同义句"),
        ({"model": "zh:query", "instruction": "找出同义句", "input_type": "query"}, "query", "找出同义句"),
        ({"model": "zh", "instruction": ""}, "query", ""),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_each_way_to_ask_for_a_prompt(url, encoder, fields, role, instruction):
    found = vectors_of(call(url, "/v1/embeddings", {"input": TEXTS, **fields}))
    assert apart(found, encoder.encode(TEXTS, role=role, instruction=instruction)) < 1e-6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_name": "nope"}, "prompt_name 'nope' is unknown; zh has document, query"),
        ({"input_type": "image"}, "input_type 'image' is unknown"),
        ({"model": "zh:query", "input_type": "document"}, "leave one of them out"),
        ({"instruction": "找", "input_type": "document"}, "instruction .* belongs to queries"),
        ({"dimensions": 65}, "dimensions 65 is out of range; zh gives 1 to 64"),
        ({"dimensions": 0}, "dimensions: input should be greater than or equal to 1"),
        ({"truncate_prompt_tokens": 513}, "truncate_prompt_tokens 513 is out of range; use 2 to 512"),
        ({"truncate_prompt_tokens": 20, "model": "zh:query"}, "nothing of a text would be left"),
        ({"truncation_direction": "up"}, "must be left or right"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"input": [1, 2, 3]}, "check_embedding_ctx_length=False"),
        ({"input": [[1], [2]]}, "check_embedding_ctx_length=False"),
        ({"input": []}, "0 texts in one call"),
        ({"input": "\ud800"}, "surrogate"),
        ({"input": ["好", 1]}, "input must be a text, a list of texts"),
        ({"input": {"text": "好"}}, "input must be a text"),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_a_400_that_names_the_mend(url, fields, message):
    reply = call(url, "/v1/embeddings", {"input": "好", **fields})
    assert reply.status == 400
    assert {*reply.json["error"]} == {"message", "type", "param", "code"}
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert re.search(message, reply.message), reply.message


def test_an_unknown_model_is_a_404_with_the_nearest(url):
    reply = call(url, "/v1/embeddings", {"input": "好", "model": "zj"})
    assert (reply.status, reply.json["error"]["code"]) == (404, "model_not_found")
    assert "did you mean zh?" in reply.message or "there are: zh" in reply.message


def test_shorter_vectors_have_unit_norm_again(url, encoder):
    found = vectors_of(call(url, "/v1/embeddings", {"input": TEXTS, "dimensions": 16}))
    expected = bare(encoder, TEXTS)[:, :16]
    assert apart(found, expected / np.linalg.norm(expected, axis=1, keepdims=True)) < 1e-6


def test_a_model_that_lists_its_lengths_is_cut_to_no_other(encoder):
    config = encoder.backbone.config
    config.matryoshka_dimensions = [16, 32]
    try:
        with serving(served([encoder], name="zh")) as (url, _):
            assert call(url, "/info").json["dimensions"] == [16, 32]
            for length, status in ((16, 200), (64, 200), (20, 400)):
                reply = call(url, "/v1/embeddings", {"input": "好", "dimensions": length})
                assert reply.status == status
            assert "can be cut to 16, 32, 64" in reply.message
    finally:
        del config.matryoshka_dimensions


def test_rounded_vectors(url, encoder):
    exact = bare(encoder, TEXTS)
    int8 = vectors_of(call(url, "/v1/embeddings", {"input": TEXTS, "output_dtype": "int8"}))
    assert (np.abs(int8).max(axis=1) == 127).all()
    cosines = (int8 * exact).sum(1) / np.linalg.norm(int8, axis=1)
    assert cosines.min() > 0.999
    ubinary = vectors_of(call(url, "/v1/embeddings", {"input": TEXTS, "output_dtype": "ubinary"}))
    assert (np.unpackbits(ubinary.astype(np.uint8), axis=1) == (exact > 0)).all()
    raw = call(url, "/v1/embeddings", {"input": TEXTS, "output_dtype": "binary", "encoding_format": "base64"}).json
    signed = np.array([np.frombuffer(base64.b64decode(each["embedding"]), np.int8) for each in raw["data"]])
    assert (signed.astype(np.float32) + 128 == ubinary).all()


def test_truncation_is_on_and_reported(url, encoder):
    long = "".join(TEXTS[:6]) * 9
    reply = call(url, "/v1/embeddings", {"input": ["好", long, long]})
    assert reply.headers["x-truncated-count"] == "2"
    assert reply.json["usage"]["prompt_tokens"] == len(encoder.tokenizer("好")["input_ids"]) + 2 * 512
    refused = call(url, "/v1/embeddings", {"input": ["好", long], "truncate": False})
    assert refused.status == 400
    assert "input 1 has more than 512 tokens" in refused.message
    just = next(text for n in range(9000) if len(encoder.tokenizer(text := "押" * n)["input_ids"]) == 512)
    fits = call(url, "/v1/embeddings", {"input": just, "truncate": False})
    assert (fits.status, fits.headers["x-truncated-count"], fits.json["usage"]["total_tokens"]) == (200, "0", 512)


def test_truncation_keeps_prompt_and_end_on_either_side(url, encoder):
    text = "".join(TEXTS[:6])
    whole = encoder.tokenize([text], role="query")[0]
    prompt = len(encoder.tokenizer(encoder.settings.prompt("query"))["input_ids"]) - 1
    keep = prompt + 9
    sides = {"right": whole[: keep - 1] + whole[-1:], "left": whole[:prompt] + whole[-(keep - prompt) :]}
    with serving(served([encoder], name="zh"), token_ids=True) as (own, _):
        for side, ids in sides.items():
            assert len(ids) == keep
            cut = {"truncate_prompt_tokens": keep, "truncation_direction": side, "model": "zh:query"}
            found = vectors_of(call(url, "/v1/embeddings", {"input": text, **cut}))
            assert apart(found, vectors_of(call(own, "/v1/embeddings", {"input": ids}))) < 1e-6


def test_token_ids_where_they_are_asked_for(encoder):
    ids = encoder.tokenize(TEXTS, role="document")
    with serving(served([encoder], name="zh"), token_ids=True) as (url, _):
        found = vectors_of(call(url, "/v1/embeddings", {"input": ids}))
        assert apart(found, encoder.encode_documents(TEXTS)) < 1e-6
        without_end = vectors_of(call(url, "/v1/embeddings", {"input": ids[1][:-1]}))
        assert apart(without_end, found[1:2]) < 1e-6
        foreign = call(url, "/v1/embeddings", {"input": [100_000]})
        assert foreign.status == 400
        assert "another tokenizer" in foreign.message
        prompted = call(url, "/v1/embeddings", {"input": ids[0], "prompt_name": "query"})
        assert prompted.status == 400


def test_two_thousand_and_more_texts_a_call_in_their_order(url, encoder):
    texts = [f"{TEXTS[n % 5][: 1 + n % 17]}{n}" for n in range(2100)]
    found = vectors_of(call(url, "/v1/embeddings", {"input": texts}))
    assert apart(found, bare(encoder, texts)) < 1e-6
    assert call(url, "/v1/embeddings", {"input": ["a"] * 4097}).status == 400


def test_a_prompt_of_another_name(encoder):
    settings = encoder.settings
    encoder.settings = replace(settings, prompts={**settings.prompts, "sts": "比较："})
    try:
        with serving(served([encoder], name="zh")) as (url, _):
            found = vectors_of(call(url, "/v1/embeddings", {"input": TEXTS[:2], "prompt_name": "sts"}))
            assert apart(found, bare(encoder, [f"比较：{text}" for text in TEXTS[:2]])) < 1e-6
    finally:
        encoder.settings = settings
