"""Search in an inverted file (IVF, Sivic & Zisserman 2003) by faiss: a part of the passages for each query.

For corpora of which an exact search would take days. What is found is scored exactly; what is missed is measured.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError, require
from zhihui.ranking import exact
from zhihui.ranking.topk import NONE, TopK

_PER_CELL = 39
"""Passages a cell needs at least, or faiss warns that its centre is badly learnt."""
_PROBED = 0.1
"""Share of the cells that is searched for a query."""
_TIED = 1e-6
"""Scores this close are equal; float32 products are summed in another order here and there."""
_SAMPLE = 256
"""Queries by which recall is measured."""


class InvertedFile:
    """Passages in cells around centres learnt from them; a query is compared with those of the nearest cells."""

    def __init__(self, passages: NDArray[np.float32], *, seed: int = 0) -> None:
        """Learn the centres and sort the passages into their cells.

        Args:
            passages: `[N, D]`.
            seed: of the centres; the same seed gives the same index.

        Raises:
            InputError: no passages.
            MissingExtra: faiss is not installed.
        """
        faiss: Any = require("faiss", extra="faiss", purpose="an approximate index")
        if not len(passages):
            raise InputError("no passages to index; give at least one")
        cells = max(1, min(round(4 * math.sqrt(len(passages))), len(passages) // _PER_CELL))
        dimensions = passages.shape[1]
        self._passages = passages
        self._seed = seed
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = seed
        self._index.train(passages)
        self._index.add(passages)
        self.cells = cells
        self.probed = max(1, min(cells, max(8, math.ceil(_PROBED * cells))))
        self._index.nprobe = self.probed

    def search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Return the k best passages found for each query, `[Q, k]`, equal scores by the lower index.

        Raises:
            InputError: k is less than 1.
        """
        if k < 1:
            raise InputError(f"k is {k}; ask for at least 1 passage")
        scores, indices = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        scores = np.where(indices == NONE, -np.inf, scores).astype(np.float32)
        order = np.lexsort((indices, -scores), axis=1)
        return TopK(
            indices=np.take_along_axis(indices, order, axis=1).astype(np.int64),
            scores=np.take_along_axis(scores, order, axis=1),
        )

    def report(self, queries: NDArray[np.float32], k: int) -> dict[str, Any]:
        """Return how the index was built, and what share of the best k it finds for a sample of queries."""
        count = min(_SAMPLE, len(queries))
        chosen = np.sort(np.random.default_rng(self._seed).choice(len(queries), count, replace=False))
        sample = queries[chosen]
        k = min(k, len(self._passages))
        # By score, so that one of several passages that tie for the last rank is as good as another.
        last = exact.search(sample, self._passages, k).scores[:, -1:]
        hits = self.search(sample, k).scores >= last - _TIED
        return {
            "cells": self.cells,
            "probed": self.probed,
            "sample": count,
            "recall": round(float(hits.mean()), 6),
        }
