from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import gap
from torch.nn.utils.rnn import pad_sequence

from zhihui.encoder.packing import pack
from zhihui.encoder.pooling import pool_packed, pool_padded
from zhihui.encoder.settings import Pooling

MODES = get_args(Pooling)
RULES = {"lasttoken": lambda x: x[-1], "cls": lambda x: x[0], "mean": lambda x: x.mean(0)}


def padded(states, side, filler=1e4):
    """Return states and mask, the padding filled with what would be noticed."""
    mask = pad_sequence([torch.ones(len(x), dtype=torch.long) for x in states], True, 0, side)
    return pad_sequence(states, True, filler, side), mask


def random_states(lengths, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randn(n, 4, generator=generator).to(dtype) for n in lengths]


@pytest.mark.parametrize("mode", MODES)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_packed_and_padded_on_either_side_are_the_rule(mode, lengths):
    states = random_states(lengths)
    true = torch.stack([RULES[mode](x) for x in states])
    packed = pack([[0] * n for n in lengths])  # every id is the padding's, and must not matter
    assert gap(pool_packed(torch.cat(states), packed, mode), true) < 1e-6
    for side in ("left", "right"):
        assert gap(pool_padded(*padded(states, side), mode), true) < 1e-6, side


@pytest.mark.parametrize("mode", MODES)
def test_vectors_are_fp32_and_a_mean_is_summed_in_it(mode):
    states = random_states((700, 3), torch.bfloat16)
    true = torch.stack([RULES[mode](x.float()) for x in states])
    vectors = pool_packed(torch.cat(states), pack([[0] * 700, [0] * 3]), mode)
    assert vectors.dtype == torch.float32
    assert gap(vectors, true) < 1e-5
    assert gap(pool_padded(*padded(states, "left"), mode), true) < 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_the_pooled_tokens_and_no_other(mode):
    lengths = (3, 1, 4)
    states = torch.cat(random_states(lengths)).requires_grad_()
    pool_packed(states, pack([[0] * n for n in lengths]), mode).sum().backward()
    share = {
        "lasttoken": [0, 0, 1, 1, 0, 0, 0, 1],
        "cls": [1, 0, 0, 1, 1, 0, 0, 0],
        "mean": [1 / 3, 1 / 3, 1 / 3, 1, 1 / 4, 1 / 4, 1 / 4, 1 / 4],
    }[mode]
    assert gap(states.grad, torch.tensor(share)[:, None].expand(-1, 4)) < 1e-7
