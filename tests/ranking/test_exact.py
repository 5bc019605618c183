from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.ranking import bf16, exact, products


def naive(queries, passages, k):
    """All scores in float64, rounded to float32, sorted stably: the definition."""
    scores = (queries[:, None].astype(np.float64) * passages[None]).sum(-1).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def check(found, queries, passages, k):
    order, scores = naive(queries, passages, k)
    filled = order.shape[1]
    assert found.indices.shape == found.scores.shape == (len(queries), k)
    np.testing.assert_array_equal(found.indices[:, :filled], order)
    np.testing.assert_allclose(found.scores[:, :filled], scores, rtol=1e-5, atol=1e-5)
    assert (found.indices[:, filled:] == -1).all()
    assert np.isneginf(found.scores[:, filled:]).all()


@pytest.fixture(scope="module", params=["in slices", "whole"], autouse=True)
def multiplier(request):
    """How dimensions are summed in float32 on a CPU, with SciPy or without it; never may the answer differ."""
    usual = products.sgemm, products.SLICE
    if request.param == "in slices":
        pytest.importorskip("scipy")
        products.SLICE = 4
    else:
        products.sgemm = lambda: None
    yield
    products.sgemm, products.SLICE = usual


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 12),
    passages=st.integers(1, 60),
    dimensions=st.integers(1, 9),
    k=st.integers(1, 70),
    query_chunk=st.integers(1, 15),
    passage_chunk=st.integers(1, 70),
    kind=st.sampled_from(["normal", "unit", "ties", "zeros", "copies", "nearly equal"]),
)
def test_equals_the_naive_search(seed, queries, passages, dimensions, k, query_chunk, passage_chunk, kind):
    random = np.random.default_rng(seed)
    q = random.normal(size=(queries, dimensions))
    p = random.normal(size=(passages, dimensions))
    if kind == "unit":
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        p /= np.linalg.norm(p, axis=1, keepdims=True)
    elif kind == "ties":
        q, p = random.integers(-1, 2, q.shape), random.integers(-1, 2, p.shape)
    elif kind == "zeros":
        q, p = q, np.zeros_like(p)
    elif kind == "copies":
        p = p[random.integers(0, 1 + passages // 8, passages)]
    elif kind == "nearly equal":
        p = p[:1] + 1e-7 * p
    q, p = q.astype(np.float32), p.astype(np.float32)
    check(exact.search(q, p, k, query_chunk=query_chunk, passage_chunk=passage_chunk), q, p, k)


def test_order_is_the_same_for_any_chunks_in_high_dimensions(monkeypatch):
    monkeypatch.setattr(products, "SLICE", 300)
    random = np.random.default_rng(0)
    q = random.normal(size=(20, 1024)).astype(np.float32)
    p = random.normal(size=(300, 1024)).astype(np.float32)[random.integers(0, 300, 2000)]
    order, _ = naive(q, p, 50)
    for query_chunk, passage_chunk in [(1, 1999), (7, 64), (20, 1), (1024, 16384)]:
        found = exact.search(q, p, 50, query_chunk=query_chunk, passage_chunk=passage_chunk)
        np.testing.assert_array_equal(found.indices, order)


def test_many_equal_passages_at_the_end_of_the_list_take_the_lowest_indices():
    p = np.repeat(np.eye(3, 5, dtype=np.float32), [2, 400, 100], axis=0)[::-1].copy()
    q = np.array([[2, 1, 0, 0, 0], [0, 1, 2, 0, 0]], dtype=np.float32)
    for passage_chunk in (1, 33, 1000):
        found = exact.search(q, p, 10, query_chunk=2, passage_chunk=passage_chunk)
        np.testing.assert_array_equal(found.indices[0], [500, 501, *range(100, 108)])
        np.testing.assert_array_equal(found.indices[1], range(10))


def test_reads_a_read_only_memory_map_and_half_precision(tmp_path):
    random = np.random.default_rng(1)
    p = random.normal(size=(40, 8)).astype(np.float16)
    np.save(tmp_path / "p.npy", p.astype(np.float32))
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    q = mapped[:5]
    check(exact.search(q, mapped, 7, passage_chunk=9), np.array(q), np.array(mapped), 7)
    check(exact.search(q, p, 7, passage_chunk=9), np.array(q), np.array(mapped), 7)


def test_without_queries_or_passages_nothing_is_listed():
    some, none = np.ones((2, 3), np.float32), np.ones((0, 3), np.float32)
    assert exact.search(none, some, 4).indices.shape == (0, 4)
    found = exact.search(some, none, 4)
    assert (found.indices == -1).all()
    assert found.indices.shape == (2, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"query_chunk": 0}, "query_chunk is 0"),
        ({"passage_chunk": -1}, "passage_chunk is -1"),
        ({"queries": np.ones((2, 4), np.float32)}, r"queries \[2, 4\], passages \[5, 3\]"),
        ({"queries": np.ones(3, np.float32)}, r"queries \[3\]"),
        ({"queries": np.full((1, 3), np.nan, np.float32)}, "query vector holds NaN"),
        ({"passages": np.full((5, 3), np.inf, np.float32)}, "passage vector holds NaN or infinity"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"queries": np.ones((2, 3), np.float32), "passages": np.ones((5, 3), np.float32), "k": 2}
    with pytest.raises(InputError, match=message):
        exact.search(**{**given, **change})


class TestBfloat16:
    """The coarse scan must change no rank; emulated here, it is slow and small."""

    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        queries=st.integers(1, 9),
        passages=st.integers(1, 60),
        k=st.integers(1, 20),
        passage_chunk=st.integers(1, 70),
        kind=st.sampled_from(["unit", "ties", "nearly equal"]),
    )
    def test_equals_the_naive_search(self, seed, queries, passages, k, passage_chunk, kind):
        random = np.random.default_rng(seed)
        q = random.normal(size=(queries, 6))
        p = random.normal(size=(passages, 6))
        if kind == "unit":
            q /= np.linalg.norm(q, axis=1, keepdims=True)
            p /= np.linalg.norm(p, axis=1, keepdims=True)
        elif kind == "ties":
            q, p = random.integers(-1, 2, q.shape), random.integers(-1, 2, p.shape)
        else:
            p = p[:1] + 1e-3 * p
        q, p = q.astype(np.float32), p.astype(np.float32)
        check(exact.search(q, p, k, passage_chunk=passage_chunk, scan="bfloat16"), q, p, k)

    def test_a_list_of_equal_coarse_scores_that_round_by_nearly_all_they_can_is_not_believed(self):
        """In bfloat16 all are 2.171875, where the first is 2.1581166 below zero: 0.8 of what rounding may do."""
        random = np.random.default_rng(271)
        q, p = random.normal(size=(2, 1)), random.normal(size=(51, 1))
        q, p = q.astype(np.float32), (p[:1] + 1e-7 * p).astype(np.float32)
        check(exact.search(q, p, 1, scan="bfloat16"), q, p, 1)

    def test_most_queries_need_no_second_scan(self, monkeypatch):
        random = np.random.default_rng(0)
        q, p = (random.normal(size=(n, 64)).astype(np.float32) for n in (60, 2000))
        q, p = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (q, p))
        scanned = {"float32": 0, "bfloat16": 0}
        plain = exact._candidates

        def counted(queries, passages, kept, passage_chunk, device, scan):
            scanned[scan] += len(queries)
            return plain(queries, passages, kept, passage_chunk, device, scan)

        monkeypatch.setattr(exact, "_candidates", counted)
        check(exact.search(q, p, 10, scan="bfloat16"), q, p, 10)
        assert scanned["bfloat16"] == 60
        assert scanned["float32"] < 30

    def test_the_bound_on_its_error_holds(self):
        random = np.random.default_rng(1)
        q, p = (random.normal(size=(n, 48)).astype(np.float32) for n in (40, 300))
        corpus = exact._measure(p, 64, coarse=True)
        bound = exact._coarse_error(q, np.linalg.norm(q.astype(np.float64), axis=1), corpus, "cpu")
        scores, indices = exact._candidates(q, p, 300, 64, "cpu", "bfloat16")
        true = np.take_along_axis(q.astype(np.float64) @ p.T, indices, axis=1)
        error = np.abs(scores - true).max(axis=1)
        assert (error <= bound).all()
        assert error.max() > bound.max() / 50, "a bound that is never approached would scan everything twice"

    def test_it_is_not_chosen_where_it_is_emulated(self, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
        assert not bf16.is_native("cpu")
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
        assert bf16.is_native("cpu")
