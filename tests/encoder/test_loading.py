from __future__ import annotations

import copy
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from model_folders import (
    CHARACTERS,
    TEXTS,
    decoder_folder,
    edit,
    legacy,
    plain_bert,
    plain_decoder,
    plain_xlmr,
    wrap,
    write,
)
from safetensors.torch import save_file
from small_models import DECODERS, PROMPT, gap, small_model
from torch import nn

from zhihui.encoder import load
from zhihui.errors import InputError

# --------------------------------------------------------------------------- the same as sentence-transformers


@pytest.fixture(scope="module")
def peer():
    """Vectors by sentence-transformers itself; imported late, for it is slow."""
    import warnings

    from sentence_transformers import SentenceTransformer

    def vectors(folder, role):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own deprecations
            model = SentenceTransformer(str(folder), device="cpu")
            encode = model.encode_query if role == "query" else model.encode_document
            return encode(TEXTS, batch_size=4, convert_to_numpy=True, show_progress_bar=False)

    return vectors


def check_against(peer, folder, **expected):
    encoder = load(folder)
    assert encoder.packable
    for role in ("query", "document"):
        ours = encoder.encode(TEXTS, role=role)
        assert len(np.unique(ours.round(3), axis=0)) == len(TEXTS)
        assert gap(ours, peer(folder, role)) < 1e-5, role
    found = {name: getattr(encoder.settings, name) for name in expected}
    assert found == expected


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", DECODERS)
def test_decoders_by_their_last_token(family, causal, tmp_path, tokenizer, peer):
    folder = decoder_folder(tmp_path / "m", tokenizer, family, causal=causal)
    check_against(peer, folder, pooling="lasttoken", max_length=60, normalize=True, prompts={"query": PROMPT})
    assert load(folder).is_causal is causal


def test_bert_by_its_first_token(bert, peer):
    check_against(peer, bert, pooling="cls", max_length=60, prompts={})


def test_xlmr_by_its_mean(tmp_path, peer):
    folder = wrap(plain_xlmr(tmp_path / "m"), legacy("mean_tokens"), length=64)
    check_against(peer, folder, pooling="mean", max_length=64)


def test_dense_layers_and_no_norm(bert, peer):
    generator = torch.Generator().manual_seed(0)
    wrap(bert, {"embedding_dimension": 32, "pooling_mode": "mean"}, kinds=("Transformer", "Pooling", "Dense", "Dense"))
    for number, (width, out, bias, activation) in enumerate(
        [(32, 20, True, "torch.nn.modules.activation.Tanh"), (20, 12, False, "torch.nn.modules.linear.Identity")], 2
    ):
        config = {"in_features": width, "out_features": out, "bias": bias, "activation_function": activation}
        write(bert / f"{number}_Dense" / "config.json", config)
        weights = {"linear.weight": torch.randn(out, width, generator=generator)}
        if bias:
            weights["linear.bias"] = torch.randn(out, generator=generator)
        save_file(weights, bert / f"{number}_Dense" / "model.safetensors")
    # kinds of one name need folders of their own
    modules = json.loads((bert / "modules.json").read_text())
    assert [m["path"] for m in modules] == ["", "1_Pooling", "2_Dense", "3_Dense"]
    check_against(peer, bert, pooling="mean", normalize=False)
    encoder = load(bert)
    assert encoder.dimension == 12
    assert [type(layer) for layer in encoder.dense] == [nn.Linear, nn.Tanh, nn.Linear, nn.Identity]


def test_lower_case_is_done_before_the_tokenizers_own_normaliser(tmp_path, tokenizer, peer):
    folder = decoder_folder(tmp_path / "m", tokenizer)
    cased = load(folder).encode_documents(["PYTHON 列表", "python 列表"])
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    check_against(peer, folder)
    lower = load(folder).encode_documents(["PYTHON 列表", "python 列表"])
    assert gap(cased[0], cased[1]) > 1e-2
    assert gap(lower[0], lower[1]) < 1e-6


def test_a_transformer_in_a_folder_of_its_own_and_an_older_name_of_its_config(qwen2, tmp_path, peer):
    outer = tmp_path / "outer"
    shutil.copytree(qwen2, outer / "0_Transformer")
    for name in ("modules.json", "1_Pooling", "config_sentence_transformers.json"):
        shutil.move(outer / "0_Transformer" / name, outer / name)
    modules = json.loads((outer / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write(outer / "modules.json", modules)
    inner = outer / "0_Transformer"
    (inner / "sentence_bert_config.json").rename(inner / "sentence_xlm-roberta_config.json")
    check_against(peer, outer, max_length=60, prompts={"query": PROMPT})


# --------------------------------------------------------------------------- settings


@pytest.mark.parametrize("mode", ["lasttoken", "mean", "cls"])
def test_pooling_is_read_in_both_forms(qwen2, mode):
    path = qwen2 / "1_Pooling" / "config.json"
    old = {"mean": "mean_tokens", "cls": "cls_token"}.get(mode, mode)
    for config in (legacy(old), {"pooling_mode": mode}, {"pooling_mode": [mode]}):
        write(path, config)
        assert load(qwen2).settings.pooling == mode


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (legacy("max_tokens"), "pooling_mode_max_tokens"),
        (legacy("cls_token", pooling_mode_mean_tokens=True), "cls.mean"),
        (legacy("none"), "none"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": 3}, "3"),
        ({"pooling_mode": ["mean", "max"]}, "mean.max"),
    ],
)
def test_other_pooling_is_refused_unless_it_is_replaced(qwen2, config, what):
    write(qwen2 / "1_Pooling" / "config.json", config)
    with pytest.raises(InputError, match=f"1_Pooling/config.json: pooling {what}; one of lasttoken, mean, cls"):
        load(qwen2)
    assert load(qwen2, pooling="mean").settings.pooling == "mean"


def test_a_mean_without_its_prompt_is_refused_where_there_is_one(qwen2):
    write(qwen2 / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    with pytest.raises(InputError, match="its mean leaves the prompt out"):
        load(qwen2)
    write(qwen2 / "config_sentence_transformers.json", {"prompts": {"query": "", "document": None}})
    assert load(qwen2).settings.pooling == "mean"


@pytest.mark.parametrize(
    ("stored", "document"),
    [
        ({"query": "问：", "document": "文："}, "文："),
        ({"query": "问：", "passage": "段："}, "段："),
        ({"query": "问：", "corpus": "库："}, "库："),
        ({"query": "问：", "document": "", "passage": "段："}, ""),  # as sentence-transformers takes it
        ({"query": "问：", "document": None}, ""),
    ],
)
def test_prompts_are_read_under_the_names_they_may_have(qwen2, stored, document):
    write(qwen2 / "config_sentence_transformers.json", {"prompts": stored})
    settings = load(qwen2).settings
    assert (settings.prompt("query"), settings.prompt("document")) == ("问：", document)
    assert load(qwen2, prompts={"document": "另"}).settings.prompts == {"document": "另"}


def test_max_length_is_the_models_own_at_most_512_or_what_is_asked(qwen2, bert):
    assert load(qwen2).settings.max_length == 60
    assert load(qwen2, max_length=200).settings.max_length == 200
    edit(qwen2 / "sentence_bert_config.json", max_seq_length=None)
    edit(qwen2 / "config.json", max_position_embeddings=4096)
    assert load(qwen2).settings.max_length == 512
    edit(qwen2 / "tokenizer_config.json", model_max_length=80)
    assert load(qwen2).settings.max_length == 80
    with pytest.raises(InputError, match="max_length 0 leaves no room"):
        load(qwen2, max_length=0)
    with pytest.raises(InputError, match=r"^bert: max_length 67 exceeds the model's 66 positions"):
        load(bert, max_length=67)


def test_xlmr_has_two_positions_fewer_than_its_table(tmp_path):
    folder = plain_xlmr(tmp_path / "m")
    encoder = load(folder, pooling="mean")
    assert encoder.settings.max_length == 64
    assert np.isfinite(encoder.encode_documents(["小猫" * 99])).all()
    with pytest.raises(InputError, match="max_length 65 exceeds the model's 64 positions"):
        load(folder, pooling="mean", max_length=65)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", torch.float64])
def test_dtype_is_what_is_asked_or_what_is_stored(qwen2, dtype):
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    encoder = load(qwen2, dtype=dtype)
    assert {p.dtype for p in encoder.parameters()} == {wanted}
    assert encoder.packable
    encoder.backbone.save_pretrained(qwen2)
    assert load(qwen2).dtype == wanted
    assert (encoder.encode_documents(TEXTS) * load(qwen2).encode_documents(TEXTS)).sum(1).min() > 0.999


def test_an_unknown_dtype_is_refused(qwen2):
    with pytest.raises(InputError, match="dtype 'int8' is unknown; choose auto, float32"):
        load(qwen2, dtype="int8")


def test_loading_twice_gives_one_fingerprint_wherever_the_folder_lies(qwen2, tmp_path):
    shutil.copytree(qwen2, tmp_path / "elsewhere")
    first, second = load(qwen2), load(tmp_path / "elsewhere")
    first.encode_queries(TEXTS)
    assert first.fingerprint == second.fingerprint
    assert (first.name, second.name) == ("qwen2", "elsewhere")
    assert not first.training


def test_a_folder_named_by_a_dot_has_its_own_name(qwen2, monkeypatch):
    monkeypatch.chdir(qwen2)
    assert load(".").name == "qwen2"


def test_eos_that_a_repository_adds_by_code_of_its_own_is_added(tmp_path, tokenizer):
    folder = plain_decoder(tmp_path / "m", copy.deepcopy(tokenizer))
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    pooling = {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True}
    wrap(folder, pooling)
    without = load(folder).tokenize(TEXTS[:2], role="document")
    edit(folder / "tokenizer_config.json", add_eos_token=True)
    found = load(folder).tokenize(TEXTS[:2], role="document")
    assert found == [[*ids, tokenizer.eos_token_id] for ids in without]


# --------------------------------------------------------------------------- plain models


@pytest.mark.parametrize("family", DECODERS)
def test_a_plain_decoder_gets_eos_and_the_default_prompts(family, tmp_path, tokenizer):
    encoder = load(plain_decoder(tmp_path / "m", tokenizer, family))
    assert encoder.settings.pooling == "lasttoken"
    assert encoder.settings.prompt("query").startswith("Instruct: ")
    assert encoder.settings.max_length == 256
    assert {ids[-1] for ids in encoder.tokenize(TEXTS, role="query")} == {tokenizer.eos_token_id}
    assert not encoder.is_causal


def test_weights_of_a_language_model_serve_without_its_head_and_without_a_word(tmp_path, tokenizer):
    from transformers import Qwen2ForCausalLM

    folder = plain_decoder(tmp_path / "m", tokenizer, causal=True)
    expected = load(folder).encode_documents(TEXTS)
    backbone = small_model("qwen2", vocabulary=704)
    whole = Qwen2ForCausalLM(backbone.config)
    whole.model = backbone
    whole.save_pretrained(folder)
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logging.getLogger("transformers").addHandler(handler)
    level = logging.getLogger("transformers").level
    try:
        assert gap(load(folder).encode_documents(TEXTS), expected) < 1e-6
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert said == []
    assert logging.getLogger("transformers").level == level


def test_attention_can_be_chosen_for_a_decoder(tmp_path, tokenizer, bert):
    folder = plain_decoder(tmp_path / "m", tokenizer, causal=True)
    closed, opened = load(folder), load(folder, attention="bidirectional")
    assert (closed.is_causal, opened.is_causal) == (True, False)
    assert gap(closed.encode_documents(TEXTS), opened.encode_documents(TEXTS)) > 1e-2
    assert load(folder, attention="causal").fingerprint == closed.fingerprint != opened.fingerprint
    with pytest.raises(InputError, match="bert is an encoder and always bidirectional; leave out attention"):
        load(bert, attention="causal")
    with pytest.raises(InputError, match="attention 'sideways' is unknown; choose bidirectional or causal"):
        load(folder, attention="sideways")


def test_a_plain_encoder_needs_to_be_told_its_pooling(tmp_path):
    folder = plain_bert(tmp_path / "m")
    with pytest.raises(InputError, match=r"/m: a plain bert checkpoint does not say how it is pooled; pass pooling"):
        load(folder)
    assert load(folder, pooling="cls").settings.pooling == "cls"
    assert load(folder, pooling="cls").settings.prompt("query") == "", "it knows no instructions"


def test_an_encoder_of_another_build_loads_as_well(tmp_path, peer):
    from transformers import DistilBertConfig, DistilBertModel

    folder = wrap(plain_bert(tmp_path / "m"), legacy("mean_tokens"))
    size = {"vocab_size": len(CHARACTERS) + 5, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
    torch.manual_seed(0)
    DistilBertModel(DistilBertConfig(**size, max_position_embeddings=66, initializer_range=0.3)).save_pretrained(folder)
    encoder = load(folder)
    assert encoder.dimension == 32
    for role in ("query", "document"):
        assert gap(encoder.encode(TEXTS, role=role), peer(folder, role)) < 1e-5


def test_sharded_weights_load_and_a_missing_shard_is_named(tmp_path, tokenizer):
    folder = plain_decoder(tmp_path / "m", tokenizer)
    expected = load(folder).encode_documents(TEXTS)
    (folder / "model.safetensors").unlink()
    small_model("qwen2", causal=False, vocabulary=704).save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 3
    assert gap(load(folder).encode_documents(TEXTS), expected) < 1e-6
    shards[1].unlink()
    with pytest.raises(InputError, match=r"/m: cannot be loaded \(.*"):
        load(folder)
