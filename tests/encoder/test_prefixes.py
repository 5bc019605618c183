"""Vectors cut to their first numbers, and models that cannot be cut so."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from zhihui.encoder.prefixes import against_cutting, cut, trained_lengths, unit


def test_cutting_keeps_the_first_numbers_at_unit_length():
    vectors = np.array([[3, 4, 12], [0, 0, 1]], dtype=np.float32)
    assert cut(vectors, 2).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    assert cut(vectors, 3) is vectors
    assert cut(vectors, None) is vectors
    assert cut(vectors, 2).dtype == np.float32


def test_a_vector_of_zeros_stays_one():
    assert unit(np.zeros((1, 3), dtype=np.float32)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("length", "trained", "why"),
    [
        (8, None, ""),
        (32, (8,), ""),
        (8, (8, 16), ""),
        (0, None, "dimensions 0 is out of range; m gives 1 to 32"),
        (33, (8,), "dimensions 33 is out of range; m gives 1 to 32"),
        (12, (16, 8), "dimensions 12 was not trained; m can be cut to 8, 16, 32"),
    ],
)
def test_lengths_a_model_can_be_cut_to(length, trained, why):
    assert against_cutting(length, dimension=32, trained=trained, name="m") == why


def test_the_lengths_are_those_of_the_config():
    config = SimpleNamespace(matryoshka_dimensions=[8, 16])
    assert trained_lengths(SimpleNamespace(backbone=SimpleNamespace(config=config))) == (8, 16)
    assert trained_lengths(SimpleNamespace(backbone=SimpleNamespace(config=SimpleNamespace()))) is None
    assert trained_lengths(object()) is None
