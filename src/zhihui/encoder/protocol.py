"""What every room above expects of a model: text in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TextEncoder(Protocol):
    """A retriever's encoder, as mining, evaluation and search use it."""

    @property
    def name(self) -> str:
        """Short name for tables."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the vectors may: weights, prompts, pooling, dtype, length."""

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return L2-normalised query vectors `[N, D]`; `instruction` replaces the model's own."""

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return L2-normalised passage vectors `[N, D]`."""
