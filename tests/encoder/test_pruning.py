from __future__ import annotations

import copy
import threading

import pytest
import torch
from small_models import DECODERS, ENCODERS, gap, random_ids, small_model
from torch import nn

from zhihui.encoder import Encoder, EncoderSettings, pruning
from zhihui.encoder.packing import Packed, pack
from zhihui.encoder.probe import is_prunable


@pytest.fixture
def packed() -> Packed:
    return pack(random_ids((7, 3, 12, 7, 1)))


def encoder_of(backbone, pooling="lasttoken") -> Encoder:
    return Encoder(backbone, None, EncoderSettings(pooling=pooling), name="small").eval()


def rows_seen(part: nn.Module) -> list[int]:
    """Count, from now on, the tokens that a part of a layer computes."""
    seen: list[int] = []
    part.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    return seen


@torch.inference_mode()
@pytest.mark.parametrize("pooling", ["lasttoken", "cls"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", DECODERS)
def test_vectors_stay_and_the_last_layer_computes_one_row_a_text(packed, family, causal, pooling):
    encoder = encoder_of(small_model(family, causal=causal), pooling)
    assert encoder.prunable
    first, last = ([rows_seen(p) for p in (x.mlp, x.self_attn.o_proj)] for x in encoder.backbone.layers)
    pruned = encoder(packed)
    encoder.prunable = False
    whole = encoder(packed)
    assert gap(pruned, whole) < 1e-6
    assert first == [[30, 30], [30, 30]]
    assert last == [[5, 30], [5, 30]]


@torch.inference_mode()
def test_the_mean_needs_all_tokens(packed):
    encoder = encoder_of(small_model("qwen2"), "mean")
    seen = rows_seen(encoder.backbone.layers[-1].mlp)
    encoder(packed)
    assert seen == [30]


def gradients(encoder: Encoder, packed: Packed) -> dict[str, torch.Tensor]:
    encoder.zero_grad()
    (encoder(packed) * torch.randn(5, encoder.dimension, generator=torch.Generator().manual_seed(0))).sum().backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pooling", ["lasttoken", "cls"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", DECODERS)
def test_training_computes_one_row_a_text_with_the_same_gradients(packed, family, causal, pooling):
    encoder = encoder_of(small_model(family, causal=causal), pooling).train()
    seen = rows_seen(encoder.backbone.layers[-1].mlp)
    pruned = gradients(encoder, packed)
    with torch.no_grad():  # the first pass of gradient caching
        encoder(packed)
    encoder.prunable = False
    whole = gradients(encoder, packed)
    assert seen == [5, 5, 30]
    assert pruned.keys() == whole.keys()
    assert all(float(whole[name].abs().max()) > 0 for name in whole if name.endswith("q_proj.weight"))
    for name in whole:
        assert float((pruned[name] - whole[name]).norm()) < 1e-4 * float(whole[name].norm()) + 1e-6, name


def test_recomputed_layers_see_all_tokens(packed):
    """In the backward pass nobody knows any more what is pooled."""
    encoder = encoder_of(small_model("qwen2")).train()
    expected = gradients(encoder, packed)
    enable = getattr(encoder.backbone, "activation_checkpointing_enable", None)
    (enable or encoder.backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    seen = rows_seen(encoder.backbone.layers[-1].mlp)
    found = gradients(encoder, packed)
    assert set(seen) == {30}
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_queries_nobody_pools_are_not_computed(packed):
    encoder = encoder_of(small_model("qwen2"))
    seen = rows_seen(encoder.backbone.layers[-1].self_attn.q_proj)
    with pruning.only(packed.ends - 1, 30, last=True):
        assert pruning.wanted_queries(encoder.backbone.layers[-1].self_attn) is not None
        assert pruning.wanted_queries(encoder.backbone.layers[0].self_attn) is None
    encoder(packed)
    assert seen == [5]


@torch.inference_mode()
def test_a_backbone_in_two_encoders_is_prepared_once(packed):
    backbone = small_model("qwen2")
    first, second = encoder_of(backbone), encoder_of(copy.deepcopy(backbone))
    assert len(backbone.layers[-1].mlp._forward_hooks) == 1
    assert gap(first(packed), encoder_of(backbone)(packed)) == 0
    assert gap(first(packed), second(packed)) == 0


def test_threads_do_not_prune_for_one_another(packed):
    encoder = encoder_of(small_model("qwen2"))
    seen = rows_seen(encoder.backbone.layers[-1].mlp)
    with pruning.only(packed.ends - 1, 30):
        other = threading.Thread(target=encoder_of(encoder.backbone, "mean"), args=(packed,))
        other.start()
        other.join()
        assert seen == [30]


@pytest.mark.parametrize("family", ENCODERS)
def test_other_builds_are_left_alone(family):
    assert not encoder_of(small_model(family), "cls").prunable


def test_a_last_layer_that_mixes_tokens_afterwards_is_found_out():
    encoder = encoder_of(small_model("qwen2"))
    assert is_prunable(encoder)
    encoder.backbone.norm.register_forward_hook(lambda _, __, states: states + states.mean(1, keepdim=True))
    assert not is_prunable(encoder)


def test_a_network_that_fails_on_fewer_rows_is_found_out():
    encoder = encoder_of(small_model("qwen2"))

    def fail(_, inputs):
        if inputs[0].shape[1] < sum((7, 3, 7, 5)):
            raise RuntimeError("rows were expected to be all")

    encoder.backbone.layers[-1].mlp.register_forward_pre_hook(fail)
    assert not is_prunable(encoder)
