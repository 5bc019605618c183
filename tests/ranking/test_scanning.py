"""The best of scores that come a tile at a time, and the guess of which are worth a look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.ranking import exact, scanning
from zhihui.ranking.scanning import BestSoFar, likely_lowest

NOTHING = -np.inf


def begun(queries: int, kept: int, lowest: float = NOTHING) -> BestSoFar:
    return BestSoFar(np.full(queries, lowest, dtype=np.float32), kept)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 5),
    passages=st.integers(1, 900),
    width=st.integers(1, 400),
    kept=st.integers(1, 20),
    rising=st.booleans(),
)
def test_keeps_the_best_however_the_tiles_come(seed, queries, passages, width, kept, rising):
    kept = min(kept, passages)
    scores = np.random.default_rng(seed).normal(size=(queries, passages)).astype(np.float32)
    if rising:
        scores.sort(axis=1)  # each tile is better than all before: what is held overflows time and again
    best = begun(queries, kept)
    for start in range(0, passages, width):
        best.add(np.ascontiguousarray(scores[:, start : start + width]), start)
    found, indices = best.best(kept)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :kept]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(found, np.take_along_axis(scores, order, axis=1))
    assert (best.filled >= kept).all()


def test_what_is_not_above_the_lowest_is_not_looked_at():
    best = begun(1, 3, lowest=0.5)
    best.add(np.array([[0.5, 0.9, 0.1, 0.7]], dtype=np.float32), 10)
    scores, indices = best.best(3)
    assert indices[0, :2].tolist() == [11, 13]
    assert scores[0].tolist() == [pytest.approx(0.9), pytest.approx(0.7), NOTHING]
    assert best.filled.tolist() == [2]


def test_one_full_row_does_not_lower_what_the_others_must_be_above():
    best = begun(2, 2, lowest=-1)
    best.add(np.array([np.arange(200), np.full(200, -5)], dtype=np.float32), 0)
    assert best.lowest[0] > 0, "what was held overflowed"
    assert best.lowest[1] == -1
    best.add(np.array([[0], [-0.5]], dtype=np.float32), 200)
    scores, indices = best.best(2)
    assert indices[0].tolist() == [199, 198]
    assert (indices[1, 0], scores[1, 0]) == (200, -0.5)
    assert best.filled[1] == 1


# --------------------------------------------------------------------------- the guess


@pytest.fixture
def small_sample(monkeypatch):
    monkeypatch.setattr(scanning, "SAMPLE", 64)


def vectors(count: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def test_the_guess_lets_enough_pass_and_not_many_more(small_sample):
    queries, passages = vectors(50, 16, 0), vectors(4000, 16, 1)
    lowest = likely_lowest(lambda out, some: np.matmul(queries, some.T, out=out), 50, passages, 100)
    above = (queries @ passages.T > lowest[:, None]).sum(axis=1)
    assert (above >= 100).all()
    assert np.median(above) < 1000, "of 4,000: most are not looked at"


@pytest.mark.parametrize(("passages", "kept"), [(300, 10), (4000, 3000)], ids=["few passages", "most wanted"])
def test_no_guess_is_made_where_it_would_not_pay(small_sample, passages, kept):
    def refused(out, some):
        raise AssertionError("nothing is multiplied")

    assert np.isneginf(likely_lowest(refused, 3, vectors(passages, 4, 0), kept)).all()


def test_a_sample_unlike_the_rest_changes_nothing(small_sample, monkeypatch):
    queries = np.abs(vectors(6, 8, 0))
    passages = -np.abs(vectors(2000, 8, 1))
    passages[:: len(passages) // 64] *= -1  # what is drawn scores above everything else
    rounds = []
    plain = exact._scan
    monkeypatch.setattr(exact, "_scan", lambda *given: rounds.append(len(given[-1].lowest)) or plain(*given))
    found = exact.search(queries, passages, 100, passage_chunk=300)
    scores = (queries.astype(np.float64) @ passages.T.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(found.indices, np.argsort(-scores, axis=1, kind="stable")[:, :100])
    assert rounds == [6, 6], "all lists were too short and made again"
