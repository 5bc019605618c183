from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhihui.encoder.packing import Packed, pack, plan_batches

SEQUENCES = [[11, 12, 13], [21], [31, 32]]


def test_a_packed_row_by_hand():
    packed = pack(SEQUENCES)
    assert packed.ids.tolist() == [11, 12, 13, 21, 31, 32]
    assert packed.lengths == (3, 1, 2)
    assert packed.starts.tolist() == [0, 3, 4]
    assert packed.ends.tolist() == [3, 4, 6]
    assert packed.sequence_of_token.tolist() == [0, 0, 0, 1, 2, 2]
    assert packed.positions.tolist() == [0, 1, 2, 0, 0, 1]


def test_a_padded_batch_by_hand():
    ids, mask = pack(SEQUENCES).padded(9)
    assert ids.tolist() == [[11, 12, 13], [21, 9, 9], [31, 32, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=6))
def test_padding_loses_nothing_also_where_the_pad_is_a_token(sequences):
    ids, mask = pack(sequences).padded(0)
    assert [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)] == sequences


@pytest.mark.parametrize("sequences", [[], [[]], [[1], [], [2]]])
def test_an_empty_sequence_is_refused(sequences):
    with pytest.raises(ValueError, match="cannot pack an empty sequence"):
        pack(sequences)


def test_moving_keeps_the_sequences():
    moved = pack(SEQUENCES).to("meta")
    assert moved.ids.device.type == "meta"
    assert moved.lengths == (3, 1, 2)
    assert isinstance(moved, Packed)
    assert torch.equal(pack(SEQUENCES).to("cpu").ids, pack(SEQUENCES).ids)


def test_a_plan_by_hand():
    assert plan_batches([2, 9, 3, 3, 1], 6) == [[1], [2, 3], [0, 4]]
    assert plan_batches([2, 2, 2, 2, 2], 4) == [[0, 1], [2, 3], [4]]
    assert plan_batches([], 4) == []
    # Padded, four tokens and one make eight.
    assert plan_batches([4, 1, 1, 1], 7) == [[0, 1, 2, 3]]
    assert plan_batches([4, 1, 1, 1], 7, padded=True) == [[0], [1, 2, 3]]
    assert plan_batches([4, 1, 1, 1], 8, padded=True) == [[0, 1], [2, 3]]


@given(lengths=st.lists(st.integers(1, 50), max_size=40), budget=st.integers(1, 120), padded=st.booleans())
def test_a_plan_holds_every_sequence_once_within_the_budget(lengths, budget, padded):
    plan = plan_batches(lengths, budget, padded=padded)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    flat = [lengths[i] for batch in plan for i in batch]
    assert flat == sorted(flat, reverse=True)

    def cost(batch):
        return max(lengths[i] for i in batch) * len(batch) if padded else sum(lengths[i] for i in batch)

    assert all(cost(batch) <= budget or len(batch) == 1 for batch in plan)
    for batch, following in pairwise(plan):
        assert cost([*batch, following[0]]) > budget  # no batch ends too early
