"""The kernels of packed attention: what they are told, which is chosen, and that they agree."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from zhihui.encoder import kernels
from zhihui.encoder.kernels import Attention, by_flash_attn, by_runs, by_torch, choose

LENGTHS = (5, 1, 9, 9, 2, 17, 9)


def attention(*, causal=False, window=None, single=False, kv_heads=2, scaling=None, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    total, width = sum(LENGTHS), 16

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(device, dtype).requires_grad_()

    return Attention(
        query=draw(len(LENGTHS) if single else total, 4, width),
        key=draw(total, kv_heads, width),
        value=draw(total, kv_heads, width),
        lengths=LENGTHS,
        single=single,
        causal=causal,
        window=window,
        scaling=scaling,
        dropout=0.0,
    )


CALLS = [
    pytest.param({"causal": causal, "window": window, "single": single, "kv_heads": kv}, id=name)
    for name, causal, window, single, kv in (
        ("open", False, None, False, 2),
        ("causal", True, None, False, 2),
        ("same heads", False, None, False, 4),
        ("open window", False, 3, False, 2),
        ("causal window", True, 3, False, 2),
        ("one query", False, None, True, 2),
        ("one query of a causal model", True, None, True, 1),
    )
]


def varlen(query, key, value, bounds_q, bounds_k, most_q, most_k, *, scale, window, enable_gqa):
    """The definition by which torch and flash-attn go: windows are counted from the ends of queries and keys."""
    assert bounds_q.dtype == bounds_k.dtype == torch.int32
    assert most_q == int(bounds_q.diff().max())
    assert most_k == int(bounds_k.diff().max())
    assert enable_gqa or query.shape[1] == key.shape[1]
    left, right = window
    share = query.shape[1] // key.shape[1]
    outputs = []
    for (a, b), (c, d) in zip(pairwise(bounds_q.tolist()), pairwise(bounds_k.tolist()), strict=True):
        q, k, v = query[a:b], *(x[c:d].repeat_interleave(share, 1) for x in (key, value))
        logits = torch.einsum("qhd,khd->hqk", q, k) * (scale or 1 / math.sqrt(q.shape[-1]))
        distance = torch.arange(b - a)[:, None] + (d - c) - (b - a) - torch.arange(d - c)
        hidden = ((distance > left) & (left >= 0)) | ((-distance > right) & (right >= 0))
        outputs.append(torch.einsum("hqk,khd->qhd", logits.masked_fill(hidden, -torch.inf).softmax(-1), v))
    return torch.cat(outputs)


def torch_varlen(query, key, value, bq, bk, mq, mk, *, scale=None, window_size=(-1, -1), enable_gqa=False):
    return varlen(query, key, value, bq, bk, mq, mk, scale=scale, window=window_size, enable_gqa=enable_gqa)


def flash_varlen(q, k, v, bq, bk, mq, mk, *, dropout_p, softmax_scale, causal, window_size):
    if causal:
        window_size = (window_size[0], 0)
    return varlen(q, k, v, bq, bk, mq, mk, scale=softmax_scale, window=window_size, enable_gqa=True)


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("settings", CALLS)
@pytest.mark.parametrize("kernel", [by_torch(torch_varlen), by_flash_attn(flash_varlen)], ids=["torch", "flash"])
def test_one_call_for_all_lengths_is_told_what_the_runs_are(kernel, settings, scaling):
    call = attention(**settings, scaling=scaling)
    torch.testing.assert_close(kernel(call), by_runs(call), rtol=1e-12, atol=1e-12)


def test_what_is_told_to_torch_is_what_its_function_takes():
    from torch.nn.attention.varlen import varlen_attn

    assert set(inspect.signature(torch_varlen).parameters) - {"bq", "bk", "mq", "mk"} <= {
        *inspect.signature(varlen_attn).parameters
    }


def test_each_call_gets_the_fastest_kernel_that_computes_it(monkeypatch):
    def torchs(call):
        raise NotImplementedError

    def flash(call):
        raise NotImplementedError

    call = attention()
    dropping = replace(call, dropout=0.1)
    assert choose(call) is by_runs, "on a CPU"
    monkeypatch.setattr(kernels, "_variable", lambda call: True)
    monkeypatch.setattr(kernels, "_torch_kernel", lambda: torchs)
    monkeypatch.setattr(kernels, "_flash_kernel", lambda: None)
    assert choose(call) is torchs
    assert choose(dropping) is by_runs, "torch's has no dropout"
    monkeypatch.setattr(kernels, "_flash_kernel", lambda: flash)
    assert choose(call) is torchs
    assert choose(dropping) is flash
    monkeypatch.setattr(kernels, "_torch_kernel", lambda: None)
    assert choose(call) is flash


def test_bounds_made_without_gradients_serve_with_them():
    kernels._bounds.cache_clear()
    with torch.inference_mode():
        made = attention().bounds
    assert not made.is_inference()
    assert made.tolist() == [0, 5, 6, 15, 24, 26, 43, 52]


@pytest.mark.gpu
@pytest.mark.parametrize("settings", CALLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_kernels_agree_on_a_gpu_with_fp64_and_one_another(settings, dtype):
    call = attention(**settings, dtype=dtype, device="cuda")
    inputs = (call.query, call.key, call.value)
    exact = replace(call, query=call.query.double(), key=call.key.double(), value=call.value.double())
    wanted = by_runs(exact)
    slopes = torch.autograd.grad(wanted.square().sum(), inputs)
    found = {"runs": by_runs, "torch": kernels._torch_kernel(), "flash": kernels._flash_kernel()}
    assert choose(call) is found["torch"]
    for name, kernel in found.items():
        if kernel is None:
            continue
        out = kernel(call)
        torch.testing.assert_close(out.double(), wanted, rtol=1e-2, atol=1e-2, msg=name)
        for own, true in zip(torch.autograd.grad(out.float().square().sum(), inputs), slopes, strict=True):
            torch.testing.assert_close(own, true, rtol=3e-2, atol=3e-2, msg=name)
