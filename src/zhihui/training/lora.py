"""LoRA (Hu et al. 2021): only small adapters beside the linear layers are trained, and merged into them at the end.

QLoRA (Dettmers et al. 2023) keeps the layers themselves in 4 bits meanwhile. Merging is checked twice, for it is where
others lose a model without a word: an adapter that did nothing is refused, and so is a merge that moves the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zhihui.encoder import pruning
from zhihui.errors import InputError, RunFailure, require

if TYPE_CHECKING:
    from zhihui.encoder.encoder import Encoder

SAME = 0.9999
"""Least cosine between a text's vectors before and after merging."""
_ADAPTER = "default"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Adapters: W x becomes W x + (alpha / rank) B A x, and only A and B are trained."""

    rank: int = 16
    """Rows of A and columns of B."""
    alpha: float = 32.0
    """Size of the adapter's part, in units of its rank (of the rank's root with `rslora`)."""
    dropout: float = 0.0
    """Share of the adapter's inputs that is dropped in training."""
    targets: tuple[str, ...] = ()
    """Last names of the linear layers that get one, such as q_proj; empty for all of the backbone."""
    rslora: bool = False
    """Whether to divide alpha by the rank's root (Kalajdzievski 2023), which keeps high ranks learning."""
    quantize: bool = False
    """Whether to hold the layers that get one in 4 bits (NF4) while training."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"rank {self.rank} is too small; use at least 1")
        if not self.alpha > 0:
            raise InputError(f"alpha {self.alpha} would switch the adapters off; use more than 0")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"dropout {self.dropout} is no share; use 0 or more and less than 1")
        if len(set(self.targets)) < len(self.targets):
            raise InputError(f"targets {', '.join(self.targets)} names a layer twice; name it once")


def apply_lora(encoder: Encoder, settings: LoraSettings, *, seed: int = 0) -> int:
    """Put adapters beside an encoder's linear layers and freeze all else; return how many numbers are left to train.

    The vectors stay what they were: every B is zero.

    Args:
        encoder: changed in place.
        settings: of the adapters.
        seed: of A.

    Raises:
        InputError: a model without linear layers, a target that is none, or adapters that are there already.
        MissingExtra: peft is not installed, or bitsandbytes where layers are to be quantized.
    """
    peft = require("peft", extra="train", purpose="LoRA")
    backbone = encoder.backbone
    if next(_adapted(backbone), None) is not None:
        raise InputError(f"{encoder.name}: has adapters already; merge them before it gets others")
    if not any(isinstance(module, nn.Linear) for module in backbone.modules()):
        raise InputError(f"{encoder.name}: has no linear layers to put adapters beside; train it without lora")
    names = _targets(backbone, settings.targets)
    pruning.release(backbone)
    if settings.quantize:
        _quantize(backbone, names)
    encoder.requires_grad_(False)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules=names,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, backbone, _ADAPTER)
    if encoder.prunable:
        pruning.prepare(backbone)
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()  # small steps are lost in half precision
    return sum(parameter.numel() for parameter in trained)


def merge_lora(encoder: Encoder, texts: Sequence[str]) -> float:
    """Merge an encoder's adapters into its weights, one tensor after the other, and leave it without them.

    Args:
        encoder: changed in place; layers that were quantized get the encoder's dtype.
        texts: whose vectors are compared, encoded as passages.

    Returns:
        The least cosine between a text's vectors before and after.

    Raises:
        InputError: there are no adapters, or no texts.
        RunFailure: adapters had no effect, in which case nothing was changed; or merging moved a vector by more than
            rounding does, in which case the encoder is not to be used.
    """
    layers = dict(_adapted(encoder.backbone))
    if not layers:
        raise InputError(f"{encoder.name}: has no adapters to merge; apply them before training")
    if not texts:
        raise InputError("merging is checked on texts; give a few")
    idle = [name for name, layer in layers.items() if not layer.lora_B[_ADAPTER].weight.any()]
    if idle:
        some = ", ".join(idle[:5]) + (", ..." if len(idle) > 5 else "")
        raise RunFailure(
            f"{encoder.name}: {len(idle)} of {len(layers)} adapters had no effect, their B is zero: {some}; nothing "
            "was merged: they took no part in training, or their weights were not found when it was gone on with"
        )
    before = encoder.encode_documents(texts)
    dtype = encoder.dtype
    pruning.release(encoder.backbone)
    with torch.no_grad():
        for name, layer in layers.items():
            parent, _, last = name.rpartition(".")
            setattr(encoder.backbone.get_submodule(parent), last, _merged(layer, dtype))
    if encoder.prunable:
        pruning.prepare(encoder.backbone)
    encoder.requires_grad_(True)
    after = encoder.encode_documents(texts)
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = float(((before * after).sum(1) / norms).min())
    if not cosine >= SAME:  # NaN is refused too
        raise RunFailure(
            f"{encoder.name}: merging the adapters moved a text's vector to cosine {cosine:.6f} of what it was, and "
            f"{SAME} is the least; keep the encoder in float32, where merging does not round"
        )
    return cosine


def _adapted(backbone: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the layers with adapters."""
    for name, module in backbone.named_modules():
        if hasattr(module, "lora_B") and hasattr(module, "base_layer"):
            yield name, module


def _targets(backbone: nn.Module, wanted: tuple[str, ...]) -> list[str]:
    """Return the full names of the linear layers that get adapters."""
    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    known = sorted({name.rpartition(".")[2] for name in linear})
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"targets {', '.join(unknown)}: no such linear layer; choose from {', '.join(known)}")
    return [name for name in linear if not wanted or name.rpartition(".")[2] in wanted]


def _quantize(backbone: nn.Module, names: list[str]) -> None:
    """Replace linear layers by 4-bit ones, one after the other."""
    bitsandbytes = require("bitsandbytes", extra="qlora", purpose="QLoRA")
    for name in names:
        parent, _, last = name.rpartition(".")
        linear = backbone.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        small = bitsandbytes.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=linear.weight.dtype,
            quant_type="nf4",
        )
        small.load_state_dict(linear.state_dict(), strict=False)
        small.weight.requires_grad = False
        setattr(backbone.get_submodule(parent), last, small.to(linear.weight.device))  # moving it quantizes it


def _merged(layer: Any, dtype: torch.dtype) -> nn.Module:
    """Return a layer's linear layer with the adapter added to its weight."""
    base = layer.base_layer
    weight = base.weight
    quantized = getattr(weight, "quant_state", None)
    if quantized is not None:
        bitsandbytes = require("bitsandbytes", extra="qlora", purpose="merging QLoRA")
        full = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        full.weight = nn.Parameter(bitsandbytes.functional.dequantize_4bit(weight.data, quantized).to(dtype))
        if base.bias is not None:
            full.bias = nn.Parameter(base.bias.data.to(dtype))
        base, weight = full, full.weight
    weight.copy_(weight.float() + _update(layer))  # the sum in fp32, rounded once
    return base


def _update(layer: Any) -> Tensor:
    """Return what the adapter adds to the weight `[out, in]`, fp32."""
    product: Tensor = layer.lora_B[_ADAPTER].weight.float() @ layer.lora_A[_ADAPTER].weight.float()
    return product * layer.scaling[_ADAPTER]
