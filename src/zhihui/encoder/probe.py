"""Probes at load: what a model does is compared with what its config says, on the model itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zhihui.encoder.attention import PACKED
from zhihui.encoder.encoder import Encoder, packed_states
from zhihui.encoder.packing import pack
from zhihui.errors import InputError

_LENGTHS = (7, 3, 7, 5)


@torch.inference_mode()
def check_direction(backbone: Any, *, claimed_open: bool, name: str) -> None:
    """Refuse a model whose attention is not what its config says.

    The last token of a text is changed: only if attention is bidirectional can the first token's state move.

    Raises:
        InputError: claim and behaviour differ, or the model cannot be run.
    """
    first, second = _texts(backbone, (6, 6))
    second[:-1] = first[:-1]
    second[-1] = first[-1] - 1
    try:
        before, after = (_stock_states(backbone, ids)[0].float() for ids in (first, second))
    except Exception as error:  # a model made for other input can fail in any way
        raise InputError(f"{name}: does not run on token ids alone ({type(error).__name__}: {error})") from None
    moved = float((before - after).abs().max())
    if not math.isfinite(moved):
        raise InputError(f"{name}: its states overflow in {backbone.dtype}; choose dtype bfloat16 or float32")
    found_open = moved > 1e-6
    if found_open != claimed_open:
        words = {True: "bidirectional", False: "causal"}
        raise InputError(
            f"{name}: its config says {words[claimed_open]} attention, but it is {words[found_open]} "
            f"(changing the last token moves the first token's state by {moved:.1e}); "
            f'set "is_causal": {str(not found_open).lower()} in config.json, or use code that honours it'
        )


@torch.inference_mode()
def is_packable(backbone: Any) -> bool:
    """Tell whether packed sequences get the states they get alone; a model of unknown build may not give them."""
    texts = _texts(backbone, _LENGTHS)
    alone = torch.cat([_stock_states(backbone, ids) for ids in texts]).float()
    stock = backbone.config._attn_implementation
    try:
        backbone.set_attn_implementation(PACKED)
        packed = packed_states(backbone, pack([ids.tolist() for ids in texts]).to(backbone.device))[0].float()
    except Exception:  # whatever an unknown backbone raises here means the same: it cannot be packed
        return False
    finally:
        backbone.set_attn_implementation(stock)
    tolerance = 5e-2 if backbone.dtype in (torch.bfloat16, torch.float16) else 1e-3
    return bool(((packed - alone).norm(dim=-1) <= tolerance * alone.norm(dim=-1)).all())


@torch.inference_mode()
def is_prunable(encoder: Encoder) -> bool:
    """Tell whether a last layer that computes only what is pooled gives the same vectors, for any build of layer."""
    packed = pack([ids.tolist() for ids in _texts(encoder.backbone, _LENGTHS)]).to(encoder.device)
    encoder.prunable = False
    whole = encoder(packed)
    encoder.prunable = True
    try:
        pruned = encoder(packed)
    except Exception:  # as above
        return False
    tolerance = 5e-2 if encoder.dtype in (torch.bfloat16, torch.float16) else 1e-4
    return bool(((pruned - whole).norm(dim=-1) <= tolerance * whole.norm(dim=-1)).all())


def _texts(backbone: Any, lengths: tuple[int, ...]) -> list[Tensor]:
    """Return token sequences that differ from one another, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    top = min(int(backbone.config.vocab_size), 30000)
    return [torch.randint(top // 2, top, (n,), generator=generator) for n in lengths]


def _stock_states(backbone: Any, ids: Tensor) -> Tensor:
    """Return the states `[L, D]` of one text by the attention transformers gave the backbone."""
    ids = ids[None].to(backbone.device)
    return backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
