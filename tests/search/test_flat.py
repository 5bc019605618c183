"""The flat backend: the order is that of the exact inner products, however close they are."""

from __future__ import annotations

import numpy as np
import pytest

from zhihui.errors import InputError
from zhihui.ranking import exact
from zhihui.search.embedding import VECTORS
from zhihui.search.flat import FlatVectors

COUNT, DIMENSION = 600, 700


@pytest.fixture(scope="module", params=["float32", "float16"])
def flat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlatVectors:
    """Vectors of which a third are copies of others, and a third differ from one by a rounding of one number."""
    generator = np.random.default_rng(7)
    vectors = generator.standard_normal((COUNT, DIMENSION)).astype(request.param) / DIMENSION**0.5
    vectors = vectors.astype(request.param)
    vectors[1::3] = vectors[::3]
    vectors[2::3] = vectors[::3]
    changed = generator.integers(DIMENSION, size=len(vectors[2::3]))
    rows = np.arange(2, COUNT, 3)
    vectors[rows, changed] = np.nextafter(vectors[rows, changed], vectors.dtype.type(1))
    folder = tmp_path_factory.mktemp(request.param)
    np.save(folder / VECTORS, vectors[generator.permutation(COUNT)])
    return FlatVectors(folder)


def queries() -> np.ndarray:
    """Unit vectors `[8, D]`."""
    vectors = np.random.default_rng(8).standard_normal((8, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 10, 100, COUNT])
def test_order_is_that_of_exact_search(flat: FlatVectors, k: int) -> None:
    wanted = exact.search(queries(), np.asarray(flat.stored, dtype=np.float32), k)
    for row, query in enumerate(queries()):
        found = flat.rank(query, k)
        np.testing.assert_array_equal(found.indices[0], wanted.indices[row])
        np.testing.assert_allclose(found.scores[0], wanted.scores[row], atol=1e-6)


def test_candidates_and_filters_are_ranked_among_themselves(flat: FlatVectors) -> None:
    allowed = np.zeros(COUNT, dtype=bool)
    allowed[100:300] = True
    some = np.flatnonzero(allowed)
    wanted = exact.search(queries(), np.asarray(flat.stored[some], dtype=np.float32), 20)
    for row, query in enumerate(queries()):
        for found in (flat.rank(query, 20, allowed=allowed), flat.settle(query, some, 20)):
            np.testing.assert_array_equal(found.indices[0], some[wanted.indices[row]])


def test_places_that_no_passage_fills_are_marked(flat: FlatVectors) -> None:
    found = flat.settle(queries()[0], np.array([3, 5], dtype=np.intp), 4)
    assert set(found.indices[0, :2]) == {3, 5}
    assert found.indices[0, 2:].tolist() == [-1, -1]
    assert flat.settle(queries()[0], np.array([], dtype=np.intp), 2).indices.tolist() == [[-1, -1]]


def test_query_that_is_not_finite_is_refused(flat: FlatVectors) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        flat.rank(np.full(DIMENSION, np.nan, dtype=np.float32), 3)
