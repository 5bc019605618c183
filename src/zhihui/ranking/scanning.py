"""The best of many scores that come a tile at a time, in memory that does not grow with the passages."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from zhihui.ranking.products import Multiply

_SPARE = 2
"""How many times the candidates asked for are held beyond them before the worst are dropped."""
SAMPLE = 2048
"""Passages from which the lowest score that will be listed is guessed."""


class BestSoFar:
    """The highest scores of each query; of later tiles only the few above the lowest kept one are looked at."""

    def __init__(self, lowest: NDArray[np.float32], kept: int) -> None:
        """Begin with nothing.

        Args:
            lowest: `[Q]`, what a score must be above to be looked at; minus infinity for all.
            kept: scores wanted of each query.
        """
        self.lowest = lowest.copy()
        self._kept = kept
        self._scores = np.full((len(lowest), (1 + _SPARE) * kept + 64), -np.inf, dtype=np.float32)
        self._indices = np.zeros(self._scores.shape, dtype=np.int64)
        self.filled = np.zeros(len(lowest), dtype=np.int64)
        """`[Q]` scores held now; fewer than asked for where `lowest` was too high from the start."""
        self._above = np.empty(0, dtype=bool)

    def add(self, tile: NDArray[np.float32], start: int) -> None:
        """Look at a tile `[Q, n]` of scores, those of the passages from `start` on."""
        places = self._marked(tile)
        row, column = np.divmod(places, tile.shape[1])
        counts = np.bincount(row, minlength=len(tile))
        room = self._scores.shape[1]
        if (self.filled + counts).max() > room:
            self._drop_worst()
            half = tile.shape[1] // 2
            if tile.shape[1] <= room - self._kept:
                self.add(tile, start)
            else:
                self.add(tile[:, :half], start)
                self.add(tile[:, half:], start + half)
            return
        offset = self.filled - (np.cumsum(counts) - counts)
        place = np.arange(len(row)) + offset[row]
        self._scores[row, place] = tile[row, column]
        self._indices[row, place] = column + start
        self.filled += counts

    def best(self, kept: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores and indices `[Q, kept]`, best first; a row with fewer ends with minus infinity."""
        width = max(kept, int(self.filled.max()))
        scores, chosen = torch.from_numpy(self._scores[:, :width]).topk(kept, dim=1)
        indices = torch.from_numpy(self._indices[:, :width]).gather(1, chosen)
        return scores.numpy(), indices.numpy()

    def _marked(self, tile: NDArray[np.float32]) -> NDArray[np.intp]:
        if len(self._above) < tile.size:
            self._above = np.empty(tile.size, dtype=bool)
        above = self._above[: tile.size].reshape(tile.shape)
        np.greater(tile, self.lowest[:, None], out=above)
        return np.flatnonzero(above)

    def _drop_worst(self) -> None:
        scores, indices = self.best(self._kept)
        self._scores[:] = -np.inf
        self._scores[:, : self._kept] = scores
        self._indices[:, : self._kept] = indices
        full = self.filled >= self._kept
        self.filled = np.minimum(self.filled, self._kept)
        self.lowest[full] = scores[full, -1]


def likely_lowest(multiply: Multiply, queries: int, passages: NDArray[np.float32], kept: int) -> NDArray[np.float32]:
    """Return `[Q]` scores that more than `kept` passages most likely exceed, and not many more: a sample's.

    Of S passages drawn from N, S * kept / N are expected among the best `kept`, and five standard deviations more
    almost never. A guess costs no exactness: lists that it leaves short are made again.
    """
    if len(passages) < 8 * SAMPLE:
        return np.full(queries, -np.inf, dtype=np.float32)
    sample = np.ascontiguousarray(passages[:: len(passages) // SAMPLE], dtype=np.float32)
    expected = kept * len(sample) / len(passages)
    rank = int(np.ceil(expected + 5 * expected**0.5 + 2))
    if rank >= len(sample):
        return np.full(queries, -np.inf, dtype=np.float32)
    scores = np.empty((queries, len(sample)), dtype=np.float32)
    multiply(scores, sample)
    found: NDArray[np.float32] = torch.from_numpy(scores).topk(rank, dim=1)[0][:, -1].numpy()
    return found
