"""The last layer computes only what is pooled.

Last-token and first-token pooling read one state a text, and after attention a layer treats each token by itself: of
the last layer, only keys and values need all tokens; queries, attention, the output projection and the feed-forward
network need the pooled tokens alone. Of a model with 6 layers this spares a seventh of all work, of one with 28 a
thirtieth, in training as in use. What is pooled stays the same, and so do the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Wanted:
    """What is pooled of a packed row."""

    rows: Tensor
    """`[B]`, one a sequence, in the order of the sequences."""
    total: int
    """T, tokens in all."""
    last: bool
    """Whether each is the last of its sequence, so that it sees all of it even where attention is causal."""


_wanted: ContextVar[Wanted | None] = ContextVar("wanted", default=None)
"""None where all rows are wanted. A thread's own: hooks belong to all."""
_MARK = "prunes_queries"
"""Attribute of the attention layer whose output is pooled."""


@contextmanager
def only(rows: Tensor, total: int, *, last: bool = False) -> Iterator[None]:
    """In this block, a prepared backbone's states `[1, T, D]` are right in these rows `[B]` and unusable elsewhere."""
    token = _wanted.set(Wanted(rows, total, last))
    try:
        yield
    finally:
        _wanted.reset(token)


def wanted_queries(attention: nn.Module) -> Wanted | None:
    """Return which queries an attention layer has to answer; None for all."""
    return _wanted.get() if getattr(attention, _MARK, False) else None


def prepare(backbone: Any) -> bool:
    """Make a backbone obey `only`; False when it is not built of layers with `self_attn.o_proj` and `mlp`."""
    layers = getattr(backbone, "layers", None)
    if not layers:
        return False
    attention = getattr(layers[-1], "self_attn", None)
    parts = [getattr(attention, "o_proj", None), getattr(layers[-1], "mlp", None)]
    if attention is None or not all(isinstance(part, nn.Module) for part in parts):
        return False
    setattr(attention, _MARK, True)
    for part in (*parts, getattr(attention, "q_proj", None)):
        if part is not None and _select not in part._forward_pre_hooks.values():
            part.register_forward_pre_hook(_select)
            part.register_forward_hook(_spread)
    return True


def release(backbone: Any) -> None:
    """Undo `prepare`: before a layer's parts are put inside others, which are then prepared in their place."""
    for module in backbone.modules():
        for hooks, ours in ((module._forward_pre_hooks, _select), (module._forward_hooks, _spread)):
            for number in [number for number, hook in hooks.items() if hook is ours]:
                del hooks[number]


def _select(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    wanted = _wanted.get()
    return None if wanted is None else (inputs[0][:, wanted.rows], *inputs[1:])


def _spread(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Put the rows back in their places, for the layer adds its input to them."""
    wanted = _wanted.get()
    return None if wanted is None else spread(output, wanted, dim=1)


def spread(found: Tensor, wanted: Wanted, *, dim: int) -> Tensor:
    """Return a tensor of T rows that holds the B found ones in their places and zeros elsewhere."""
    shape = [*found.shape]
    shape[dim] = wanted.total
    return found.new_zeros(shape).index_copy(dim, wanted.rows, found)
