"""Smaller vectors: each way of storing against arithmetic done by hand, every text encoded once."""

from __future__ import annotations

import numpy as np
import pytest
from pages import Page

from zhihui.errors import InputError
from zhihui.evaluation import DenseSystem, evaluate
from zhihui.evaluation.curves import (
    CurvesConfig,
    StoredVectors,
    measure_curves,
    quantised,
    restored,
    signs_of,
)
from zhihui.evaluation.curves_stage import curves_files, headline
from zhihui.evaluation.sets import one_set
from zhihui.records import write_beir


def unit(rows: int, columns: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_int8_is_off_by_half_a_step_at_most():
    vectors = unit(50, 16, 0)
    vectors[:, 3] = 0.25  # a dimension without spread
    steps, low, step = quantised(vectors)
    assert steps.dtype == np.uint8
    assert (steps.min(), steps.max()) == (0, 255)
    off = np.abs(restored(steps, low, step) - vectors)
    assert (off <= step / 2 + 1e-6).all()
    assert off[:, 3].max() == 0


def test_binary_ranks_by_hamming_distance_and_rescored_by_the_query_itself(tiny):
    queries, passages = unit(7, 24, 1), unit(24, 24, 2)
    bits = np.packbits(passages > 0, axis=1)
    asked = np.packbits(queries > 0, axis=1)
    hamming = np.bitwise_count(bits[None] ^ asked[:, None]).sum(axis=2)
    found = StoredVectors(queries, passages, precision="binary").rank(tiny, list(tiny.queries), 5)
    for row, distances in enumerate(hamming):
        expected = np.argsort(distances, kind="stable")[:5]
        assert found.indices[row].tolist() == expected.tolist()
    again = StoredVectors(queries, passages, precision="binary, rescored", rescored=10).rank(
        tiny, list(tiny.queries), 5
    )
    for row, distances in enumerate(hamming):
        near = np.argsort(distances, kind="stable")[:10]
        order = np.argsort(-(signs_of(passages[near]) @ queries[row]), kind="stable")
        assert again.indices[row].tolist() == near[order][:5].tolist()
    assert (again.indices != found.indices).any()


def test_every_way_is_measured_and_every_text_encoded_once(tiny, encoder):
    found = measure_curves(tiny, "test", encoder, CurvesConfig())
    assert encoder.documents_encoded == len(tiny.corpus)
    whole = found.points[0]
    assert (whole.dimensions, whole.precision, whole.bytes, whole.change) == (64, "float32", 256, None)
    plain = evaluate(tiny, "test", [DenseSystem(encoder)], k=100)
    assert whole.value == plain.systems[0].intervals["ndcg_at_10"]
    sizes = {(point.precision, point.dimensions): point.bytes for point in found.points}
    assert sizes == {
        ("float32", 64): 256,
        ("float32", 32): 128,
        ("int8", 64): 64,
        ("int8", 32): 32,
        ("binary", 64): 8,
        ("binary", 32): 4,
        ("binary, rescored", 64): 8,
        ("binary, rescored", 32): 4,
    }
    for point in found.points[1:]:
        assert point.change is not None
        assert point.value.value - point.change.value == pytest.approx(whole.value.value)
    assert [point.dimensions for point in found.of("int8")] == [32, 64]


def test_lengths_are_halves_or_those_asked_for():
    assert CurvesConfig().lengths(3584) == [3584, 1792, 896, 448, 224, 112, 56]
    assert CurvesConfig().lengths(100) == [100, 50]
    assert CurvesConfig(dimensions=(16, 64)).lengths(128) == [128, 64, 16]
    with pytest.raises(InputError, match="dimensions 256 is more than the model's 128"):
        CurvesConfig(dimensions=(256,)).lengths(128)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": (4,)}, "dimensions 4 is too short"),
        ({"precisions": ("int4",)}, "precision 'int4' is unknown; choose float32, int8"),
        ({"precisions": ()}, "no precision to try"),
        ({"rescored": 5}, "rescored 5 is less than the 10"),
    ],
    ids=["dimensions", "precision", "none", "rescored"],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        CurvesConfig(**settings)


def test_whole_vectors_are_measured_even_where_only_small_ones_are_asked_for(tiny, encoder):
    found = measure_curves(tiny, "test", encoder, CurvesConfig(dimensions=(32,), precisions=("binary",)))
    assert [(one.precision, one.dimensions) for one in found.points] == [
        ("float32", 64),
        ("binary", 64),
        ("binary", 32),
    ]


def test_the_stage_writes_a_page_a_table_and_json(tiny, encoder, tmp_path):
    write_beir(tmp_path / "tiny", tiny)
    config = CurvesConfig(dimensions=(32,))
    curves_files(one_set(tmp_path / "tiny", None, None, split="test"), tmp_path / "out", encoder, config)
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "nDCG@10 by bytes a vector" in page.text
    assert page.tags.count("polyline") == 4
    assert headline(measure_curves(tiny, "test", encoder, config)) in page.text
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert table.splitlines()[2].startswith("| float32 | 64 | 256 | ")
    assert len(table.splitlines()) == 2 + 8
    assert curves_files(one_set(tmp_path / "tiny", None, None, split="test"), tmp_path / "out", encoder, config).reused
