"""Attention over packed sequences, registered with transformers: each sequence sees itself alone.

Packing by `position_ids` is not enough: with `is_causal=False` the stock masks let packed sequences see one another.
Here the lengths travel with the call and every run of equal lengths is one scaled-dot-product call.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from zhihui.encoder.pruning import spread, wanted_queries

PACKED = "zhihui_packed"
"""Name under which transformers finds this attention. It has no mask function, so no mask is ever built for it."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_lengths: tuple[int, ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each of the packed sequences.

    Args:
        module: the attention layer; it and its config say whether it is causal.
        query: `[1, H, T, Dh]`.
        key: `[1, Hkv, T, Dh]`, H a multiple of Hkv.
        value: as `key`.
        attention_mask: None; there is no padding.
        packed_lengths: tokens of each sequence, summing to T.
        scaling: factor on the logits; None for 1/√Dh.
        dropout: probability, already zero outside training.
        sliding_window: widest distance a token sees; None for all.

    Returns:
        `[1, T, H, Dh]` and no weights.
    """
    assert attention_mask is None, "packed attention takes lengths, not masks"
    causal = is_causal(module)
    runs = [(length, sum(1 for _ in run)) for length, run in groupby(packed_lengths)]
    wanted = wanted_queries(module)
    if wanted is not None and ((causal and not wanted.last) or sliding_window is not None):
        wanted = None  # what the pooled token sees is not simply all of its text
    # Split, not sliced: the gradient of a slice is as long as the whole row, and there are many runs.
    sizes = [length * count for length, count in runs]
    q_runs = _split(
        query if wanted is None else query[:, :, wanted.rows], sizes if wanted is None else [c for _, c in runs]
    )
    outputs = []
    for (length, count), *each in zip(runs, q_runs, _split(key, sizes), _split(value, sizes), strict=True):
        q, k, v = (x.reshape(count, -1, *x.shape[1:]).transpose(1, 2) for x in each)  # [count, H, length or 1, Dh]
        windowed = sliding_window is not None and length >= sliding_window
        out = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window(length, sliding_window or 0, causal, q.device) if windowed else None,
            dropout_p=dropout,
            scale=scaling,
            is_causal=causal and not windowed and wanted is None,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    found = torch.cat(outputs)  # [T or B, H, Dh]
    return (found if wanted is None else spread(found, wanted, dim=0)).unsqueeze(0), None


def _split(x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """Cut `[1, H, T, Dh]` into runs `[size, H, Dh]`."""
    return torch.split(x[0].transpose(0, 1), sizes)


def is_causal(module: nn.Module) -> bool:
    """Tell whether an attention layer hides the future: the model's config may open what the layer's class closes."""
    return bool(getattr(module, "is_causal", True)) and bool(getattr(module.config, "is_causal", True))


def _window(length: int, width: int, causal: bool, device: torch.device) -> Tensor:
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    # transformers counts a causal window exclusively and a bidirectional one inclusively; so must we.
    return (distance >= 0) & (distance < width) if causal else distance.abs() <= width


AttentionInterface.register(PACKED, packed_attention)
