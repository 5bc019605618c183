from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive_loss
from torch.nn.functional import normalize

from zhihui.errors import InputError
from zhihui.training.loss import Layout, LossConfig, info_nce


def batch(seed: int, queries: int, keys: int, memory: int = 0) -> tuple[torch.Tensor, torch.Tensor, Layout]:
    """A batch with several positives, hard negatives, equal texts and memory passages; `keys` small: many equal."""
    g = torch.Generator().manual_seed(seed)
    owner, positive = [], []
    for i in range(queries):
        count = int(torch.randint(1, 3, (), generator=g))
        negatives = int(torch.randint(0, 3, (), generator=g))
        owner += [i] * (count + negatives)
        positive += [True] * count + [False] * negatives
    owner += [-1] * memory
    positive += [False] * memory
    order = torch.randperm(len(owner), generator=g)
    q = normalize(torch.randn(queries, 8, generator=g, dtype=torch.float64), dim=-1)
    p = normalize(torch.randn(len(owner), 8, generator=g, dtype=torch.float64), dim=-1)
    # A hard batch: passages near their queries, so that margins and weights have something to do.
    near = torch.tensor(owner).clamp(min=0)[order]
    p = normalize(p + q[near], dim=-1)
    layout = Layout(
        owner=torch.tensor(owner)[order],
        is_positive=torch.tensor(positive)[order],
        passage_key=torch.randint(0, keys, (len(owner),), generator=g),
        query_key=torch.randint(0, max(2, keys // 2), (queries,), generator=g),
    )
    return q, p, layout


configs = st.builds(
    LossConfig,
    temperature=st.sampled_from([0.02, 0.05, 0.5]),
    hardness=st.sampled_from(["none", "additive", "importance"]),
    strength=st.sampled_from([0.0, 1.0, 5.0]),
    scope=st.sampled_from(["all", "in_batch", "explicit"]),
    terms=st.sets(st.sampled_from(["query_query", "passage_query", "passage_passage"])).map(lambda s: tuple(sorted(s))),
    false_negative_margin=st.sampled_from([None, 0.0, 0.1]),
    mask_curated=st.booleans(),
    rows=st.sampled_from([None, 1, 3]),
)


@settings(max_examples=120, deadline=None)
@given(config=configs, seed=st.integers(0, 10**6), keys=st.sampled_from([4, 1000]), memory=st.sampled_from([0, 3]))
def test_loss_and_gradients_equal_the_naive_reference(config, seed, keys, memory):
    q, p, layout = batch(seed, 5, keys, memory)
    q_leaf, p_leaf = q.clone().requires_grad_(), p.clone().requires_grad_()
    expected = naive_loss(q_leaf, p_leaf, layout, config)
    expected.backward()
    found = info_nce(q, p, layout, config)
    scale = max(1.0, float(q_leaf.grad.abs().max()))
    torch.testing.assert_close(found.loss.double(), expected.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.queries.double(), q_leaf.grad, rtol=1e-3, atol=2e-5 * scale)
    torch.testing.assert_close(found.passages.double(), p_leaf.grad, rtol=1e-3, atol=2e-5 * scale)


@pytest.mark.parametrize("debias", [0.01, 0.1, 0.5])
def test_debiased_importance_equals_the_naive_reference(debias):
    config = LossConfig(temperature=0.5, hardness="importance", strength=1.0, debias=debias, false_negative_margin=None)
    q, p, layout = batch(7, 6, 1000)
    q_leaf, p_leaf = q.clone().requires_grad_(), p.clone().requires_grad_()
    expected = naive_loss(q_leaf, p_leaf, layout, config)
    expected.backward()
    found = info_nce(q, p, layout, config)
    torch.testing.assert_close(found.loss.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.queries.double(), q_leaf.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.passages.double(), p_leaf.grad, rtol=1e-4, atol=1e-6)


def test_chunks_of_rows_change_nothing():
    q, p, layout = batch(3, 12, 1000)
    whole = info_nce(q, p, layout, LossConfig(rows=10**6))
    assert whole.queries.abs().max() > 1e-3, "a zero gradient would prove nothing"
    for rows in (1, 2, 5):
        part = info_nce(q, p, layout, LossConfig(rows=rows))
        torch.testing.assert_close(part.passages, whole.passages, rtol=1e-4, atol=1e-6)


def test_similarities_are_fp32_even_for_bf16_vectors():
    q, p, layout = batch(5, 6, 1000)
    low = info_nce(q.bfloat16(), p.bfloat16(), layout, LossConfig(temperature=0.01))
    same = info_nce(q.bfloat16().double(), p.bfloat16().double(), layout, LossConfig(temperature=0.01))
    assert low.loss.dtype == torch.float32
    torch.testing.assert_close(low.loss, same.loss)


def test_a_curated_negative_is_never_dropped_by_the_margin_unless_asked():
    q = torch.tensor([[1.0, 0.0]])
    p = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # the hard negative is far nearer than the positive
    layout = Layout(torch.tensor([0, 0]), torch.tensor([True, False]), torch.tensor([1, 2]), torch.tensor([1]))
    kept = info_nce(q, p, layout, LossConfig(false_negative_margin=0.1))
    dropped = info_nce(q, p, layout, LossConfig(false_negative_margin=0.1, mask_curated=True))
    assert kept.loss > 10
    assert dropped.loss == 0


def test_a_query_without_a_positive_is_refused():
    layout = Layout(torch.tensor([0, 1]), torch.tensor([True, False]), torch.tensor([1, 2]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="query 1 of the batch has no positive"):
        info_nce(torch.eye(2), torch.eye(2), layout, LossConfig())


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"hardness": "soft"},
        {"scope": "some"},
        {"terms": ("query",)},
        {"strength": -1.0},
        {"debias": 0.1},
        {"false_negative_margin": -0.1},
        {"rows": 0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError):
        LossConfig(**wrong)
