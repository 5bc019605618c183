"""Retrieval systems: what is measured is a ranking of a whole corpus, however it comes about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zhihui.encoder.protocol import TextEncoder
from zhihui.ranking import BM25, TopK, exact, reciprocal_rank_fusion
from zhihui.records import RetrievalSet
from zhihui.runs import fingerprint


class RetrievalSystem(Protocol):
    """Anything that ranks passages for queries."""

    @property
    def name(self) -> str:
        """Short name for tables, unique among the systems measured together."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the rankings may."""

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Return the k best passages `[Q, k]` of each query; indices count the corpus in its order."""


class Bm25System:
    """BM25 over Chinese words, titles included."""

    def __init__(self, *, name: str = "bm25", k1: float = 1.5, b: float = 0.75) -> None:
        """Keep the settings of `zhihui.ranking.BM25`."""
        self.name = name
        self.k1 = k1
        self.b = b

    @property
    def fingerprint(self) -> str:
        """The settings; segmentation is part of the code."""
        return fingerprint(["bm25", self.k1, self.b])

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Index the corpus and search it."""
        index = BM25(_passages(data), k1=self.k1, b=self.b)
        return index.search(_queries(data, query_ids), k)


class DenseSystem:
    """An encoder and exact search by inner product."""

    def __init__(self, encoder: TextEncoder, *, name: str | None = None, instruction: str | None = None) -> None:
        """Wrap an encoder.

        Args:
            encoder: gives the vectors.
            name: for tables; None takes the encoder's.
            instruction: the task in words for the queries; None takes the encoder's own.

        """
        self.encoder = encoder
        self.name = encoder.name if name is None else name
        self.instruction = instruction

    @property
    def fingerprint(self) -> str:
        """The encoder's, and the instruction when one was given."""
        if self.instruction is None:
            return self.encoder.fingerprint
        return fingerprint([self.encoder.fingerprint, self.instruction])

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Encode queries and corpus and search."""
        queries = self.encoder.encode_queries(_queries(data, query_ids), instruction=self.instruction)
        return exact.search(queries, self.encoder.encode_documents(_passages(data)), k)


class HybridSystem:
    """Reciprocal rank fusion of other systems; measured with them it fuses the rankings they gave."""

    def __init__(self, parts: Sequence[RetrievalSystem], *, name: str = "hybrid", constant: float = 60) -> None:
        """Keep the parts.

        Args:
            parts: the systems to fuse.
            name: for tables.
            constant: of `zhihui.ranking.reciprocal_rank_fusion`.

        """
        self.parts = tuple(parts)
        self.name = name
        self.constant = constant

    @property
    def fingerprint(self) -> str:
        """Those of the parts and the constant."""
        return fingerprint(["rrf", self.constant, [part.fingerprint for part in self.parts]])

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Rank with each part and fuse."""
        return self.fuse([part.rank(data, query_ids, k) for part in self.parts], k)

    def fuse(self, rankings: Sequence[TopK], k: int) -> TopK:
        """Fuse the rankings the parts gave, in their order."""
        return reciprocal_rank_fusion(rankings, k, constant=self.constant)


def _passages(data: RetrievalSet) -> list[str]:
    return [passage.full for passage in data.corpus.values()]


def _queries(data: RetrievalSet, query_ids: Sequence[str]) -> list[str]:
    return [data.queries[query_id] for query_id in query_ids]
