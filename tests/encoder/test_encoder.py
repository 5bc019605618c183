from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import PROMPT, SENTENCES, gap, small_model, states_alone
from torch import nn

from zhihui.encoder import Encoder, EncoderSettings, TextEncoder, build
from zhihui.encoder.packing import pack
from zhihui.errors import InputError

MIXED = [*SENTENCES, "", "雨", "".join(SENTENCES) * 2, "😀"]


def by_hand(encoder, text, *, role="document"):
    """Encode one text alone by transformers' own attention."""
    (ids,) = encoder.tokenize([text], role=role)
    own = encoder.backbone.config._attn_implementation
    encoder.backbone.set_attn_implementation("eager")
    with torch.no_grad():
        states = states_alone(encoder.backbone, ids)
    encoder.backbone.set_attn_implementation(own)
    return nn.functional.normalize(states[-1].float(), dim=0).numpy()


# --------------------------------------------------------------------------- vectors


def test_vectors_are_those_of_each_text_alone_in_the_order_given(tiny):
    vectors = tiny.encode_documents(MIXED)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(MIXED), 64)
    assert len(np.unique(vectors.round(4), axis=0)) == len(MIXED)
    for text, vector in zip(MIXED, vectors, strict=True):
        assert gap(vector, by_hand(tiny, text)) < 1e-6


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(MIXED))), budget=st.integers(1, 900))
def test_order_and_budget_do_not_change_a_vector(tiny, order, budget):
    vectors = tiny.encode_documents(MIXED)
    shuffled = tiny.encode_documents([MIXED[i] for i in order], token_budget=budget)
    assert gap(shuffled, vectors[order]) < 1e-6


def test_more_texts_than_are_tokenized_together(tiny, monkeypatch):
    expected = tiny.encode_documents(MIXED)
    monkeypatch.setattr("zhihui.encoder.encoder._WINDOW", 5)
    assert gap(tiny.encode_documents(MIXED), expected) < 1e-6


@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "cls"])
def test_encoding_twice_is_bit_for_bit_the_same(tiny, pooling):
    encoder = Encoder(tiny.backbone, tiny.tokenizer, replace(tiny.settings, pooling=pooling), name="m").eval()
    assert np.array_equal(encoder.encode_queries(MIXED), encoder.encode_queries(MIXED))


@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "cls"])
def test_a_backbone_that_cannot_be_packed_is_padded_to_the_same_vectors(tiny, pooling, monkeypatch):
    own = replace(tiny.settings, pooling=pooling)
    expected = Encoder(tiny.backbone, tiny.tokenizer, own, name="m").encode_documents(MIXED)
    other = build("tiny", SENTENCES, seed=7)
    other.backbone.set_attn_implementation("sdpa")
    padded = Encoder(other.backbone, other.tokenizer, own, name="m", packable=False).eval()
    widths = []
    padded.backbone.register_forward_pre_hook(
        lambda m, args, named: widths.append(named["input_ids"].numel()), with_kwargs=True
    )
    assert gap(padded.encode_documents(MIXED, token_budget=600), expected) < 1e-6
    assert max(widths) <= 600  # padding counts
    assert gap(padded.encode_documents(MIXED), expected) < 1e-6


def test_queries_get_the_prompt_and_documents_do_not(fresh_tiny):
    vary(fresh_tiny)
    query, document = fresh_tiny.encode_queries(["小猫"]), fresh_tiny.encode_documents(["小猫"])
    assert gap(query, document) > 1e-3
    assert gap(fresh_tiny.encode_queries(["小猫"], instruction=""), document) < 1e-6
    assert gap(fresh_tiny.encode_queries(["小猫"], instruction="找相似的句子"), query) > 1e-3
    spelled = fresh_tiny.encode_documents([fresh_tiny.settings.prompt("query") + "小猫"])
    assert gap(spelled, query) < 1e-6


def vary(encoder):
    """Replace the bag of tokens, which does not look at the prompt, by weights that do."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if not name.endswith("norm.weight"):
                p.copy_(0.2 * torch.randn(p.shape, generator=generator))


def test_norms_are_one_unless_the_settings_leave_them(tiny):
    assert np.abs(np.linalg.norm(tiny.encode_documents(MIXED), axis=1) - 1).max() < 1e-6
    raw = Encoder(tiny.backbone, tiny.tokenizer, replace(tiny.settings, normalize=False), name="m")
    vectors = raw.encode_documents(MIXED)
    assert np.linalg.norm(vectors, axis=1).min() > 2
    assert gap(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), tiny.encode_documents(MIXED)) < 1e-6


def test_dense_layers_stand_between_pooling_and_norm(tiny):
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 8), nn.Identity())
    encoder = Encoder(tiny.backbone, tiny.tokenizer, tiny.settings, name="m", dense=dense)
    raw = Encoder(tiny.backbone, tiny.tokenizer, replace(tiny.settings, normalize=False), name="m")
    assert encoder.dimension == 8
    expected = nn.functional.normalize(dense(torch.tensor(raw.encode_documents(MIXED))), dim=1).detach()
    assert gap(encoder.encode_documents(MIXED), expected) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(tiny, fresh_tiny, dtype):
    half = fresh_tiny.to(dtype)
    assert half.dtype == dtype
    vectors = half.encode_documents(MIXED)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    cosines = (vectors * tiny.encode_documents(MIXED)).sum(1)
    assert 0.999 < cosines.min() < 1


def test_gradients_flow_through_forward(fresh_tiny):
    vary(fresh_tiny)
    fresh_tiny.train()
    ids = fresh_tiny.tokenize(MIXED[:4], role="query")
    vectors = fresh_tiny(pack(ids))
    (vectors[0] @ vectors[1] - vectors[2] @ vectors[3]).backward()
    unused = [name for name, p in fresh_tiny.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


# --------------------------------------------------------------------------- what goes in


def test_no_texts_give_no_vectors(tiny):
    assert tiny.encode_documents([]).shape == (0, 64)
    assert tiny.encode_queries([]).dtype == np.float32


def test_a_single_string_is_refused(tiny):
    with pytest.raises(ValueError, match="texts is a single string; pass a list"):
        tiny.encode_queries("小猫")


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_must_be_positive(tiny, budget):
    with pytest.raises(InputError, match=f"token_budget {budget} is not positive"):
        tiny.encode_documents(["小猫"], token_budget=budget)


def test_arrays_and_tuples_of_texts_will_do(tiny):
    expected = tiny.encode_queries(["小猫", "小狗"])
    assert np.array_equal(tiny.encode_queries(("小猫", "小狗")), expected)
    assert np.array_equal(tiny.encode_queries(np.array(["小猫", "小狗"])), expected)


# --------------------------------------------------------------------------- state


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored_also_after_an_error(fresh_tiny, training):
    seen = []
    fresh_tiny.backbone.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    fresh_tiny.train(training)
    fresh_tiny.encode_documents(MIXED)
    assert fresh_tiny.training is fresh_tiny.backbone.layers[0].training is training
    fresh_tiny.settings = replace(fresh_tiny.settings, max_length=3)
    with pytest.raises(InputError, match="nothing of a text"):
        fresh_tiny.encode_queries(["小猫"])
    assert fresh_tiny.training is fresh_tiny.backbone.layers[0].training is training
    assert seen
    assert not any(seen)


def test_another_attention_is_noticed_before_it_mixes_texts(fresh_tiny):
    fresh_tiny.backbone.set_attn_implementation("sdpa")
    with pytest.raises(AssertionError, match="attention was set to 'sdpa'"):
        fresh_tiny.encode_documents(["小猫", "小狗"])


def test_an_encoder_is_a_text_encoder(tiny):
    members = {name for name in vars(TextEncoder) if not name.startswith("_")}
    assert members == {"name", "fingerprint", "encode_queries", "encode_documents"}
    assert tiny.name == "fresh-tiny"
    for name in ("encode_queries", "encode_documents"):
        wanted, own = (inspect.signature(getattr(kind, name)).parameters for kind in (TextEncoder, Encoder))
        assert wanted.keys() <= own.keys(), name


# --------------------------------------------------------------------------- fingerprint


def test_the_fingerprint_is_that_of_the_model_and_not_of_its_use(tiny):
    before = tiny.fingerprint
    tiny.encode_queries(MIXED)
    tiny.tokenizer(["小猫", "一"], truncation=True, max_length=3, padding="max_length")
    assert tiny.fingerprint == before
    assert build("tiny", SENTENCES, seed=7).fingerprint == before
    assert len(before) == 64


def edit_weights(encoder):
    with torch.no_grad():
        encoder.backbone.layers[1].mlp.up_proj.weight[3, 4] += 1e-3


def edit_weights_behind_the_version_counter(encoder):
    encoder.backbone.layers[1].mlp.up_proj.weight.data[3, 4] += 1e-3


def swap_rows(encoder):
    table = encoder.backbone.embed_tokens.weight.data
    table[[7, 8]] = table[[8, 7]]


def change_config(encoder):
    encoder.backbone.config.rms_norm_eps = 1e-5


def open_attention(encoder):
    encoder.backbone.config.is_causal = True


def change_tokenizer(encoder):
    encoder.tokenizer.backend_tokenizer.normalizer = None


def change_truncation_side(encoder):
    encoder.tokenizer.truncation_side = "left"


def add_dense(encoder):
    encoder.dense = nn.Sequential(nn.Linear(64, 8), nn.Tanh())


def set_to(**settings):
    def change(encoder):
        encoder.settings = replace(encoder.settings, **settings)

    change.__name__ = next(iter(settings))
    return change


CHANGES = [
    edit_weights,
    edit_weights_behind_the_version_counter,
    swap_rows,
    change_config,
    open_attention,
    change_tokenizer,
    change_truncation_side,
    add_dense,
    set_to(prompts={"query": PROMPT}),
    set_to(pooling="mean"),
    set_to(normalize=False),
    set_to(max_length=100),
    lambda encoder: encoder.to(torch.float64),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_ingredient_moves_the_fingerprint(fresh_tiny, change):
    before = fresh_tiny.fingerprint
    change(fresh_tiny)
    assert fresh_tiny.fingerprint != before


def test_the_activation_of_a_dense_layer_moves_the_fingerprint(fresh_tiny):
    add_dense(fresh_tiny)
    before = fresh_tiny.fingerprint
    fresh_tiny.dense[1] = nn.ReLU()
    assert fresh_tiny.fingerprint != before


def test_the_same_numbers_in_another_dtype_are_another_model(fresh_tiny):
    rounded = fresh_tiny.to(torch.bfloat16).fingerprint
    assert fresh_tiny.to(torch.float32).fingerprint != rounded


def test_a_backbone_of_another_family_has_another_fingerprint(tiny):
    llama, mistral = (small_model(f, vocabulary=len(tiny.tokenizer), head_dim=16) for f in ("llama", "mistral"))
    llama.load_state_dict(mistral.state_dict())
    settings = EncoderSettings()
    prints = {Encoder(m, tiny.tokenizer, settings, name="m").fingerprint for m in (llama, mistral)}
    assert len(prints) == 2
