"""Attention over packed sequences, registered with transformers: each sequence sees itself alone.

Packing by `position_ids` is not enough: with `is_causal=False` the stock masks let packed sequences see one another.
Here the lengths travel with the call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from zhihui.encoder.kernels import Attention, choose
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
    if torch.is_autocast_enabled(query.device.type):  # rotary positions have brought queries and keys back to fp32
        half = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(half), key.to(half), value.to(half)
    wanted = wanted_queries(module)
    if wanted is not None and ((causal and not wanted.last) or sliding_window is not None):
        wanted = None  # what the pooled token sees is not simply all of its text
    call = Attention(
        query=_rows(query if wanted is None else query[:, :, wanted.rows]),
        key=_rows(key),
        value=_rows(value),
        lengths=packed_lengths,
        single=wanted is not None,
        causal=causal,
        window=sliding_window,
        scaling=scaling,
        dropout=dropout,
    )
    found = choose(call)(call)  # [T or B, H, Dh]
    return (found if wanted is None else spread(found, wanted, dim=0)).unsqueeze(0), None


def _rows(x: Tensor) -> Tensor:
    """Turn `[1, H, T, Dh]` into `[T, H, Dh]`."""
    return x[0].transpose(0, 1)


def is_causal(module: nn.Module) -> bool:
    """Tell whether an attention layer hides the future: the model's config may open what the layer's class closes."""
    return bool(getattr(module, "is_causal", True)) and bool(getattr(module.config, "is_causal", True))


AttentionInterface.register(PACKED, packed_attention)
