"""What every room above expects of a model: text in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.settings import Role


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


def encode_as(
    encoder: TextEncoder, texts: Sequence[str], *, role: Role, instruction: str | None = None
) -> NDArray[np.float32]:
    """Return the vectors `[N, D]` of texts in a role that is known only at run time.

    Raises:
        ValueError: an instruction was given for documents.
    """
    if role == "query":
        return encoder.encode_queries(texts, instruction=instruction)
    if instruction is not None:
        raise ValueError("an instruction belongs to queries; documents are encoded without one")
    return encoder.encode_documents(texts)
