"""Retrieval systems: what is measured is a ranking of a whole corpus, however it comes about."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zhihui.encoder.cache import BLOCK
from zhihui.encoder.protocol import TextEncoder
from zhihui.evaluation.encoding import MeteredEncoder
from zhihui.ranking import BM25, DENSE_SHARE, TopK, exact, reciprocal_rank_fusion, score_fusion
from zhihui.ranking.fusion import checked_weights
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


class RandomSystem:
    """Passages drawn at random, the same for the same query: what a system scores that knows nothing."""

    def __init__(self, *, name: str = "random", seed: int = 0) -> None:
        """Keep the seed."""
        self.name = name
        self.seed = seed

    @property
    def fingerprint(self) -> str:
        """The seed's."""
        return fingerprint(["random", self.seed])

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Draw k passages for each query, without looking at them."""
        found = TopK.empty(len(query_ids), k)
        size = min(k, len(data.corpus))
        for row, query_id in enumerate(query_ids):
            digest = hashlib.sha256(f"{self.seed}:{query_id}".encode()).digest()
            generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            found.indices[row, :size] = generator.choice(len(data.corpus), size, replace=False)
            found.scores[row, :size] = np.arange(size, 0, -1)
        return found


class DenseSystem:
    """An encoder and exact search by inner product."""

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        name: str | None = None,
        instruction: str | None = None,
        instructions: Mapping[str, str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Wrap an encoder.

        Args:
            encoder: gives the vectors.
            name: for tables; None takes the encoder's.
            instruction: the task in words for the queries; None takes the encoder's own.
            instructions: the task in words by the set's name, where `instruction` is None.
            about: what mteb's record of the model shall say besides, such as its license.
        """
        self.encoder = encoder
        self.name = encoder.name if name is None else name
        self.instruction = instruction
        self.instructions = dict(instructions or {})
        self.about = dict(about or {})
        self.cache: Path | None = None
        """Folder where vectors are kept while a set is encoded; None keeps them in memory alone."""
        self.block = BLOCK
        """Texts encoded and kept together."""

    @property
    def fingerprint(self) -> str:
        """The encoder's, and the instruction when one was given; those of the sets are part of the sets."""
        if self.instruction is None:
            return self.encoder.fingerprint
        return fingerprint([self.encoder.fingerprint, self.instruction])

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Encode queries and corpus and search."""
        queries, passages = _queries(data, query_ids), _passages(data)
        if self.cache is None:
            return self._rank(self.encoder, data.name, queries, passages, k)
        label = f"{data.name}, {self.name}"
        with MeteredEncoder(
            self.encoder, self.cache, label=label, texts=[*queries, *passages], block=self.block
        ) as encoder:
            return self._rank(encoder, data.name, queries, passages, k)

    def _rank(self, encoder: TextEncoder, name: str, queries: list[str], passages: list[str], k: int) -> TopK:
        instruction = self.instructions.get(name) if self.instruction is None else self.instruction
        found = encoder.encode_queries(queries, instruction=instruction)
        return exact.search(found, encoder.encode_documents(passages), k)


class FusedSystem(ABC):
    """A fusion of other systems' rankings; measured with them it fuses those they gave."""

    def __init__(self, parts: Sequence[RetrievalSystem], *, name: str) -> None:
        self.parts = tuple(parts)
        self.name = name

    @property
    def fingerprint(self) -> str:
        """That of the way of fusion and those of the parts."""
        return fingerprint([*self.way, [part.fingerprint for part in self.parts]])

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Rank with each part and fuse."""
        return self.fuse([part.rank(data, query_ids, k) for part in self.parts], k)

    @abstractmethod
    def fuse(self, rankings: Sequence[TopK], k: int) -> TopK:
        """Fuse the rankings the parts gave, in their order."""

    @property
    @abstractmethod
    def way(self) -> list[Any]:
        """What fusion depends on beside the rankings."""


class HybridSystem(FusedSystem):
    """The weighted sum of scores, `zhihui.ranking.score_fusion`."""

    def __init__(self, parts: Sequence[RetrievalSystem], *, weights: Sequence[float], name: str = "hybrid") -> None:
        """Keep the parts.

        Args:
            parts: the systems to fuse.
            weights: of their scores, in the order of the parts.
            name: for tables.

        Raises:
            InputError: a negative weight, none above zero, or not one for each part.
        """
        super().__init__(parts, name=name)
        self.weights = tuple(checked_weights(weights, len(self.parts)))

    @classmethod
    def with_bm25(
        cls, bm25: RetrievalSystem, dense: RetrievalSystem, *, dense_share: float = DENSE_SHARE, name: str = "hybrid"
    ) -> HybridSystem:
        """Return the fusion of BM25 with a model, whose share of the score is given, 0 to 1."""
        return cls([bm25, dense], weights=[1 - dense_share, dense_share], name=name)

    def fuse(self, rankings: Sequence[TopK], k: int) -> TopK:
        """Add the scores up; a passage that a part does not list gets nothing from it."""
        return score_fusion(rankings, k, weights=self.weights)

    @property
    def way(self) -> list[Any]:
        """The weights."""
        return ["weighted", list(self.weights)]


class RankFusionSystem(FusedSystem):
    """Reciprocal rank fusion."""

    def __init__(self, parts: Sequence[RetrievalSystem], *, name: str = "rrf", constant: float = 60) -> None:
        """Keep the parts; the constant is that of `zhihui.ranking.reciprocal_rank_fusion`."""
        super().__init__(parts, name=name)
        self.constant = constant

    def fuse(self, rankings: Sequence[TopK], k: int) -> TopK:
        """Add up what the ranks bring."""
        return reciprocal_rank_fusion(rankings, k, constant=self.constant)

    @property
    def way(self) -> list[Any]:
        """The constant."""
        return ["rrf", self.constant]


def _passages(data: RetrievalSet) -> list[str]:
    return [passage.full for passage in data.corpus.values()]


def _queries(data: RetrievalSet, query_ids: Sequence[str]) -> list[str]:
    return [data.queries[query_id] for query_id in query_ids]
