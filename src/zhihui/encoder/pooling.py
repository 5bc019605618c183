"""Pooling: from the states of a text's tokens to one vector, packed or padded, by length and never by token id."""

from __future__ import annotations

import torch
from torch import Tensor

from zhihui.encoder.packing import Packed
from zhihui.encoder.settings import Pooling


def pooled_rows(packed: Packed, pooling: Pooling) -> Tensor | None:
    """Return which packed states make the vectors, one per sequence `[B]`; None when all do."""
    if pooling == "mean":
        return None
    return packed.ends - 1 if pooling == "lasttoken" else packed.starts


def pool_packed(states: Tensor, packed: Packed, pooling: Pooling) -> Tensor:
    """Return one fp32 vector per sequence `[B, D]` from packed states `[T, D]`."""
    rows = pooled_rows(packed, pooling)
    if rows is not None:
        return states[rows].float()
    sums = torch.zeros(len(packed.lengths), states.shape[-1], device=states.device)
    sums = sums.index_add(0, packed.sequence_of_token, states.float())
    return sums / packed.lengths_tensor[:, None]


def pool_padded(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return one fp32 vector per row `[B, D]` from padded states.

    Args:
        states: `[B, L, D]`, padded on either side.
        mask: `[B, L]`, one for tokens and zero for padding.
        pooling: the rule.
    """
    if pooling == "mean":
        weights = mask.unsqueeze(-1).float()
        return (states.float() * weights).sum(1) / weights.sum(1)
    # The first or last position whose mask is set: argmax returns the first maximum.
    length = mask.shape[1]
    position = mask.argmax(1) if pooling == "cls" else length - 1 - mask.flip(1).argmax(1)
    return states[torch.arange(len(states), device=states.device), position].float()
