from __future__ import annotations

import numpy as np
import pytest

from zhihui.errors import InputError
from zhihui.ranking import exact
from zhihui.ranking.inverted import InvertedFile


def clustered(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, 24))
    vectors = centres[generator.integers(0, 40, count)] + 1.0 * generator.standard_normal((count, 24))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def passages():
    return clustered(4000, 0)


def test_nearly_all_is_found_and_the_recall_is_the_true_one(passages):
    queries = clustered(300, 1)
    index = InvertedFile(passages, seed=3)
    found, true = index.search(queries, 20), exact.search(queries, passages, 20)
    assert 1 < index.probed < index.cells
    report = index.report(queries[:200], 20)
    hits = [len({*a} & {*b}) for a, b in zip(found.indices[:200].tolist(), true.indices[:200].tolist(), strict=True)]
    assert report["recall"] == pytest.approx(sum(hits) / (200 * 20), abs=1e-6)
    assert report["sample"] == 200
    assert 0.9 < report["recall"] < 1.0
    rows = np.arange(300)[:, None]
    assert found.scores == pytest.approx((queries @ passages.T)[rows, found.indices], abs=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_a_seed_gives_the_same_ids(passages):
    queries = clustered(50, 2)
    first, again, other = (InvertedFile(passages, seed=seed).search(queries, 30) for seed in (5, 5, 6))
    assert (first.indices == again.indices).all()
    assert (first.scores == again.scores).all()
    assert (first.indices != other.indices).any()


def test_few_passages_are_searched_whole():
    passages, queries = clustered(30, 0), clustered(5, 1)
    index = InvertedFile(passages)
    assert (index.search(queries, 30).indices == exact.search(queries, passages, 30).indices).all()
    assert index.report(queries, 40)["recall"] == 1.0
    assert (index.search(queries, 40).indices[:, 30:] == -1).all()


def test_bad_input_is_refused(passages):
    with pytest.raises(InputError, match="no passages"):
        InvertedFile(passages[:0])
    with pytest.raises(InputError, match="k is 0"):
        InvertedFile(passages[:10]).search(passages[:1], 0)
