from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import DECODERS, ENCODERS, gap, random_ids, small_model, states_alone
from torch.nn.utils.rnn import pad_sequence

from zhihui.encoder.attention import PACKED, packed_attention
from zhihui.encoder.encoder import packed_states
from zhihui.encoder.packing import pack

LENGTHS = (5, 1, 9, 9, 2, 17, 9)


def naive_attention(query, key, value, lengths, *, causal, window, scale):
    """One token and one head at a time, straight from the definition."""
    heads, share = query.shape[1], query.shape[1] // key.shape[1]
    out = torch.zeros_like(query[0].transpose(0, 1))
    start = 0
    for length in lengths:
        for i in range(start, start + length):
            seen = [
                j
                for j in range(start, start + length)
                if (j <= i or not causal) and (window is None or (i - j < window if causal else abs(i - j) <= window))
            ]
            for h in range(heads):
                k, v = key[0, h // share, seen], value[0, h // share, seen]
                out[i, h] = torch.softmax(k @ query[0, h, i] * scale, 0) @ v
        start += length
    return out[None]


def layer(causal):
    return SimpleNamespace(is_causal=True, config=SimpleNamespace(is_causal=causal))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    causal=st.booleans(),
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.sampled_from([None, 1, 2, 3, 6]),
    scaling=st.sampled_from([None, 0.3]),
)
def test_it_is_the_definition_in_fp64_with_its_gradients(lengths, causal, kv_heads, window, scaling):
    generator = torch.Generator().manual_seed(sum(lengths))
    shapes = ((1, 4, sum(lengths), 6), (1, kv_heads, sum(lengths), 6), (1, kv_heads, sum(lengths), 6))
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    weight = torch.randn(1, sum(lengths), 4, 6, generator=generator, dtype=torch.float64)
    fast, none = packed_attention(
        layer(causal), *inputs, None, packed_lengths=tuple(lengths), sliding_window=window, scaling=scaling
    )
    slow = naive_attention(*inputs, lengths, causal=causal, window=window, scale=scaling or 1 / math.sqrt(6))
    assert none is None
    assert gap(fast.detach(), slow.detach()) < 1e-12
    ours = torch.autograd.grad((fast * weight).sum(), inputs)
    for own, true in zip(ours, torch.autograd.grad((slow * weight).sum(), inputs), strict=True):
        assert gap(own, true) < 1e-12


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_packed_decoders_equal_padded_and_one_by_one(family, causal, window):
    backbone = small_model(family, causal=causal, window=window if family != "llama" else None)
    check_packed(backbone, random_ids(LENGTHS))


@pytest.mark.parametrize("family", ENCODERS)
@torch.no_grad()
def test_packed_encoders_equal_padded_and_one_by_one(family):
    # More tokens in all than the 66 positions the model has.
    check_packed(small_model(family), random_ids((*LENGTHS, 64)))


def check_packed(backbone, sequences):
    alone = [states_alone(backbone, ids) for ids in sequences]
    assert min(gap(states[0], alone[0][0]) for states in alone[1:]) > 0.1  # they do differ
    for implementation in ("eager", "sdpa"):
        backbone.set_attn_implementation(implementation)
        for side in ("left", "right"):
            pad = backbone.config.pad_token_id or 0
            ids = pad_sequence([torch.tensor(s) for s in sequences], True, pad, side)
            mask = pad_sequence([torch.ones(len(s), dtype=torch.long) for s in sequences], True, 0, side)
            padded = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
            if side == "right" or backbone.config.model_type not in ENCODERS:  # absolute positions count padding
                assert gap(padded[mask.bool()], torch.cat(alone)) < 1e-5
    backbone.set_attn_implementation(PACKED)
    assert gap(packed_states(backbone, pack(sequences))[0], torch.cat(alone)) < 1e-5


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8), causal=st.booleans())
@torch.no_grad()
def test_any_lengths_pack_to_the_same_states(lengths, causal):
    backbone = small_model("qwen2", causal=causal, window=5)
    sequences = random_ids(tuple(lengths), seed=len(lengths))
    alone = torch.cat([states_alone(backbone, ids) for ids in sequences])
    backbone.set_attn_implementation(PACKED)
    assert gap(packed_states(backbone, pack(sequences))[0], alone) < 1e-5


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", [*DECODERS, "bert"])
@torch.no_grad()
def test_nothing_leaks_between_packed_sequences(family, causal):
    backbone = small_model(family, causal=causal) if family != "bert" else small_model(family)
    backbone.set_attn_implementation(PACKED)
    first, before, after, last = random_ids((6, 6, 6, 4))
    one = packed_states(backbone, pack([first, before, last]))[0]
    other = packed_states(backbone, pack([first, after, last]))[0]
    assert torch.equal(one[:6], other[:6])
    assert torch.equal(one[12:], other[12:])
    assert gap(one[6:12], other[6:12]) > 0.1
    # A neighbour of another length moves the rest along the row, and nothing else.
    longer = packed_states(backbone, pack([first, before + after, last]))[0]
    assert gap(torch.cat([longer[:6], longer[18:]]), torch.cat([one[:6], one[12:]])) < 1e-5


@torch.no_grad()
def test_packing_by_positions_alone_leaks_which_is_why_this_exists():
    backbone = small_model("qwen2", causal=False)
    backbone.set_attn_implementation("sdpa")
    packed = pack(random_ids((6, 6)))
    leaky = backbone(input_ids=packed.ids[None], position_ids=packed.positions[None]).last_hidden_state[0]
    assert gap(leaky[:6], states_alone(backbone, packed.ids[:6].tolist())) > 0.1


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", [*DECODERS, *ENCODERS])
def test_gradients_of_packed_sequences_are_the_sum_of_each_alone(family, causal):
    backbone = small_model(family, **({"causal": causal} if family in DECODERS else {}))
    sequences = random_ids((5, 8, 8, 3))
    weight = torch.randn(32, generator=torch.Generator().manual_seed(1))

    def gradients(loss):
        backbone.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}

    alone = gradients(sum((states_alone(backbone, ids).square() @ weight).sum() for ids in sequences))
    backbone.set_attn_implementation(PACKED)
    packed = gradients((packed_states(backbone, pack(sequences))[0].square() @ weight).sum())
    assert alone.keys() == packed.keys()
    assert sum(g.abs().max() > 0 for g in alone.values()) > 10
    for name, gradient in alone.items():
        assert gap(packed[name], gradient) <= 1e-5 * max(1.0, float(gradient.abs().max())), name


def test_dropout_drops_in_training_only():
    backbone = small_model("qwen2", attention_dropout=0.5)
    backbone.set_attn_implementation(PACKED)
    packed = pack(random_ids((6, 4)))
    with torch.no_grad():
        still = packed_states(backbone, packed)
        assert torch.equal(packed_states(backbone, packed), still)
        torch.manual_seed(0)
        assert gap(packed_states(backbone.train(), packed), still) > 0.1


def test_a_mask_is_refused():
    x = torch.zeros(1, 1, 2, 4)
    with pytest.raises(AssertionError, match="lengths, not masks"):
        packed_attention(layer(True), x, x, x, torch.ones(1, 1, 2, 2), packed_lengths=(2,))
