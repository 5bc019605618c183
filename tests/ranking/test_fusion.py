from __future__ import annotations

import numpy as np
import pytest

from zhihui.errors import InputError
from zhihui.ranking import TopK, reciprocal_rank_fusion


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


def test_the_order_of_the_rankings_changes_nothing():
    random = np.random.default_rng(0)
    rankings = [ranking(*(random.permutation(40)[:30] for _ in range(20))) for _ in range(5)]
    forward, backward = (reciprocal_rank_fusion(order, 25) for order in (rankings, rankings[::-1]))
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
