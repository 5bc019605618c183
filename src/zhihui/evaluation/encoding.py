"""Encoding a set so that it can be killed: in blocks kept on disk, under a bar that counts tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.cache import BLOCK, CachedEncoder
from zhihui.encoder.protocol import TextEncoder, encode_as
from zhihui.encoder.settings import Role
from zhihui.progress import Bar

_SAMPLE = 256
"""Texts whose tokens are counted, to know those of the others by their length."""
_TOKENS_PER_CHARACTER = 0.7
"""Of Chinese text in the vocabularies of Qwen2 and BERT, where the model does not say."""


class MeteredEncoder(AbstractContextManager["MeteredEncoder"]):
    """A `TextEncoder` for one model on one set: what is encoded is kept on disk, and a bar shows the time left.

    The bar counts tokens, since a set's passages differ in length a hundredfold; what is on disk already goes by fast.
    """

    def __init__(
        self, encoder: TextEncoder, cache: Path, *, label: str, texts: Sequence[str], block: int = BLOCK
    ) -> None:
        """Start the bar.

        Args:
            encoder: computes what is not there.
            cache: folder of vectors; other models and sets may share it.
            label: of the bar.
            texts: all that will be encoded.
            block: texts encoded and written together: what a killed process loses at most.

        Raises:
            InputError: `cache` is a file, or `block` is not positive.
        """
        self._cached = CachedEncoder(encoder, cache, block=block)
        self._block = block
        self._tokens = TokenEstimate(encoder, texts)
        self._bar = Bar(sum(map(self._tokens, texts)), f"{label}, tokens")

    @property
    def name(self) -> str:
        """The encoder's."""
        return self._cached.name

    @property
    def fingerprint(self) -> str:
        """The encoder's: the same vectors."""
        return self._cached.fingerprint

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return query vectors `[N, D]`, in the order given."""
        return self._encode(texts, "query", instruction)

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return passage vectors `[N, D]`, in the order given."""
        return self._encode(texts, "document", None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def _encode(self, texts: Sequence[str], role: Role, instruction: str | None) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] | None = None
        for start in range(0, len(texts), self._block):
            part = texts[start : start + self._block]
            found = encode_as(self._cached, part, role=role, instruction=instruction)
            if vectors is None:
                vectors = np.empty((len(texts), found.shape[1]), dtype=np.float32)
            vectors[start : start + len(part)] = found
            self._bar.advance(sum(map(self._tokens, part)))
        return encode_as(self._cached, [], role=role) if vectors is None else vectors


class TokenEstimate:
    """Tells about how many tokens of a text the model computes, by its length and a sample's."""

    def __init__(self, encoder: Any, texts: Sequence[str]) -> None:
        """Count the tokens of every n-th text, where the encoder has a tokenizer."""
        inner = getattr(encoder, "unwrapped", encoder)
        self._most: int | None = getattr(getattr(inner, "settings", None), "max_length", None)
        self._rate = _TOKENS_PER_CHARACTER
        sample = texts[:: max(1, len(texts) // _SAMPLE)][:_SAMPLE]
        if hasattr(inner, "tokenize"):
            counted = zip(map(len, inner.tokenize(sample, role="document")), map(len, sample), strict=True)
            # Cut texts would make the rate of the others too low.
            whole = [(tokens, length) for tokens, length in counted if length and tokens < (self._most or tokens + 1)]
            if whole:
                self._rate = sum(tokens for tokens, _ in whole) / sum(length for _, length in whole)

    def __call__(self, text: str) -> int:
        """Return the estimate, at least 1."""
        tokens = max(1, round(len(text) * self._rate))
        return tokens if self._most is None else min(tokens, self._most)
