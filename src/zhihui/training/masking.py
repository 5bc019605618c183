"""Masked next-token prediction (BehnamGhader et al. 2024, LLM2Vec): what is hidden of a text, and its loss.

Some tokens are replaced by a mask, and token i is predicted from the state of token i - 1, as a decoder has learned to,
but with attention in both directions. LLM2Vec takes "_" for the mask where a tokenizer has none of its own.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint

from zhihui.encoder.packing import Packed
from zhihui.errors import InputError

_ROWS = 256
"""Predictions whose logits are held at once: a vocabulary is a hundred times as wide as a state."""


class Hidden(NamedTuple):
    """A text with some of its tokens hidden."""

    ids: list[int]
    """With the mask in their place."""
    places: list[int]
    """Which they are, in ascending order; never the first, which nothing stands before."""
    answers: list[int]
    """What stood there."""


def mask_id(tokenizer: Any, wanted: str | None = None) -> int:
    """Return the id of the token that hides others: the one named, the tokenizer's own, or "_".

    Raises:
        InputError: the text named is not one token.
    """
    if wanted is None and getattr(tokenizer, "mask_token_id", None) is not None:
        return int(tokenizer.mask_token_id)
    text = "_" if wanted is None else wanted
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise InputError(f"mask {text!r} is {len(ids)} tokens; name a text that is one token, such as a reserved one")
    return int(ids[0])


def hide(
    ids: Sequence[int], share: float, mask: int, *, special: Collection[int], draw: random.Random
) -> Hidden | None:
    """Hide a share of a text's tokens, at least one; None where there is none to hide."""
    candidates = [place for place in range(1, len(ids)) if ids[place] not in special]
    if not candidates:
        return None
    places = sorted(draw.sample(candidates, max(1, round(share * len(candidates)))))
    masked = list(ids)
    for place in places:
        masked[place] = mask
    return Hidden(masked, places, [ids[place] for place in places])


def prediction_loss(states: Tensor, packed: Packed, hidden: Sequence[Hidden], head: Tensor) -> Tensor:
    """Return the summed cross-entropy of the hidden tokens of packed texts, in nats.

    Args:
        states: last hidden states `[T, D]`.
        packed: the texts of `hidden`, in that order.
        hidden: what to predict.
        head: a row per token of the vocabulary `[V, D]`.
    """
    starts = packed.starts.tolist()
    rows = [start + place - 1 for start, each in zip(starts, hidden, strict=True) for place in each.places]
    answers = torch.tensor([answer for each in hidden for answer in each.answers], device=states.device)
    wanted = states[torch.tensor(rows, device=states.device)]
    total = states.new_zeros((), dtype=torch.float32)
    for part, target in zip(torch.split(wanted, _ROWS), torch.split(answers, _ROWS), strict=True):
        total = total + checkpoint(_summed, part, head, target, use_reentrant=False)
    return total


def _summed(states: Tensor, head: Tensor, answers: Tensor) -> Tensor:
    return cross_entropy(linear(states, head.to(states.dtype)).float(), answers, reduction="sum")
