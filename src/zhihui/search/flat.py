"""The flat backend: a query's inner product with every vector, or with those a filter lets through."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.ranking import TopK, products
from zhihui.search.embedding import VECTORS

_CHUNK = 2**22  # numbers that are multiplied at once


class FlatVectors:
    """The vectors of a generation, mapped; ranks are those of `zhihui.ranking.exact`.

    Scores in float32 order all but a few passages; those closer to a neighbour than rounding may move them are scored
    again in float64.
    """

    def __init__(self, folder: Path) -> None:
        """Map the vectors."""
        # As a plain array: each slice of a memmap costs microseconds.
        self.stored: NDArray[np.floating] = np.asarray(np.load(folder / VECTORS, mmap_mode="r"))
        """`[N, D]` in float32 or float16."""
        self._rows = max(1, _CHUNK // self.stored.shape[1])
        self._slices = products.slices(self.stored.shape[1])

    def rank(self, query: NDArray[np.float32], k: int, *, allowed: NDArray[np.bool_] | None = None) -> TopK:
        """Return the k best passages, `[1, k]`; equal ones by the lower number.

        Args:
            query: `[D]`.
            k: passages to return.
            allowed: `[N]`, which may be listed; None for all.

        Raises:
            InputError: the query holds NaN or infinity.
        """
        return self._best(query, None if allowed is None else np.flatnonzero(allowed), k)

    def settle(self, query: NDArray[np.float32], candidates: NDArray[np.intp], k: int) -> TopK:
        """Return the k best of some passages, given by ascending number.

        Raises:
            InputError: the query holds NaN or infinity.
        """
        return self._best(query, candidates, k)

    def _best(self, query: NDArray[np.float32], rows: NDArray[np.intp] | None, k: int) -> TopK:
        if not np.isfinite(query).all():
            raise InputError("the query's vector holds NaN or infinity; load the model in float32 or bfloat16")
        scores = self._scores(query, rows)
        apart = self._rounding(query)
        chosen = np.arange(len(scores))
        if k < len(scores):
            # What is within rounding of the k-th may be before it.
            chosen = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - apart)
        chosen = chosen[np.argsort(-scores[chosen])]
        numbers, scores = chosen if rows is None else rows[chosen], scores[chosen]
        close = scores[:-1] - scores[1:] <= apart
        doubtful = np.flatnonzero(np.append(close, False) | np.insert(close, 0, False))
        scores[doubtful] = products.of_pairs(query[None], self.stored, np.zeros_like(doubtful), numbers[doubtful])
        order = np.lexsort((numbers, -scores))[:k]
        found = TopK.empty(1, k)
        found.indices[0, : len(order)] = numbers[order]
        found.scores[0, : len(order)] = scores[order]
        return found

    def _scores(self, query: NDArray[np.float32], rows: NDArray[np.intp] | None) -> NDArray[np.float32]:
        """Return the inner products with the vectors of some rows, or of all."""
        scores = np.zeros(len(self.stored) if rows is None else len(rows), dtype=np.float32)
        for start in range(0, len(scores), self._rows):
            some = slice(start, start + self._rows)
            vectors = _widened(self.stored[some if rows is None else rows[some]])
            for part in self._slices:
                scores[some] += vectors[:, part] @ query[part]
        return scores

    def _rounding(self, query: NDArray[np.float32]) -> float:
        """Return by how much float32 scores may be out of order."""
        squares = products.squares(query[None])
        return float(products.rounding(squares, self._largest, self.stored.shape[1])[0])

    @cached_property
    def _largest(self) -> NDArray[np.float64]:
        """The largest squared norm of each slice of the vectors."""
        parts = range(0, len(self.stored), self._rows)
        each = (products.squares(_widened(self.stored[start : start + self._rows])).max(axis=0) for start in parts)
        return np.maximum.reduce(list(each))


def _widened(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return vectors in float32; torch converts float16 several times faster than numpy."""
    if vectors.dtype == np.float32:
        return vectors
    widened: NDArray[np.float32] = torch.from_numpy(np.array(vectors)).float().numpy()
    return widened
