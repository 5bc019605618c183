"""TopK: the best passages of each query, the answer of every retriever."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NONE = -1
"""The index in a place that no passage fills; its score is minus infinity."""


@dataclass(frozen=True)
class TopK:
    """The K best passages of Q queries: scores descending, equal scores by the lower index first."""

    indices: NDArray[np.int64]
    """`[Q, K]` numbers of passages, -1 where there is none."""
    scores: NDArray[np.float32]
    """`[Q, K]`, minus infinity where there is none."""

    def __post_init__(self) -> None:
        assert self.indices.ndim == 2, self.indices.shape
        assert self.indices.shape == self.scores.shape, (self.indices.shape, self.scores.shape)

    @classmethod
    def empty(cls, queries: int, k: int) -> TopK:
        """Return the rankings `[Q, K]` of retrievers that found nothing, to be filled in place."""
        return cls(
            indices=np.full((queries, k), NONE, dtype=np.int64),
            scores=np.full((queries, k), -np.inf, dtype=np.float32),
        )


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return the positions of the k highest of `scores` `[N]`, best first, equal ones by the lower position.

    Fewer are returned when there are fewer. Linear in N but for the sorting of the k.
    """
    positions = np.arange(len(scores))
    if len(scores) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        above = np.flatnonzero(scores > threshold)
        level = np.flatnonzero(scores == threshold)[: k - len(above)]
        positions = np.concatenate([above, level])
    return positions[np.lexsort((positions, -scores[positions]))]
