"""Rankings made a shard of queries at a time, each kept as it is done: a killed run goes on from the last one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhihui.ranking import TopK
from zhihui.runs import atomic_open

QUERIES = 8192
"""Of a shard: enough for full tiles of the search, some minutes of work on a corpus of millions."""


class Shards(NamedTuple):
    """Where the shards of one ranking are kept."""

    folder: Path | None
    """None keeps nothing."""
    name: str

    def rank(self, queries: int, search: Callable[[slice], TopK], *, size: int | None = None) -> TopK:
        """Return the ranking `[Q, K]` of all queries.

        Args:
            queries: how many there are.
            search: ranks those of a slice.
            size: queries of a shard; None for `QUERIES`.
        """
        size = size or QUERIES
        parts = []
        for start in range(0, queries, size):
            part = slice(start, min(start + size, queries))
            found = self.keep(start, lambda part=part: _arrays(search(part)))  # type: ignore[misc]
            parts.append(TopK(indices=found["indices"], scores=found["scores"]))
        return TopK(
            indices=np.concatenate([part.indices for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
        )

    def keep(self, start: int, compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return the arrays of the shard that begins at a query: those kept, else computed and kept."""
        if self.folder is None:
            return compute()
        path = self.folder / f"{self.name}-{start:010d}.npz"
        if not path.is_file():
            with atomic_open(path, "wb") as stream:
                np.savez(stream, allow_pickle=False, **compute())
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def _arrays(found: TopK) -> dict[str, NDArray[Any]]:
    return {"indices": found.indices, "scores": found.scores}
