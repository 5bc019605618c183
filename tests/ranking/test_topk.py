from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhihui.ranking.topk import TopK, best


@given(scores=st.lists(st.integers(-3, 3), max_size=40), k=st.integers(1, 45))
def test_best_equals_a_stable_sort(scores, k):
    expected = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:k]
    assert best(np.array(scores, dtype=np.float32), k).tolist() == expected


def test_shapes_must_agree():
    with pytest.raises(AssertionError):
        TopK(indices=np.zeros((2, 3), np.int64), scores=np.zeros((2, 4), np.float32))
    with pytest.raises(AssertionError):
        TopK(indices=np.zeros(3, np.int64), scores=np.zeros(3, np.float32))


def test_empty_holds_nothing():
    nothing = TopK.empty(2, 3)
    assert (nothing.indices == -1).all()
    assert np.isneginf(nothing.scores).all()
    assert nothing.indices.shape == (2, 3)
