"""One test for each defect of this kind that was found in other toolkits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from loss_batches import batch, over_processes, pair_batch
from reference import reference
from torch.nn.functional import normalize

from zhihui.training.loss import Layout, LossConfig, info_nce


def test_bf16_autocast_does_not_reach_the_similarities():
    q, p, layout = batch(1)
    q, p = q.float(), p.float()
    config = LossConfig(temperature=0.01, false_negative_margin=None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = q @ p.T
        found = info_nce(q, p, layout, config)
    assert (low.double() - q.double() @ p.double().T).abs().max() / 0.01 > 0.05, "autocast was not in force"
    expected = reference(q, p, layout, config)
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.queries.double(), expected.queries, rtol=1e-3, atol=1e-4)


def test_reduced_matmul_precision_does_not_reach_the_similarities():
    q, p, layout = pair_batch(64, 64)
    before = torch.get_float32_matmul_precision()
    seen = []
    mm = torch.mm
    try:
        torch.set_float32_matmul_precision("medium")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "mm", lambda *a, **k: seen.append(torch.get_float32_matmul_precision()) or mm(*a, **k))
            info_nce(q, p, layout, LossConfig())
        assert torch.get_float32_matmul_precision() == "medium", "the caller's setting was not put back"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {"highest"}


def test_vectors_in_bf16_are_computed_in_fp32():
    q, p, layout = batch(5)
    low = info_nce(q.bfloat16(), p.bfloat16(), layout, LossConfig(temperature=0.01))
    same = info_nce(q.bfloat16().float(), p.bfloat16().float(), layout, LossConfig(temperature=0.01))
    assert low.loss.dtype == low.queries.dtype == low.passages.dtype == torch.float32
    assert low.loss == same.loss
    assert torch.equal(low.passages, same.passages)


@pytest.mark.parametrize("distillation", [0.0, 1.0])
def test_the_gradient_does_not_scale_with_the_number_of_processes(distillation):
    """FlagEmbedding's contrastive gradient shrinks with the number of processes while its distillation does not."""
    q, p, layout = batch(2, queries=8)
    config = LossConfig(temperature=0.1, distillation=distillation)
    alone = info_nce(q, p, layout, config)
    for world in (2, 4, 8):
        together = over_processes(q, p, layout, config, world=world)
        torch.testing.assert_close(together.loss, alone.loss)
        torch.testing.assert_close(together.queries, alone.queries)
        torch.testing.assert_close(together.passages, alone.passages)
    assert alone.queries.abs().max() > 1e-3


def test_distillation_weighs_the_same_whatever_the_number_of_processes():
    q, p, layout = batch(2, queries=8)
    shares = []
    for world in (1, 2, 4):
        plain = over_processes(q, p, layout, LossConfig(temperature=0.1), world=world)
        soft = over_processes(q, p, layout, LossConfig(temperature=0.1, distillation=2.0), world=world)
        shares.append(torch.cat([soft.queries - plain.queries, soft.passages - plain.passages]))
    assert shares[0].abs().max() > 1e-3
    torch.testing.assert_close(shares[1], shares[0])
    torch.testing.assert_close(shares[2], shares[0])


def test_distillation_takes_only_what_is_graded():
    q, p, layout = batch(3)
    config = LossConfig(temperature=0.1, distillation=1.0)
    plain, soft = info_nce(q, p, layout, LossConfig(temperature=0.1)), info_nce(q, p, layout, config)
    moved = (soft.passages - plain.passages).abs().sum(1) > 1e-9
    graded = ~layout.grade.isnan()
    assert moved.any()
    assert not moved[~graded].any(), "a passage without a grade was moved"
    assert not (soft.queries - plain.queries)[2].any(), "a query without grades was moved"
    exact = replace(layout, grade=torch.where(graded, (q[layout.owner] * p).sum(1) / 0.1, torch.nan))
    at_target = info_nce(q, p, exact, config)
    torch.testing.assert_close(at_target.queries, plain.queries)  # the student is the teacher: nothing to learn


def test_distillation_without_grades_is_refused():
    q, p, layout = pair_batch(4, 8)
    with pytest.raises(ValueError, match="needs the teacher's grades"):
        info_nce(q, p, layout, LossConfig(distillation=1.0))


def near_negative() -> tuple[torch.Tensor, torch.Tensor, Layout]:
    """One query whose own hard negative is far nearer than its positive."""
    q, p = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    layout = Layout(
        owner=torch.tensor([0, 0]),
        is_positive=torch.tensor([True, False]),
        passage_key=torch.tensor([1, 2]),
        query_key=torch.tensor([1]),
    )
    return q, p, layout


def test_the_margin_drops_no_curated_negative_unless_asked():
    """ms-swift #6969."""
    q, p, layout = near_negative()
    kept = info_nce(q, p, layout, LossConfig(false_negative_margin=0.1))
    assert kept.loss > 10
    assert [int(count) for count in kept.masked] == [0, 0, 0]
    dropped = info_nce(q, p, layout, LossConfig(false_negative_margin=0.1, mask_curated=True))
    assert dropped.loss == 0
    assert [int(count) for count in dropped.masked] == [0, 1, 1]


def test_the_margin_drops_another_querys_passage():
    q, p, layout = near_negative()
    q = torch.cat([q, q @ torch.tensor([[0.0, 1.0], [1.0, 0.0]])])
    layout = replace(
        layout, owner=torch.tensor([0, 1]), is_positive=torch.tensor([True, True]), query_key=torch.arange(2)
    )
    assert info_nce(q, p, layout, LossConfig(false_negative_margin=None)).loss > 10
    found = info_nce(q, p, layout, LossConfig(false_negative_margin=0.1))
    assert found.loss == 0
    assert [int(count) for count in found.masked] == [0, 2, 0]


@pytest.mark.parametrize("mask_curated", [False, True])
def test_a_positive_drawn_again_as_its_own_negative_is_no_negative(mask_curated):
    """ms-swift pull request 10068."""
    q, p, layout = near_negative()
    again = replace(layout, passage_key=torch.tensor([1, 1]))
    found = info_nce(q, p, again, LossConfig(mask_curated=mask_curated))
    assert found.loss == 0
    assert not found.passages.any()
    assert [int(count) for count in found.masked] == [1, 0, 1], "what is dropped of a curated list must be counted"


@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0])
def test_the_temperature_is_applied(temperature):
    """Tevatron's gradient cache leaves it out."""
    q = torch.eye(2, dtype=torch.float64)
    layout = Layout(
        owner=torch.tensor([0, 1]),
        is_positive=torch.tensor([True, True]),
        passage_key=torch.tensor([1, 2]),
        query_key=torch.tensor([1, 2]),
    )
    wanted = math.log1p(math.exp(-1 / temperature))
    assert float(info_nce(q, q, layout, LossConfig(temperature=temperature)).loss) == pytest.approx(wanted, rel=1e-9)
    given = info_nce(q, q, layout, LossConfig(), temperature=torch.tensor(temperature, dtype=torch.float64))
    assert float(given.loss) == pytest.approx(wanted, rel=1e-9)


def test_gathered_hard_negatives_get_gradients():
    """RAG-Retrieval's get none from other processes."""
    q, p, layout = pair_batch(8, 16, negatives=2, dtype=torch.float64)
    config = LossConfig(temperature=0.1)
    first = info_nce(q[:4], p, layout, config)
    theirs = (layout.owner >= 4) & ~layout.is_positive
    assert (first.passages[theirs].abs().sum(1) > 1e-6).all()
    second = info_nce(q[4:], p, layout, config, offset=4)
    torch.testing.assert_close(first.passages + second.passages, info_nce(q, p, layout, config).passages)


def test_every_passage_beyond_the_queries_takes_part():
    """Contrastors drops documents beyond the number of queries."""
    q, p, layout = pair_batch(4, 16, negatives=3, dtype=torch.float64)
    config = LossConfig(temperature=1.0, false_negative_margin=None)
    whole = info_nce(q, p, layout, config)
    assert (whole.passages.abs().sum(1) > 1e-6).all()
    for j in range(4, 16):
        moved = p.clone()
        moved[j] = -moved[j]
        assert info_nce(q, moved, layout, config).loss != whole.loss


def test_a_memory_takes_part_is_masked_and_gets_no_gradient():
    q, p, layout = pair_batch(4, 16, dtype=torch.float64)
    config = LossConfig(temperature=0.1, false_negative_margin=0.1)
    near, unrelated = normalize(q[0] + 0.01, dim=-1), normalize(torch.ones(16, dtype=torch.float64), dim=-1)
    with_memory = replace(
        layout,
        owner=torch.cat([torch.tensor([-1, -1]), layout.owner, torch.tensor([-1])]),
        is_positive=torch.cat([torch.tensor([True, False]), layout.is_positive, torch.tensor([False])]),
        passage_key=torch.cat([torch.tensor([900, 901]), layout.passage_key, torch.tensor([0])]),
    )
    found = info_nce(q, torch.cat([torch.stack([unrelated, near]), p, p[:1]]), with_memory, config)
    without = info_nce(q, p, layout, config)
    assert found.loss > without.loss
    assert not found.passages[[0, 1, -1]].any()
    assert int(found.masked.near) > int(without.masked.near)  # `near`, for the first query
    assert int(found.masked.known) == 1  # the last, of the first query's positive's text


def test_a_weight_of_a_query_scales_its_loss_and_not_the_others():
    q, p, layout = pair_batch(4, 16, dtype=torch.float64)
    config = LossConfig(temperature=0.1)
    plain = info_nce(q, p, layout, config)
    weighted = info_nce(q, p, replace(layout, query_weight=torch.tensor([3.0, 1.0, 1.0, 0.0])), config)
    torch.testing.assert_close(weighted.queries[0], 3 * plain.queries[0])
    torch.testing.assert_close(weighted.queries[1:3], plain.queries[1:3])
    assert not weighted.queries[3].any()
    assert plain.queries[3].any()


def test_a_positive_far_ahead_still_has_a_gradient_in_fp32():
    """e^{l⁺}/Z - 1 would be zero: 1 - 1e-9 has no fp32."""
    q, p, layout = pair_batch(8, 16, negatives=0)
    p = q + 0.05 * (p - q)
    config = LossConfig(temperature=0.04, false_negative_margin=None)
    found, expected = info_nce(q, p, layout, config), reference(q, p, layout, config)
    smallest = expected.queries.abs().max(1).values.argmin()
    assert 0 < expected.queries[smallest].abs().max() < 1e-6
    torch.testing.assert_close(found.queries[smallest].double(), expected.queries[smallest], rtol=1e-3, atol=0)


def test_nan_is_not_masked_away():
    q, p, layout = pair_batch(4, 16)
    p[5, 0] = torch.nan
    assert info_nce(q, p, layout, LossConfig(hardness="importance", false_negative_margin=0.0)).loss.isnan()
