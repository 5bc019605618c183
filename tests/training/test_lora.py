from __future__ import annotations

import copy
import math
import sys

import pytest
import torch

from zhihui.encoder import Encoder
from zhihui.encoder.export_check import export_checked
from zhihui.errors import InputError, MissingExtra, RunFailure
from zhihui.training import lora
from zhihui.training.batches import BatchConfig
from zhihui.training.config import TrainConfig
from zhihui.training.gradient_cache import CacheConfig, cached_backward
from zhihui.training.lora import LoraSettings, apply_lora, merge_lora
from zhihui.training.loss import LossConfig
from zhihui.training.trainer import train

pytest.importorskip("peft")
TEXTS = ["红茶，用温水和软布擦洗，再晾干。", "雨靴放在哪里好", "铁锅，天冷时要保暖，避免受冻。"]
CONFIG = TrainConfig(
    loss=LossConfig(temperature=0.05),
    batches=BatchConfig(size=8, negatives=2),
    cache=CacheConfig(chunk_tokens=64, graph_tokens=128),
    learning_rate=1e-2,
)


def stirred(encoder: Encoder, seed: int = 1) -> Encoder:
    """As after training: every B holds something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return encoder


def weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def cosine(one, other) -> float:
    return float((one * other).sum(1).min())


def test_adapters_begin_without_effect_and_are_all_there_is_to_train(model):
    before = model.encode_documents(TEXTS)
    count = apply_lora(model, LoraSettings(rank=4))
    assert cosine(before, model.encode_documents(TEXTS)) > 1 - 1e-6
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 7 * len(model.backbone.layers)
    assert count == sum(trained.values()) < sum(p.numel() for p in model.parameters()) / 3


def test_layers_behind_the_backbone_are_frozen_too(model):
    model.dense = torch.nn.Sequential(torch.nn.Linear(64, 8))
    apply_lora(model, LoraSettings(rank=4))
    assert {name for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name} == set()
    stirred(model)
    merge_lora(model, TEXTS)
    assert all(p.requires_grad for p in model.dense.parameters())


def test_training_moves_the_adapters_alone_and_merging_keeps_the_vectors(model, examples, tmp_path):
    names = set(model.state_dict())
    frozen = weights(model)
    first = model.encode_documents(TEXTS)
    apply_lora(model, LoraSettings(rank=4, dropout=0.1))
    history = train(model, examples, CONFIG, tmp_path / "run")
    losses = [loss for _, loss in history.loss]
    assert losses[-1] < losses[0]
    after = {name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items()}
    assert all(torch.equal(frozen[name], after[name]) for name in names)
    trained = model.encode_documents(TEXTS)
    assert cosine(first, trained) < 0.999, "training did nothing"
    assert merge_lora(model, TEXTS) > 0.999999
    assert set(model.state_dict()) == names
    assert cosine(trained, model.encode_documents(TEXTS)) > 0.999999
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert export_checked(model, tmp_path / "model", name="model") < 1e-5


def test_the_same_seed_gives_the_same_adapters(shared_model):
    found = []
    for number, seed in enumerate((3, 3, 4)):
        model = copy.deepcopy(shared_model)
        torch.manual_seed(number)
        state = torch.get_rng_state()
        apply_lora(model, LoraSettings(), seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(weights(model))
    same = [all(torch.equal(found[0][name], other[name]) for name in other) for other in found[1:]]
    assert same == [True, False]


@pytest.mark.parametrize("rslora", [False, True])
def test_the_weight_grows_by_the_scaled_product(model, rslora):
    apply_lora(model, LoraSettings(rank=4, alpha=6.0, rslora=rslora, targets=("v_proj",)))
    stirred(model)
    layer = model.backbone.layers[1].self_attn.v_proj
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = layer.base_layer.weight + product * (6.0 / (math.sqrt(4) if rslora else 4))
    merge_lora(model, TEXTS)
    torch.testing.assert_close(model.backbone.layers[1].self_attn.v_proj.weight, expected)


def gradients(model: Encoder, graph_tokens: int) -> dict[str, torch.Tensor]:
    model.zero_grad()
    sequences = model.tokenize(TEXTS, role="document")
    direction = torch.randn(3, model.dimension, generator=torch.Generator().manual_seed(0))
    config = CacheConfig(chunk_tokens=12, graph_tokens=graph_tokens)
    cached_backward(model, sequences, lambda v: ((v * direction).sum(), direction), config, device=model.device)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", ["gradient cache", "checkpointing", "no pruning"])
def test_gradients_are_the_same_however_they_are_computed(model, way):
    stirred(model)
    apply_lora(model, LoraSettings(rank=4))
    stirred(model).train()
    expected = gradients(model, 1000)
    if way == "checkpointing":
        enable = getattr(model.backbone, "activation_checkpointing_enable", None)
        (enable or model.backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    elif way == "no pruning":
        model.prunable = False
    found = gradients(model, 12 if way == "gradient cache" else 1000)
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 7 * 2
    for name in found:
        assert float((found[name] - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()) + 1e-7, name


def test_the_last_layer_computes_pooled_tokens_only_with_adapters_and_after_merging(model):
    def seen() -> list[int]:
        rows: list[int] = []
        part = model.backbone.layers[-1].self_attn.o_proj
        hook = part.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[1]))
        model.encode_documents(TEXTS)
        hook.remove()
        return rows

    assert seen() == [3]
    apply_lora(model, LoraSettings())
    assert seen() == [3]
    stirred(model)
    merge_lora(model, TEXTS)
    assert seen() == [3]


def test_an_adapter_that_did_nothing_is_refused_by_name_and_nothing_changes(model):
    apply_lora(model, LoraSettings())
    with pytest.raises(RunFailure, match="14 of 14 adapters had no effect"):
        merge_lora(model, TEXTS)
    stirred(model)
    torch.nn.init.zeros_(model.backbone.layers[1].mlp.up_proj.lora_B["default"].weight)
    before = weights(model)
    with pytest.raises(RunFailure, match=r"1 of 14 .*: layers\.1\.mlp\.up_proj; nothing was merged"):
        merge_lora(model, TEXTS)
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_merge_that_moves_the_vectors_is_refused(model, monkeypatch):
    apply_lora(model, LoraSettings())
    stirred(model)
    monkeypatch.setattr(lora, "_update", lambda layer: torch.zeros(()))  # merged to nothing
    with pytest.raises(RunFailure, match=r"moved a text's vector to cosine 0\.\d+ of what it was"):
        merge_lora(model, TEXTS)


def test_what_cannot_be_adapted_or_merged_is_refused(model):
    with pytest.raises(InputError, match="no adapters to merge"):
        merge_lora(model, TEXTS)
    with pytest.raises(InputError, match=r"targets query: no such linear layer; choose from down_proj, gate_proj"):
        apply_lora(model, LoraSettings(targets=("query",)))
    apply_lora(model, LoraSettings())
    with pytest.raises(InputError, match="has adapters already"):
        apply_lora(model, LoraSettings())
    with pytest.raises(InputError, match="give a few"):
        merge_lora(model, [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank 0"),
        ({"alpha": 0.0}, "alpha 0.0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"targets": ("a", "a")}, "names a layer twice"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LoraSettings(**settings)


def test_quantizing_without_bitsandbytes_names_the_command(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtra, match=r"pip install 'zhihui\[qlora\]'"):
        apply_lora(model, LoraSettings(quantize=True))


def test_quantized_layers_are_merged_as_they_were_trained(model):
    pytest.importorskip("bitsandbytes")
    names = set(model.state_dict())
    for layer in model.backbone.layers:  # an identity would pass through 4 bits unharmed
        torch.nn.init.normal_(layer.self_attn.v_proj.weight, generator=torch.Generator().manual_seed(0))
    before = model.encode_documents(TEXTS)
    apply_lora(model, LoraSettings(rank=4, quantize=True))
    assert model.backbone.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.uint8
    assert 0.9 < cosine(before, model.encode_documents(TEXTS)) < 0.99999
    stirred(model)
    gradients(model, 12)
    assert merge_lora(model, TEXTS) > 0.99999
    assert set(model.state_dict()) == names
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
