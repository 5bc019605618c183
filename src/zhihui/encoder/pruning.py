"""The last layer computes only what is pooled.

Last-token and first-token pooling read one state a text, and after attention a layer treats each token by itself: of
the last layer, the output projection and the feed-forward network need to see the pooled tokens only. Of a model with
6 layers this spares about an eighth of all work, of one with 28 a fortieth. What is pooled stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

_wanted: ContextVar[tuple[Tensor, int] | None] = ContextVar("wanted", default=None)
"""Rows `[B]` that are pooled, and how many there are; None where all are. A thread's own: hooks belong to all."""


@contextmanager
def only(rows: Tensor, total: int) -> Iterator[None]:
    """In this block, a prepared backbone's states `[1, T, D]` are right in these rows `[B]` and unusable elsewhere."""
    token = _wanted.set((rows, total))
    try:
        yield
    finally:
        _wanted.reset(token)


def prepare(backbone: Any) -> bool:
    """Make a backbone obey `only`; False when it is not built of layers with `self_attn.o_proj` and `mlp`."""
    layers = getattr(backbone, "layers", None)
    if not layers:
        return False
    parts = [getattr(getattr(layers[-1], "self_attn", None), "o_proj", None), getattr(layers[-1], "mlp", None)]
    if not all(isinstance(part, nn.Module) for part in parts):
        return False
    for part in parts:
        assert part is not None
        if _select not in part._forward_pre_hooks.values():
            part.register_forward_pre_hook(_select)
            part.register_forward_hook(_spread)
    return True


def _select(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    wanted = _wanted.get()
    return None if wanted is None else (inputs[0][:, wanted[0]], *inputs[1:])


def _spread(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Put the rows back in their places, for the layer adds its input to them."""
    wanted = _wanted.get()
    if wanted is None:
        return None
    rows, total = wanted
    whole = output.new_zeros(1, total, output.shape[-1])
    whole[:, rows] = output
    return whole
