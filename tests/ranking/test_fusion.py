from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.ranking import TopK, reciprocal_rank_fusion, score_fusion


def ranking(*rows):
    indices = np.array(rows, dtype=np.int64)
    scores = np.where(indices >= 0, -np.arange(indices.shape[1], dtype=np.float32), -np.inf)
    return TopK(indices=indices, scores=scores.astype(np.float32))


def test_equals_a_table_worked_by_hand():
    first = ranking([7, 2, 5], [4, -1, -1], [-1, -1, -1])
    second = ranking([2, 9], [8, 3], [-1, -1])
    fused = reciprocal_rank_fusion([first, second], 4, constant=60)
    # 2: 1/62 + 1/61; 7: 1/61; 9: 1/62; 5: 1/63.  4 and 8 tie at 1/61; 3: 1/62.
    assert fused.indices.tolist() == [[2, 7, 9, 5], [4, 8, 3, -1], [-1, -1, -1, -1]]
    np.testing.assert_allclose(fused.scores[0], [1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63], rtol=1e-6)
    np.testing.assert_allclose(fused.scores[1, :3], [1 / 61, 1 / 61, 1 / 62], rtol=1e-6)
    assert np.isneginf(fused.scores[1, 3])


def test_constant_and_k():
    fused = reciprocal_rank_fusion([ranking([1, 0]), ranking([2, 0])], 1, constant=0)
    assert fused.indices.tolist() == [[0]]
    assert fused.scores.tolist() == [[1.0]]
    fused = reciprocal_rank_fusion([ranking([1, 3, 0]), ranking([2, 4, 0])], 1, constant=0)
    assert fused.indices.tolist() == [[1]]


def test_weights_multiply_what_a_rank_brings():
    rankings = [ranking([7, 2]), ranking([2, 9])]
    fused = reciprocal_rank_fusion(rankings, 3, weights=(0.5, 3))
    assert fused.indices.tolist() == [[2, 9, 7]]
    np.testing.assert_allclose(fused.scores[0], [0.5 / 62 + 3 / 61, 3 / 62, 0.5 / 61], rtol=1e-6)
    one = reciprocal_rank_fusion(rankings, 3, weights=(1, 1))
    assert one.scores.tolist() == reciprocal_rank_fusion(rankings, 3).scores.tolist()
    for weights in ((1,), (1, -1), (0, 0), (1, float("nan"))):
        with pytest.raises(InputError, match="give one of 0 or more for each of 2 rankings"):
            reciprocal_rank_fusion(rankings, 3, weights=weights)


def scored(*rows):
    width = max(map(len, rows))
    found = TopK.empty(len(rows), width)
    for row, scores in enumerate(rows):
        found.indices[row, : len(scores)] = list(scores)
        found.scores[row, : len(scores)] = list(scores.values())
    return found


def test_scores_are_brought_to_one_range_and_summed():
    first = scored({7: 30.0, 2: 20.0, 5: 10.0}, {4: 5.0}, {})
    second = scored({2: 0.9, 9: 0.6, 7: 0.5}, {8: 0.1, 3: 0.0, 4: -0.3}, {})
    fused = score_fusion([first, second], 4, weights=(0.4, 0.6))
    # 7: 0.4 + 0; 2: 0.4 / 2 + 0.6; 5: 0; 9: 0.6 / 4.  Alone in its list, 4 is the best of it; last in the other, 0.
    assert fused.indices.tolist() == [[2, 7, 9, 5], [8, 3, 4, -1], [-1] * 4]
    np.testing.assert_allclose(fused.scores[0], [0.8, 0.4, 0.15, 0.0], atol=1e-6)
    np.testing.assert_allclose(fused.scores[1, :3], [0.6, 0.45, 0.4], atol=1e-6)


@settings(deadline=None)
@given(st.floats(0.1, 10), st.floats(-10, 10))
def test_scale_and_offset_of_a_retriever_change_nothing(scale, offset):
    random = np.random.default_rng(0)
    first, second = (ranking(*(random.permutation(40)[:30] for _ in range(5))) for _ in range(2))
    moved = TopK(indices=second.indices, scores=(second.scores.astype(np.float64) * scale + offset))
    plain, other = score_fusion([first, second], 25), score_fusion([first, moved], 25)
    np.testing.assert_allclose(plain.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("merge", [reciprocal_rank_fusion, score_fusion])
def test_the_order_of_the_rankings_changes_nothing(merge):
    random = np.random.default_rng(0)
    rankings = [ranking(*(random.permutation(40)[:30] for _ in range(20))) for _ in range(5)]
    forward, backward = (merge(order, 25) for order in (rankings, rankings[::-1]))
    np.testing.assert_array_equal(forward.indices, backward.indices)
    np.testing.assert_array_equal(forward.scores, backward.scores)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (([], 3), {}, "no ranking"),
        (([ranking([1])], 0), {}, "k is 0"),
        (([ranking([1])], 1), {"constant": -1}, "constant is -1"),
        (([ranking([1]), ranking([1], [2])], 1), {}, r"of \[1, 2\] queries"),
    ],
)
def test_bad_input_is_refused(arguments, settings, message):
    with pytest.raises(InputError, match=message):
        reciprocal_rank_fusion(*arguments, **settings)
