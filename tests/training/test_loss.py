"""The loss and all its gradients equal a naive fp64 reference, whatever the settings and the number of processes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_batches import assert_same, batch, over_processes, without
from reference import Witness, reference

from zhihui.training.loss import LossConfig, info_nce

TERMS = ("query_query", "passage_query", "passage_passage")


@st.composite
def configs(draw):
    margin = draw(st.sampled_from([None, 0.0, 0.1]))
    hardness = draw(st.sampled_from(["none", "additive", "importance"]))
    lengths = draw(st.sampled_from([(), (12,), (5,), (12, 5), (3, 7, 12)]))
    weighted = draw(st.booleans())
    temperature = draw(st.sampled_from([0.02, 0.05, 0.5]))
    # At a low temperature every row can fall to debiasing's bound, where there is no gradient to compare.
    debiased = hardness == "importance" and temperature == 0.5
    scope = draw(st.sampled_from(["all", "in_batch", "explicit"]))
    # With near ones masked a query can be left with one own hard negative, whose weight against the mean is 1.
    one_left = hardness == "importance" and scope == "explicit"
    return LossConfig(
        temperature=temperature,
        hardness=hardness,
        strength=draw(st.sampled_from([0.0, 1.0, 9.0])),
        scope=scope,
        debias=draw(st.sampled_from([0.0, 0.05])) if debiased else 0.0,
        terms=tuple(term for term in TERMS if draw(st.booleans())),
        false_negative_margin=margin,
        mask_curated=draw(st.booleans()) if margin is not None and not one_left else False,
        distillation=draw(st.sampled_from([0.0, 0.7])),
        teacher_temperature=draw(st.sampled_from([0.5, 2.0])),
        matryoshka=lengths,
        matryoshka_weights=tuple(0.5 + 0.3 * n for n in range(len(lengths))) if weighted else (),
        rows=draw(st.sampled_from([None, 1, 2, 5])),
    )


def assert_says_something(witness: Witness, config: LossConfig, *, memory: int) -> None:
    """Fail where a comparison would be vacuous: every setting must have had something to do."""
    assert witness.known >= 3
    assert witness.negatives["passages"] >= 20
    for term in config.terms:
        assert witness.negatives[term] >= 4, f"no negatives from {term}"
    if config.false_negative_margin is not None:
        assert witness.near >= 1, "nothing beyond the margin"
        assert witness.curated >= (2 if config.mask_curated else 1)
        assert config.mask_curated or witness.spared >= 1, "no own hard negative was beyond the margin"
    if config.hardness != "none" and config.strength:
        assert max(abs(weight - 1) for weight in witness.weights) > 0.01, "all weights are one"
    if config.distillation:
        assert witness.divergence > 1e-3
    if memory:
        assert witness.memory >= 6
        assert witness.memory_masked >= 1


situations = {
    "config": configs(),
    "seed": st.integers(0, 10**6),
    "memory": st.sampled_from([0, 3]),
    "world": st.sampled_from([1, 2, 4]),
    "ids": st.booleans(),
    "weighted": st.booleans(),
    "temperature": st.sampled_from([None, 0.3]),
}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(**situations)
def test_loss_and_gradients_equal_the_naive_reference(config, seed, memory, world, ids, weighted, temperature):
    compare(config, seed, memory, world, ids, weighted, temperature)


@pytest.mark.parametrize("hardness", ["additive", "importance"])
@pytest.mark.parametrize("scope", ["all", "in_batch", "explicit"])
def test_each_weight_in_each_scope_equals_the_naive_reference(hardness, scope):
    compare(LossConfig(temperature=0.1, hardness=hardness, scope=scope), 1, 3, 1, ids=False, weighted=True)


@pytest.mark.parametrize("term", TERMS)
def test_each_term_equals_the_naive_reference(term):
    config = LossConfig(temperature=0.1, terms=(term,), matryoshka=(5, 12), matryoshka_weights=(0.5, 2.0))
    compare(config, 2, 3, 2, ids=True, weighted=True)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(**situations)
def test_loss_and_gradients_equal_the_naive_reference_in_many_more_situations(
    config, seed, memory, world, ids, weighted, temperature
):
    compare(config, seed, memory, world, ids, weighted, temperature)


def compare(config, seed, memory, world, ids, weighted, temperature=None):
    q, p, layout = batch(seed, memory=memory, ids=ids)
    if not weighted:
        layout = without(layout, "query_weight")
    if not config.distillation:
        layout = without(layout, "grade")
    expected = reference(q, p, layout, config, temperature)
    assert_says_something(expected.witness, config, memory=memory)
    found = over_processes(q, p, layout, config, world=world, temperature=temperature)
    assert_same(found, expected, rtol=1e-8, atol=1e-9)
    assert found.passages[layout.owner < 0].abs().sum() == 0, "a passage from the memory got a gradient"
    counts = expected.witness.known, expected.witness.near, expected.witness.curated
    assert tuple(int(count) for count in found.masked) == counts


@settings(max_examples=10, deadline=None, derandomize=True)
@given(config=configs(), seed=st.integers(0, 10**6))
def test_in_fp32_they_equal_it_to_rounding(config, seed):
    q, p, layout = (each if not isinstance(each, torch.Tensor) else each.float() for each in batch(seed))
    expected = reference(q, p, layout, config)
    assert_says_something(expected.witness, config, memory=3)
    found = info_nce(q, p, layout, config)
    assert found.loss.dtype == found.queries.dtype == torch.float32
    assert_same(found, expected, rtol=1e-3, atol=1e-4)
