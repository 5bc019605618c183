"""The flat backend: a query's inner product with every vector, or with those a filter lets through."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zhihui.ranking import TopK, exact
from zhihui.search.embedding import VECTORS

_CHUNK = 2**22  # numbers that are multiplied at once


class FlatVectors:
    """The vectors of a generation, mapped; ranks are those of `zhihui.ranking.exact`."""

    def __init__(self, folder: Path) -> None:
        """Map the vectors."""
        self.stored: NDArray[np.floating] = np.load(folder / VECTORS, mmap_mode="r")
        """`[N, D]` in float32 or float16."""
        self._rows = max(1, _CHUNK // self.stored.shape[1])

    def rank(self, query: NDArray[np.float32], k: int, *, allowed: NDArray[np.bool_] | None = None) -> TopK:
        """Return the k best passages, `[1, k]`; equal ones by the lower number.

        Args:
            query: `[D]`.
            k: passages to return.
            allowed: `[N]`, which may be listed; None for all.
        """
        rows = None if allowed is None else np.flatnonzero(allowed)
        scores = self._scores(query, rows)
        if k < len(scores):
            # What is within rounding of the k-th may be before it.
            least = np.partition(scores, len(scores) - k)[len(scores) - k] - self._rounding(query)
            chosen = np.flatnonzero(scores >= least)
        else:
            chosen = np.arange(len(scores))
        return self.settle(query, chosen if rows is None else rows[chosen], k)

    def settle(self, query: NDArray[np.float32], candidates: NDArray[np.intp], k: int) -> TopK:
        """Return the k best of some passages, given by ascending number."""
        found = TopK.empty(1, k)
        vectors = np.asarray(self.stored[candidates], dtype=np.float32)
        best = exact.search(query[None], vectors, min(k, max(1, len(candidates))), scan="float32")
        filled = best.indices[0] >= 0
        count = int(filled.sum())
        found.indices[0, :count] = candidates[best.indices[0][filled]]
        found.scores[0, :count] = best.scores[0][filled]
        return found

    def _scores(self, query: NDArray[np.float32], rows: NDArray[np.intp] | None) -> NDArray[np.float32]:
        count = len(self.stored) if rows is None else len(rows)
        scores = np.empty(count, dtype=np.float32)
        for start in range(0, count, self._rows):
            part = slice(start, start + self._rows)
            vectors = self.stored[part if rows is None else rows[part]]
            scores[part] = _widened(vectors) @ query
        return scores

    def _rounding(self, query: NDArray[np.float32]) -> float:
        """Return by how much float32 scores may be out of order (as `zhihui.ranking.exact` bounds it)."""
        units = 2.0**-23 * (2 * self.stored.shape[1] ** 0.5 + 2)
        return float(units * np.linalg.norm(query) * self._longest)

    @cached_property
    def _longest(self) -> float:
        parts = range(0, len(self.stored), self._rows)
        return max(
            float(np.linalg.norm(_widened(self.stored[start : start + self._rows]), axis=1).max()) for start in parts
        )


def _widened(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return vectors in float32; torch converts float16 several times faster than numpy."""
    if vectors.dtype == np.float32:
        return vectors
    widened: NDArray[np.float32] = torch.from_numpy(np.array(vectors)).float().numpy()
    return widened
