"""What the loss is made of, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_batches import assert_same, batch, pair_batch
from reference import reference
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zhihui.errors import InputError
from zhihui.training.loss import Layout, LearnedTemperature, LossConfig, equality_keys, info_nce


@pytest.mark.parametrize(("debias", "temperature"), [(0.01, 0.3), (0.3, 0.3), (0.5, 1.0)])
def test_debiasing_above_and_at_its_bound_equals_the_reference(debias, temperature):
    q, p, layout = batch(7)
    config = LossConfig(
        temperature=temperature, hardness="importance", strength=2.0, debias=debias, false_negative_margin=None
    )
    expected = reference(q, p, layout, config)
    if debias == 0.01:
        assert expected.witness.bounded == 0
    else:
        assert 0 < expected.witness.bounded < 8, "no row at the bound, or all"
        assert (expected.witness.lifted > 0) == (debias == 0.5)
    assert_same(info_nce(q, p, layout, config), expected, rtol=1e-9, atol=1e-10)


def test_rows_per_chunk_change_nothing():
    q, p, layout = batch(3, queries=12)
    config = LossConfig(temperature=0.1, terms=("query_query", "passage_query", "passage_passage"), distillation=0.5)
    whole = info_nce(q, p, layout, config)
    for rows in (1, 2, 5, 1000):
        part = info_nce(q, p, layout, replace(config, rows=rows))
        torch.testing.assert_close(part.passages, whole.passages)
        torch.testing.assert_close(part.queries, whole.queries)
        assert part.masked == whole.masked
    assert whole.queries.abs().max() > 1e-3


def test_matryoshka_on_the_whole_vector_alone_is_the_plain_loss():
    q, p, layout = batch(4)
    plain, whole = info_nce(q, p, layout, LossConfig()), info_nce(q, p, layout, LossConfig(matryoshka=(12,)))
    torch.testing.assert_close(whole.loss, plain.loss)
    torch.testing.assert_close(whole.passages, plain.passages)


def test_a_prefix_gives_no_gradient_beyond_it_and_none_along_itself():
    q, p, layout = batch(4)
    found = info_nce(q, p, layout, LossConfig(matryoshka=(5,), temperature=0.1))
    assert found.queries[:, :5].abs().min() > 0
    assert not found.queries[:, 5:].any()
    along = (found.queries[:, :5] * q[:, :5]).sum(1)
    torch.testing.assert_close(along, torch.zeros_like(along))


def test_a_prefix_longer_than_the_vectors_is_refused():
    q, p, layout = batch(4)
    with pytest.raises(ValueError, match="matryoshka 13 exceeds the 12 dimensions"):
        info_nce(q, p, layout, LossConfig(matryoshka=(4, 13)))


class _Allocations(TorchDispatchMode):
    """Notes the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("hardness", ["none", "importance"])
def test_memory_is_rows_times_passages(hardness):
    q, p, layout = pair_batch(512, 8, negatives=1)
    terms = ("query_query", "passage_query")
    largest = {}
    for rows in (64, 128):
        with _Allocations() as seen:
            info_nce(q, p, layout, LossConfig(rows=rows, hardness=hardness, terms=terms))
        largest[rows] = seen.largest
    assert largest == {rows: rows * (1024 + 512 + 512) * 4 for rows in (64, 128)}


def test_keys_are_equal_for_equal_texts_or_ids_in_any_process():
    texts = ["绿茶  怎么泡", "绿茶 怎么泡", "红茶怎么泡", "红茶怎么泡"]
    keys = equality_keys(texts, ["a", "b", "b", None])
    assert keys[0, 0] == keys[1, 0] != keys[2, 0]
    assert keys[1, 1] == keys[2, 1] != keys[0, 1]
    assert keys[3, 1] not in keys[:3, 1], "no id is equal to no other"
    assert torch.equal(equality_keys(texts), keys[:, 0])
    assert equality_keys(["绿茶"]).tolist() == [3472197861378455106], (
        "keys of a stored memory would change their meaning"
    )
    assert equality_keys([], []).shape == (0, 2)


def test_a_learned_temperature_falls_and_rises_and_stays_at_its_lowest():
    learned = LearnedTemperature(0.02)
    optimizer = torch.optim.SGD(learned.parameters(), lr=1.0)
    reached = []
    for gradient in (1.0, -1.0):
        for _ in range(60):
            optimizer.zero_grad()
            (gradient * learned()).backward()
            optimizer.step()
        reached.append(float(learned().detach()))
    assert reached[0] == pytest.approx(0.01)
    assert 0.02 < reached[1] < 0.1
    with pytest.raises(InputError, match="too low to be learned"):
        LearnedTemperature(0.005)


def test_a_query_without_a_positive_is_refused():
    _, _, layout = pair_batch(2, 4, negatives=0)
    layout = replace(layout, is_positive=torch.tensor([True, False]))
    with pytest.raises(ValueError, match="query 1 of the batch has no positive"):
        info_nce(torch.eye(2), torch.eye(2), layout, LossConfig())


def test_shapes_that_do_not_agree_are_refused():
    q, p, layout = pair_batch(4, 8)
    with pytest.raises(ValueError, match="7 passages are given and the layout has 8"):
        info_nce(q, p[:7], layout, LossConfig())
    with pytest.raises(ValueError, match="queries 2 to 6 are given and the layout has 4"):
        info_nce(q, p, layout, LossConfig(), offset=2)
    with pytest.raises(ValueError, match="need gathered_queries"):
        info_nce(q[:2], p, layout, LossConfig(terms=("passage_query",)))
    with pytest.raises(ValueError, match="3 gathered queries"):
        info_nce(q[:2], p, layout, LossConfig(), gathered_queries=q[:3])
    with pytest.raises(ValueError, match="belongs to query 4, and there are 4"):
        info_nce(q, p, replace(layout, owner=layout.owner + 1), LossConfig())
    with pytest.raises(ValueError, match=r"temperature 0\.0 is not above 0"):
        info_nce(q, p, layout, LossConfig(), temperature=0.0)
    with pytest.raises(ValueError, match="passage_key is for 2 passages and owner for 8"):
        replace(layout, passage_key=torch.zeros(2))
    with pytest.raises(ValueError, match="query_weight is for 1 queries"):
        replace(layout, query_weight=torch.ones(1))


def test_a_layout_moves_whole():
    _, _, layout = batch(1)
    moved = layout.to("meta")
    assert isinstance(moved, Layout)
    assert {tensor.device.type for tensor in vars(moved).values()} == {"meta"}
    assert replace(layout, grade=None).to("cpu").grade is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"hardness": "soft"}, "hardness 'soft'"),
        ({"scope": "some"}, "scope 'some'"),
        ({"terms": ("query",)}, "term 'query'"),
        ({"terms": ("query_query", "query_query")}, "named twice"),
        ({"strength": -1.0}, "strength -1.0"),
        ({"strength": float("nan")}, "strength nan"),
        ({"debias": 0.1}, "debias belongs"),
        ({"debias": 1.0, "hardness": "importance"}, "debias 1.0"),
        ({"false_negative_margin": -0.1}, "false_negative_margin -0.1"),
        ({"false_negative_margin": None, "mask_curated": True}, "mask_curated widens"),
        ({"distillation": -1.0}, "distillation -1.0"),
        ({"teacher_temperature": 0.0}, "teacher_temperature 0.0"),
        ({"matryoshka": (0,)}, "below 1"),
        ({"matryoshka": (8, 8)}, "twice"),
        ({"matryoshka": (8,), "matryoshka_weights": (1.0, 2.0)}, "2 weights for 1 lengths"),
        ({"matryoshka": (8,), "matryoshka_weights": (0.0,)}, "must be above 0"),
        ({"matryoshka_weights": (1.0,)}, "1 weights for 0 lengths"),
        ({"rows": 0}, "rows 0"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        LossConfig(**wrong)
