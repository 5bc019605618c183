"""Products in slices: their rounding stays within what is said of it; those of pairs are float64's."""

from __future__ import annotations

import numpy as np
import pytest

from zhihui.ranking import products


@pytest.fixture(params=["in slices", "whole"])
def way(request, monkeypatch):
    if request.param == "in slices":
        pytest.importorskip("scipy")
    else:
        monkeypatch.setattr(products, "sgemm", lambda: None)
    return request.param


def vectors(kind: str, count: int, dimensions: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = random.normal(size=(count, dimensions))
    if kind == "alike":
        made = np.abs(made)  # partial sums grow all the way
    elif kind == "a few large":
        made[:, :3] *= 100
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [1, 64, 256, 257, 1000, 3584])
@pytest.mark.parametrize("kind", ["normal", "alike", "a few large"])
def test_rounding_is_less_than_is_said(way, kind, dimensions):
    queries, passages = vectors(kind, 30, dimensions, 0), vectors(kind, 200, dimensions, 1)
    multiplier = products.Multiplier(queries)
    found = np.full((30, 200), np.nan, dtype=np.float32)
    multiplier.into(found, passages)
    errors = np.abs(found - queries.astype(np.float64) @ passages.T.astype(np.float64)).max(axis=1)
    said = products.rounding(products.squares(queries), products.squares(passages).max(axis=0), dimensions)
    assert (errors < said / 4).all(), "half of it for each of two products, and that twice over"


def test_slices_round_less_than_the_whole(monkeypatch):
    pytest.importorskip("scipy")
    queries, passages = vectors("normal", 5, 3584, 0), vectors("normal", 50, 3584, 1)

    def said():
        return products.rounding(products.squares(queries), products.squares(passages).max(axis=0), 3584)

    sliced = said()
    monkeypatch.setattr(products, "sgemm", lambda: None)
    assert (sliced < said() / 6).all()


def test_memory_is_used_again_for_fewer_and_for_more_passages(way):
    queries, passages = vectors("normal", 4, 700, 0), vectors("normal", 90, 700, 1)
    multiplier = products.Multiplier(queries)
    for count in (40, 7, 90):
        out = np.full((4, count), np.nan, dtype=np.float32)
        multiplier.into(out, passages[:count])
        np.testing.assert_allclose(out, queries @ passages[:count].T, atol=1e-6)


def test_products_of_pairs_are_those_of_float64(tmp_path):
    queries, passages = vectors("normal", 9, 33, 0), vectors("normal", 1300, 33, 1)
    np.save(tmp_path / "passages.npy", passages)
    mapped = np.load(tmp_path / "passages.npy", mmap_mode="r")
    random = np.random.default_rng(2)
    row, column = random.integers(0, 9, 5000), random.integers(0, 1300, 5000)
    row, column = np.append(row, [8, 8]), np.append(column, [0, 0])  # a pair given twice
    expected = (queries[row].astype(np.float64) * passages[column]).sum(axis=1)
    for stored in (passages, mapped, passages.astype(np.float16)):
        found = products.of_pairs(queries, stored, row, column)
        right = (
            expected
            if stored.dtype == np.float32
            else (queries[row].astype(np.float64) * stored[column].astype(np.float64)).sum(axis=1)
        )
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-15)
    assert products.of_pairs(queries, passages, row[:0], column[:0]).shape == (0,)


def test_a_pair_has_the_same_product_in_any_company():
    queries, passages = vectors("normal", 6, 100, 0), vectors("normal", 40, 100, 1)
    row, column = np.divmod(np.arange(240), 40)
    together = products.of_pairs(queries, passages, row, column)
    for pair in (0, 77, 239):
        alone = products.of_pairs(queries, passages, row[pair : pair + 1], column[pair : pair + 1])
        assert alone[0] == together[pair]
