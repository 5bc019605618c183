from __future__ import annotations

import hashlib

import pytest
import torch

from zhihui.encoder.weights import WeightsDigest


def state(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = {"matrix": (6, 8), "odd": (3, 5), "vector": (7,), "number": (), "single": (1, 1)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_digest_depends_on_content_alone(dtype):
    digest = WeightsDigest().of(state(dtype))
    assert digest == WeightsDigest().of(dict(reversed(state(dtype).items())))
    strided = state(dtype)
    strided["matrix"] = strided["matrix"].T.contiguous().T
    assert digest == WeightsDigest().of(strided)
    assert digest != WeightsDigest().of({**state(dtype), "extra": torch.ones(2)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", state())
def test_a_change_of_any_entry_is_noticed_even_behind_the_version_counter(name, dtype):
    weights = state(dtype)
    keeper = WeightsDigest()
    before = keeper.of(weights)
    for position in range(weights[name].numel()):
        version = weights[name]._version
        flat = weights[name].data.view(-1)
        old = flat[position].clone()
        flat[position] = -old
        assert weights[name]._version == version
        assert keeper.of(weights) == WeightsDigest().of(weights) != before
        flat[position] = old
        assert keeper.of(weights) == before


def test_swapped_rows_are_noticed():
    weights = state()
    keeper = WeightsDigest()
    before = keeper.of(weights)
    weights["matrix"].data[[1, 4]] = weights["matrix"].data[[4, 1]]
    assert keeper.of(weights) != before


def test_unchanged_weights_are_not_hashed_again(monkeypatch):
    weights = state()
    keeper = WeightsDigest()
    before = keeper.of(weights)
    monkeypatch.setattr(hashlib, "sha256", lambda: pytest.fail("hashed again"))
    assert keeper.of(weights) == before


def test_weights_made_under_inference_mode_have_a_digest_too():
    with torch.inference_mode():
        weights = {name: tensor.clone() for name, tensor in state().items()}
    assert WeightsDigest().of(weights) == WeightsDigest().of(state())
