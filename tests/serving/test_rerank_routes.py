from __future__ import annotations

import numpy as np
import pytest
from serving_client import call, serving
from serving_models import TEXTS

from zhihui.serving.reranking import ServedReranker


class Overlap:
    """A cross-encoder that counts shared characters."""

    name = "overlap"

    def score(self, queries, passages, *, instruction=None):
        add = 0.0 if instruction is None else 0.25
        pairs = zip(queries, passages, strict=True)
        return np.float32([len({*query} & {*passage}) / 100 + add for query, passage in pairs])

    def token_rows(self, queries, passages, instruction):
        return [{"input_ids": [*query, *passage]} for query, passage in zip(queries, passages, strict=True)]


QUERY, PASSAGES = "租房押金不退", TEXTS[:6]


def cosines(encoder):
    return encoder.encode_documents(PASSAGES) @ encoder.encode_queries([QUERY])[0]


def test_texts_get_teis_ranking(url, encoder):
    reply = call(url, "/rerank", {"query": QUERY, "texts": PASSAGES, "return_text": True})
    expected = cosines(encoder)
    assert [rank["index"] for rank in reply.json] == np.argsort(-expected, kind="stable").tolist()
    for rank in reply.json:
        assert rank["score"] == pytest.approx(expected[rank["index"]], abs=1e-6)
        assert rank["text"] == PASSAGES[rank["index"]]
    assert reply.headers["x-score-type"] == "cosine"
    assert "text" not in call(url, "/rerank", {"query": QUERY, "texts": PASSAGES}).json[0]


def test_documents_get_coheres_ranking_labelled_as_cosine(url, encoder):
    documents = [PASSAGES[0], *({"text": text} for text in PASSAGES[1:])]
    body = {"query": QUERY, "documents": documents, "top_n": 2, "return_documents": True, "rank_fields": ["text"]}
    answer = call(url, "/v1/rerank", body).json
    expected = cosines(encoder)
    assert answer["score_type"] == "cosine"
    best = np.argsort(-expected, kind="stable")[:2].tolist()
    assert [result["index"] for result in answer["results"]] == best
    assert [result["document"]["text"] for result in answer["results"]] == [PASSAGES[n] for n in best]
    tokens = [*encoder.tokenize([QUERY], role="query"), *encoder.tokenize(PASSAGES, role="document")]
    assert answer["usage"]["total_tokens"] == sum(map(len, tokens))


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_mistakes(url, path):
    both = {"query": "好", "texts": ["a"], "documents": ["a"]}
    for body in (
        both,
        {"query": "好"},
        {"query": "好", "texts": []},
        {"query": "好", "texts": ["a"], "model": "zh:query"},
    ):
        reply = call(url, path, body)
        assert reply.status == 400
        assert isinstance(reply.json["error"], dict) == path.startswith("/v1")
    assert call(url, path, {"query": "好", "texts": ["a"], "model": "none"}).status == 404


def test_a_cross_encoder_goes_before_the_cosine(model, encoder):
    with serving(model, reranker=ServedReranker("cross", (Overlap(),))) as (url, _):
        answer = call(url, "/v1/rerank", {"query": QUERY, "documents": PASSAGES}).json
        assert (answer["model"], answer["score_type"]) == ("cross", "probability")
        scores = Overlap().score([QUERY] * 6, PASSAGES)
        assert [r["index"] for r in answer["results"]] == np.argsort(-scores, kind="stable").tolist()
        assert answer["usage"]["total_tokens"] == sum(len(QUERY) + len(passage) for passage in PASSAGES)
        told = call(url, "/rerank", {"query": QUERY, "texts": PASSAGES, "instruction": "找法条", "model": "cross"})
        assert told.json[0]["score"] == pytest.approx(scores.max() + 0.25)
        assert told.headers["x-score-type"] == "probability"
        by_cosine = call(url, "/v1/rerank", {"query": QUERY, "documents": PASSAGES, "model": "zh"}).json
        assert by_cosine["score_type"] == "cosine"
        assert by_cosine["results"][0]["relevance_score"] == pytest.approx(cosines(encoder).max(), abs=1e-6)
        assert "cross" in call(url, "/v1/rerank", {"query": "好", "texts": ["a"], "model": "cros"}).message
