"""Clients that people have, against a live server."""

from __future__ import annotations

import numpy as np
import pytest
from serving_client import serving
from serving_models import TEXTS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def apart(found, expected):
    return np.abs(np.asarray(found, dtype=np.float32) - expected).max()


@pytest.fixture(scope="module")
def bare(encoder):
    return encoder.encode_queries(TEXTS, instruction="")


def test_langchain(url, bare, encoder):
    from langchain_openai import OpenAIEmbeddings

    client = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="any", model="zh", check_embedding_ctx_length=False)
    assert apart(client.embed_documents(TEXTS), bare) < 1e-6
    asking = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="any", model="zh:query", check_embedding_ctx_length=False)
    assert apart(asking.embed_query(TEXTS[1]), encoder.encode_queries(TEXTS[1:2])[0]) < 1e-6
    many = [f"{TEXTS[n % 6]}{n}" for n in range(1500)]  # goes out in calls of a thousand
    assert apart(client.embed_documents(many), encoder.encode_queries(many, instruction="")) < 1e-6


def test_langchain_with_its_own_token_ids_is_told_what_to_do(url, monkeypatch):
    import tiktoken
    from langchain_openai import OpenAIEmbeddings
    from openai import BadRequestError

    ranks = {bytes([n]): n for n in range(256)}
    letters = tiktoken.Encoding("bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: letters)
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _: letters)
    client = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="any", model="zh")
    with pytest.raises(BadRequestError, match="check_embedding_ctx_length=False"):
        client.embed_documents(TEXTS[:2])


def test_langchain_with_the_models_token_ids(model, encoder, tmp_path):
    from langchain_openai import OpenAIEmbeddings

    encoder.tokenizer.save_pretrained(tmp_path)
    with serving(model, token_ids=True) as (url, _):
        client = OpenAIEmbeddings(
            base_url=f"{url}/v1",
            api_key="any",
            model="zh",
            tiktoken_enabled=False,
            tiktoken_model_name=str(tmp_path),
            embedding_ctx_length=512,
        )
        # It decodes what it has cut back into text, so this is the path of texts again.
        found = client.embed_documents(TEXTS[:6])
        assert apart(found, encoder.encode_queries(TEXTS[:6], instruction="")) < 1e-6


def test_llama_index_for_openai(url, bare):
    from llama_index.embeddings.openai import OpenAIEmbedding

    client = OpenAIEmbedding(api_base=f"{url}/v1", api_key="any", model_name="zh", embed_batch_size=100)
    texts = [text for text in TEXTS if text]  # the client itself refuses an empty text
    expected = bare[[bool(text) for text in TEXTS]]
    assert apart(client.get_text_embedding_batch(texts), expected) < 1e-6
    assert apart(client.get_query_embedding(texts[1]), expected[1]) < 1e-6


def test_llama_index_for_tei(url, bare):
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    client = TextEmbeddingsInference(base_url=url, model_name="zh", text_instruction=" ", query_instruction=" ")
    assert apart(client.get_text_embedding_batch(TEXTS[:6]), bare[:6]) < 1e-6
    assert apart(client.get_query_embedding(TEXTS[1]), bare[1]) < 1e-6


def test_the_hubs_client(url, encoder, bare):
    from huggingface_hub import InferenceClient

    client = InferenceClient()
    found = client.feature_extraction(TEXTS[1], model=f"{url}/embed", prompt_name="query", truncate=True)
    assert apart(found, encoder.encode_queries(TEXTS[1:2])) < 1e-6
    scores = client.sentence_similarity(TEXTS[0], TEXTS[1:4], model=f"{url}/similarity")
    assert apart(scores, bare[1:4] @ bare[0]) < 1e-6
