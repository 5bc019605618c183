"""Prefixes: vectors cut to their first numbers (Matryoshka representations, Kusupati et al. 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cut(vectors: NDArray[np.float32], length: int | None) -> NDArray[np.float32]:
    """Return the first `length` numbers of each vector `[N, length]`, of unit norm again; None leaves them whole."""
    if length is None or length == vectors.shape[1]:
        return vectors
    return unit(vectors[:, :length])


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors `[N, D]` of unit norm; one of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)


def trained_lengths(encoder: Any) -> tuple[int, ...] | None:
    """Return the lengths a model was trained to be cut to, as its config.json says; None where it says nothing."""
    config = getattr(getattr(encoder, "backbone", None), "config", None)
    found = getattr(config, "matryoshka_dimensions", None)
    return tuple(int(length) for length in found) if found else None


def against_cutting(length: int, *, dimension: int, trained: tuple[int, ...] | None, name: str) -> str:
    """Return in words why a model's vectors cannot be cut to a length, "" if they can.

    Args:
        length: numbers to be left.
        dimension: of the model's vectors.
        trained: see `trained_lengths`.
        name: what the model is called.
    """
    if length == dimension:
        return ""
    if not 1 <= length <= dimension:
        return f"dimensions {length} is out of range; {name} gives 1 to {dimension}"
    if trained is not None and length not in trained:
        known = ", ".join(map(str, sorted({*trained, dimension})))
        return f"dimensions {length} was not trained; {name} can be cut to {known}"
    return ""
