"""Encodings: how vectors are rounded and written into an answer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

OutputType = Literal["float", "int8", "binary", "ubinary"]
Format = Literal["float", "base64"]


def _int8(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Spread each vector over -127 to 127 by its own largest number: cosines need no scale."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    steps = np.rint(vectors * (127 / np.maximum(largest, np.finfo(np.float32).tiny)))
    return steps.astype(np.int8)


def _ubinary(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Keep signs, eight to a byte, the first in the highest bit `[N, ceil(D / 8)]`."""
    return np.packbits(vectors > 0, axis=1)


_ROUNDED: dict[OutputType, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "float": lambda vectors: vectors.astype("<f4"),
    "int8": _int8,
    "ubinary": _ubinary,
    # As sentence-transformers: the same bytes, moved so that they fit a signed one.
    "binary": lambda vectors: (_ubinary(vectors).astype(np.int16) - 128).astype(np.int8),
}


def written(vectors: NDArray[np.float32], output_type: OutputType, form: Format) -> list[Any]:
    """Return what stands for each vector: an array to be listed, or base64 of its bytes (fp32 little-endian)."""
    rounded = _ROUNDED[output_type](vectors)
    if form == "base64":
        return [base64.b64encode(row.tobytes()).decode("ascii") for row in rounded]
    return list(np.ascontiguousarray(rounded))
