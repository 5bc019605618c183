from __future__ import annotations

import math

import pytest
import torch
from small_models import DECODERS, ENCODERS, small_model

from zhihui.encoder import attention
from zhihui.encoder.encoder import claims_open
from zhihui.encoder.probe import check_direction, is_packable
from zhihui.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_is_what_its_config_says_and_not_the_opposite(family, causal, dtype):
    backbone = small_model(family, causal=causal).to(dtype)
    assert claims_open(backbone.config) is not causal
    check_direction(backbone, claimed_open=not causal, name="m")
    is_so, mend = ("causal", "true") if causal else ("bidirectional", "false")
    with pytest.raises(InputError, match=rf'^m: .* but it is {is_so} .* set "is_causal": {mend} in config.json'):
        check_direction(backbone, claimed_open=causal, name="m")


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_is_open_unless_it_is_run_as_a_decoder(family):
    backbone = small_model(family)
    assert claims_open(backbone.config)
    check_direction(backbone, claimed_open=True, name="m")
    closed = small_model(family, is_decoder=True)
    assert not claims_open(closed.config)
    check_direction(closed, claimed_open=False, name="m")


def test_a_flag_that_this_family_ignores_is_a_false_claim():
    backbone = small_model("qwen2", use_bidirectional_attention=True)
    assert claims_open(backbone.config)
    with pytest.raises(InputError, match="says bidirectional attention, but it is causal"):
        check_direction(backbone, claimed_open=True, name="m")


def test_a_model_that_overflows_is_named():
    backbone = small_model("qwen2")
    with torch.no_grad():
        backbone.embed_tokens.weight.fill_(math.inf)
    with pytest.raises(InputError, match=r"m: its states overflow in torch.float32"):
        check_direction(backbone, claimed_open=False, name="m")


def test_a_model_that_needs_other_input_is_named():
    backbone = small_model("qwen2")
    backbone.forward = lambda *, pixel_values: None
    with pytest.raises(InputError, match=r"m: does not run on token ids alone \(TypeError"):
        check_direction(backbone, claimed_open=False, name="m")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("family", [*DECODERS, *ENCODERS])
def test_known_families_can_be_packed_and_keep_their_own_attention(family, dtype):
    backbone = small_model(family).to(dtype)
    assert is_packable(backbone)
    assert backbone.config._attn_implementation == "eager"


def test_a_leak_between_sequences_is_found(monkeypatch):
    backbone = small_model("qwen2", causal=False)
    assert is_packable(backbone)

    def leaky(*args, packed_lengths, **others):
        return attention.packed_attention(*args, packed_lengths=(sum(packed_lengths),), **others)

    monkeypatch.setitem(attention.AttentionInterface._global_mapping, attention.PACKED, leaky)
    assert not is_packable(backbone)
    assert backbone.config._attn_implementation == "eager"


def test_wrong_positions_are_found(monkeypatch):
    # RoBERTa counts from the padding id on; counted from zero its states are others.
    assert is_packable(small_model("roberta"))
    monkeypatch.setattr("zhihui.encoder.encoder._OFFSET_POSITIONS", ())
    assert not is_packable(small_model("roberta"))


def test_a_backbone_that_mixes_tokens_by_other_means_is_not_packable():
    backbone = small_model("qwen2")

    def shift(layer, args, output):
        return output + output.roll(1, dims=1)

    backbone.layers[0].register_forward_hook(shift)
    assert not is_packable(backbone)
