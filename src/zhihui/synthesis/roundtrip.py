"""The round trip: whether a query finds the passage it was written for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError

Retriever = Literal["bm25", "dense", "none"]


def check_encoder(retriever: Retriever, *, given: bool) -> None:
    """Check before a model is loaded that one is given exactly when the round trip uses it.

    Raises:
        InputError: a dense round trip without a model, or a model without a dense round trip.
    """
    if retriever == "dense" and not given:
        raise InputError("a dense round trip needs a model; give one (--model), or set retriever to bm25")
    if given and retriever != "dense":
        raise InputError("only a dense round trip uses a model; set retriever to dense, or leave the model out")


class RoundTrip:
    """Finds the rank of a passage for a query, over all passages."""

    def __init__(self, retriever: Literal["bm25", "dense"], top_k: int, encoder: TextEncoder | None) -> None:
        """Look no further than rank `top_k`.

        Raises:
            InputError: a dense one without an encoder.
        """
        check_encoder(retriever, given=encoder is not None)
        self._retriever, self._top_k, self._encoder = retriever, top_k, encoder

    def ranks(self, passages: Sequence[str], queries: Sequence[str], own: Sequence[int]) -> list[int | None]:
        """Return for each query the rank of its own passage from 1, or None beyond the bound.

        A passage with the same text as the own one counts as the own one.

        Args:
            passages: the corpus.
            queries: the texts.
            own: number of each query's passage.
        """
        if not queries:
            return []
        if self._encoder is None:
            from zhihui.ranking import BM25

            found = BM25(passages).search(queries, self._top_k)
        else:
            from zhihui.ranking import exact

            vectors = self._encoder.encode_queries(queries)
            found = exact.search(vectors, self._encoder.encode_documents(passages), self._top_k)
        ranks: list[int | None] = []
        for row, passage in zip(found.indices.tolist(), own, strict=True):
            places = (place for place, each in enumerate(row, 1) if each >= 0 and passages[each] == passages[passage])
            ranks.append(next(places, None))
        return ranks
