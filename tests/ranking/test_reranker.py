"""Cross-encoders against the plain use of the same models, one pair at a time, without padding."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    Qwen3Model,
)

from zhihui.errors import InputError
from zhihui.ranking.reranker import load_reranker

QUERIES = ["香菇怎么泡发", "海带怎么清洗", "香菇怎么泡发", "粉丝煮多久"]
PASSAGES = ["用温水泡半小时", "先冲掉白霜再刷净褶皱里的沙，最后用清水漂两遍", "水开以后煮两分钟", "泡软"]
DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 0,
}


def save_tokenizer(folder, *, pairs: bool, words=("yes", "no")):
    """One token a character, and the words whole."""
    signs = sorted({*"".join((*QUERIES, *PASSAGES)), *map(chr, range(32, 127)), "\n"})
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *signs]
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if pairs:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return len(known)


def save(folder, kind, settings, seed=0):
    torch.manual_seed(seed)
    network = kind(settings).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name.lower():
                parameter.normal_(std=0.3)
    network.save_pretrained(folder)
    return network


@pytest.fixture(params=[1, 2])
def bert(request, tmp_path):
    size = save_tokenizer(tmp_path, pairs=True)
    settings = BertConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    settings.num_labels = request.param
    return tmp_path, save(tmp_path, BertForSequenceClassification, settings)


def alone(network, tokenizer, query, passage):
    """What the model's own documentation does, for one pair."""
    with torch.inference_mode():
        logits = network(**tokenizer(query, passage, return_tensors="pt")).logits[0]
    return float(logits.sigmoid() if len(logits) == 1 else logits.softmax(0)[1])


def prompt(query, passage, instruction):
    return (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_classifiers_score_pairs_as_they_do_alone(bert):
    folder, network = bert
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    scores = load_reranker(folder, device="cpu").score(QUERIES, PASSAGES)
    expected = [alone(network, tokenizer, *pair) for pair in zip(QUERIES, PASSAGES, strict=True)]
    assert scores == pytest.approx(expected, abs=1e-5)
    assert scores.dtype == np.float32
    assert np.ptp(scores) > 1e-3


@pytest.fixture
def qwen(tmp_path):
    size = save_tokenizer(tmp_path, pairs=False)
    return tmp_path, save(tmp_path, Qwen3ForCausalLM, Qwen3Config(vocab_size=size, head_dim=8, **DECODER))


def test_language_models_say_yes_or_no_to_the_prompt_they_know(qwen):
    folder, network = qwen
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    reranker = load_reranker(folder, device="cpu")
    for instruction in (None, "find the answer"):
        said = instruction or "Given a web search query, retrieve relevant passages that answer the query"
        expected = []
        for query, passage in zip(QUERIES, PASSAGES, strict=True):
            ids = tokenizer(prompt(query, passage, said), return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                logits = network(input_ids=ids).logits[0, -1]
            no, yes = (logits[tokenizer.convert_tokens_to_ids(word)] for word in ("no", "yes"))
            expected.append(float(torch.stack([no, yes]).softmax(0)[1]))
        scores = reranker.score(QUERIES, PASSAGES, instruction=instruction)
        assert scores == pytest.approx(expected, abs=1e-5)
        assert np.ptp(scores) > 1e-3


def test_decoders_that_classify_read_the_same_prompt(tmp_path):
    size = save_tokenizer(tmp_path, pairs=False)
    settings = Qwen3Config(vocab_size=size, head_dim=8, **DECODER)
    settings.num_labels = 1
    network = save(tmp_path, Qwen3ForSequenceClassification, settings)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    expected = []
    for query, passage in zip(QUERIES, PASSAGES, strict=True):
        ids = tokenizer(prompt(query, passage, "找答案"), return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            expected.append(float(network(input_ids=ids).logits[0, 0].sigmoid()))
    scores = load_reranker(tmp_path, device="cpu").score(QUERIES, PASSAGES, instruction="找答案")
    assert scores == pytest.approx(expected, abs=1e-5)


def test_long_pairs_lose_the_end_of_the_passage(qwen):
    folder, _ = qwen
    reranker = load_reranker(folder, device="cpu", max_length=len(prompt("问", "", "找")) + 3)
    first, second, third = reranker.score(["问"] * 3, ["用温水泡", "用温水洗", "用凉水泡"], instruction="找")
    assert first == second != third


def test_pairs_are_scored_alike_in_any_company(bert):
    reranker = load_reranker(bert[0], device="cpu")
    whole = reranker.score(QUERIES, PASSAGES)
    assert reranker.score(QUERIES[::-1], PASSAGES[::-1])[::-1] == pytest.approx(whole, abs=1e-6)
    assert reranker.score([], []).shape == (0,)


def test_fingerprints_tell_models_and_settings_apart(qwen):
    folder, _ = qwen
    first = load_reranker(folder, device="cpu")
    assert load_reranker(folder, device="cpu").fingerprint == first.fingerprint
    assert load_reranker(folder, device="cpu", max_length=400).fingerprint != first.fingerprint
    save(folder, Qwen3ForCausalLM, first._network.config, seed=1)
    assert load_reranker(folder, device="cpu").fingerprint != first.fingerprint


def test_what_is_no_cross_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such model folder"):
        load_reranker(tmp_path / "nothing")
    size = save_tokenizer(tmp_path, pairs=False, words=("ja", "nein"))
    settings = Qwen3Config(vocab_size=size, head_dim=8, **DECODER)
    save(tmp_path, Qwen3Model, settings)
    with pytest.raises(InputError, match="is a Qwen3Model"):
        load_reranker(tmp_path, device="cpu")
    save(tmp_path, Qwen3ForCausalLM, settings)
    with pytest.raises(InputError, match='"yes" and "no" are not tokens'):
        load_reranker(tmp_path, device="cpu")
    with pytest.raises(InputError, match="max_length is 2"):
        load_reranker(tmp_path, device="cpu", max_length=2)
    labels = BertConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    labels.num_labels = 3
    save(tmp_path, BertForSequenceClassification, labels)
    with pytest.raises(InputError, match="has 3 labels"):
        load_reranker(tmp_path, device="cpu")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "没有"}))
    with pytest.raises(InputError, match="cannot be loaded as a cross-encoder"):
        load_reranker(tmp_path, device="cpu")
