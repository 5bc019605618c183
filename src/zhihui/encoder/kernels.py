"""What computes attention over packed sequences: one kernel for all lengths where there is one, else SDPA by runs.

On a GPU in half precision torch's own variable-length attention takes the whole row in one call, or flash-attn where it
is installed and torch's does not do (dropout, an older torch). Elsewhere every run of equal lengths is one call of
scaled-dot-product attention, which is exact in any precision.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

_AMPERE = (8, 0)
"""Least compute capability of the variable-length kernels."""
_WIDEST = 256
"""Largest head they take."""


@dataclass(frozen=True)
class Attention:
    """One call: every sequence attends within itself."""

    query: Tensor
    """`[T, H, Dh]`, or `[B, H, Dh]` with one query a sequence."""
    key: Tensor
    """`[T, Hkv, Dh]`, H a multiple of Hkv."""
    value: Tensor
    lengths: tuple[int, ...]
    """Tokens of each of the B sequences."""
    single: bool
    """Whether each sequence has one query, which sees all of it."""
    causal: bool
    window: int | None
    """Widest distance a token sees: exclusive where causal, else inclusive, as transformers counts; None for all."""
    scaling: float | None
    """Factor on the logits; None for 1/√Dh."""
    dropout: float

    @cached_property
    def bounds(self) -> Tensor:
        """Where each sequence begins, and the end `[B + 1]`, int32, on the device."""
        return _bounds(self.lengths, self.key.device)

    @cached_property
    def query_bounds(self) -> Tensor:
        """The same of the queries."""
        if not self.single:
            return self.bounds
        return torch.arange(len(self.lengths) + 1, dtype=torch.int32, device=self.key.device)

    @property
    def most_queries(self) -> int:
        """Of one sequence."""
        return 1 if self.single else max(self.lengths)

    @property
    def sides(self) -> tuple[int, int]:
        """How far a token sees to its left and right; -1 for all."""
        if self.window is None:
            return (-1, 0) if self.causal and not self.single else (-1, -1)
        return (self.window - 1, 0) if self.causal else (self.window, self.window)


Kernel = Callable[[Attention], Tensor]
"""Returns what `query` is, with the values attended to."""


def choose(call: Attention) -> Kernel:
    """Return the fastest kernel that computes a call."""
    if _variable(call):
        if not call.dropout and (kernel := _torch_kernel()) is not None:
            return kernel
        if (kernel := _flash_kernel()) is not None:
            return kernel
    return by_runs


def _variable(call: Attention) -> bool:
    """Tell whether the variable-length kernels take tensors such as these."""
    width = call.query.shape[-1]
    return (
        call.query.is_cuda
        and call.query.dtype in (torch.bfloat16, torch.float16)
        and width <= _WIDEST
        and width % 8 == 0
        and torch.cuda.get_device_capability(call.query.device) >= _AMPERE
    )


@lru_cache(maxsize=1)
def _torch_kernel() -> Kernel | None:
    """Return torch's variable-length attention; None where torch has none that takes grouped heads."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return by_torch(varlen_attn) if "enable_gqa" in inspect.signature(varlen_attn).parameters else None


@lru_cache(maxsize=1)
def _flash_kernel() -> Kernel | None:
    """Return flash-attn's; None where it is not installed."""
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return None
    return by_flash_attn(flash_attn_varlen_func)


def by_torch(varlen_attn: Callable[..., Any]) -> Kernel:
    """Return a kernel that is one call of torch's variable-length attention."""

    def kernel(call: Attention) -> Tensor:
        found: Tensor = varlen_attn(
            call.query,
            call.key,
            call.value,
            call.query_bounds,
            call.bounds,
            call.most_queries,
            max(call.lengths),
            scale=call.scaling,
            window_size=call.sides,
            enable_gqa=call.query.shape[1] != call.key.shape[1],
        )
        return found

    return kernel


def by_flash_attn(flash_attn_varlen_func: Callable[..., Any]) -> Kernel:
    """Return a kernel that is one call of flash-attn."""

    def kernel(call: Attention) -> Tensor:
        found: Tensor = flash_attn_varlen_func(
            call.query,
            call.key,
            call.value,
            call.query_bounds,
            call.bounds,
            call.most_queries,
            max(call.lengths),
            dropout_p=call.dropout,
            softmax_scale=call.scaling,
            causal=call.causal and not call.single,
            window_size=call.sides,
        )
        return found

    return kernel


def by_runs(call: Attention) -> Tensor:
    """Compute every run of equal lengths by one call of scaled-dot-product attention."""
    runs = [(length, sum(1 for _ in run)) for length, run in groupby(call.lengths)]
    # Split, not sliced: the gradient of a slice is as long as the whole row, and there are many runs.
    sizes = [length * count for length, count in runs]
    queries = torch.split(call.query, [count for _, count in runs] if call.single else sizes)
    outputs = []
    for (length, count), *each in zip(
        runs, queries, torch.split(call.key, sizes), torch.split(call.value, sizes), strict=True
    ):
        q, k, v = (x.reshape(count, -1, *x.shape[1:]).transpose(1, 2) for x in each)  # [count, H, length or 1, Dh]
        windowed = call.window is not None and length >= call.window
        out = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window(length, call.window or 0, call.causal, q.device) if windowed else None,
            dropout_p=call.dropout,
            scale=call.scaling,
            is_causal=call.causal and not windowed and not call.single,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


def _window(length: int, width: int, causal: bool, device: torch.device) -> Tensor:
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    # transformers counts a causal window exclusively and a bidirectional one inclusively; so must we.
    return (distance >= 0) & (distance < width) if causal else distance.abs() <= width


@lru_cache(maxsize=2)
def _bounds(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Return where sequences begin; all layers of a pass ask for the same."""
    with torch.inference_mode(False):  # it may be kept for a pass with gradients
        return torch.tensor((0, *lengths), device=device).cumsum(0, dtype=torch.int32)
