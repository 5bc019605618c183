"""Encoding and exact search for mining: actors that each hold one encoder and a share of the passages' vectors.

The search is exact and its ranks are those of one machine. Each actor returns the best of its share, their inner
products summed in float64 and rounded to float32, which is the order `zhihui.ranking.exact` defines; the shares are
merged by it, ties by the lower index. An actor's memory holds its share; the head holds all vectors, which it has from
the cache, and once more in Ray's object store, whose rest goes to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhihui import progress
from zhihui.distributed.answers import Answer, attempt, lost, value_of
from zhihui.distributed.cluster import REPLACED, Cluster
from zhihui.distributed.shards import open_quietly
from zhihui.encoder.cache import BLOCK
from zhihui.encoder.protocol import TextEncoder, encode_as
from zhihui.encoder.settings import Role
from zhihui.errors import RunFailure
from zhihui.ranking.topk import TopK

_AHEAD = 4
"""Chunks in a block for each worker: the last ones of a block leave some workers idle."""


class RayWorkers:
    """A `TextEncoder` and an exact search over the workers of a cluster; they are held until `close`.

    Args:
        cluster: whose workers encode and search.
        open_encoder: device -> encoder, called in each worker; picklable, such as a partial of `open_on`.
        chunk: texts encoded together: with that of the cache, a batch here is a batch on one machine.

    Raises:
        InputError: `open_encoder` raised it.
        RunFailure: a worker failed, or died each time it tried.
    """

    def __init__(self, cluster: Cluster, open_encoder: Callable[[str], TextEncoder], *, chunk: int = BLOCK) -> None:
        import ray

        self._ray: Any = ray
        self._chunk = chunk
        actor = ray.remote(_Worker).options(**cluster.takes, **REPLACED)
        self._actors = [actor.remote(open_encoder, cluster.device) for _ in range(cluster.workers)]
        self._placed: tuple[NDArray[np.float32], list[_Share]] | None = None
        self.name, self.fingerprint = self._get(self._actors[0].describe.remote())

    @property
    def block(self) -> int:
        """Texts of one call that keep all workers busy."""
        return _AHEAD * self._chunk * len(self._actors)

    def close(self) -> None:
        """End the workers."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors, self._placed = [], None

    # ----------------------------------------------------------------------- vectors

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return query vectors `[N, D]`, in the order given; `instruction` replaces the model's own.

        Raises:
            RunFailure: a worker failed, or died each time it tried.
        """
        return self._encode(texts, "query", instruction)

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return passage vectors `[N, D]`, in the order given.

        Raises:
            RunFailure: a worker failed, or died each time it tried.
        """
        return self._encode(texts, "document", None)

    def _encode(self, texts: Sequence[str], role: Role, instruction: str | None) -> NDArray[np.float32]:
        # Even no text at all is asked for: the answer has the vectors' length.
        starts = range(0, max(1, len(texts)), self._chunk)
        parts: dict[int, NDArray[np.float32]] = {}

        def hand_out(actor: Any, start: int) -> Any:
            return actor.encode.remote(start, list(texts[start : start + self._chunk]), role, instruction)

        with progress.bar(len(texts), f"Encoding on {len(self._actors)} workers") as bar:
            for start, part in self._spread(hand_out, starts):
                parts[start] = part
                bar.advance(len(part))
        return np.concatenate([parts[start] for start in starts])

    # ----------------------------------------------------------------------- search

    def search(self, queries: NDArray[np.float32], passages: NDArray[np.float32], k: int) -> TopK:
        """Return the exact ranking `[Q, K]`; the ranks are those of `zhihui.ranking.exact.search`.

        Passages stay with the workers as long as the next call is about the same array.

        Args:
            queries: `[Q, D]`.
            passages: `[N, D]`.
            k: passages of each query; places beyond N are filled with index -1.

        Raises:
            InputError: as `exact.search`.
            RunFailure: a worker failed, or died each time it tried.
        """
        shares = self._place(passages)
        asked = self._ray.put(np.ascontiguousarray(queries))
        tasks = [
            # A share goes to the same actor every time, so that it crosses the network once.
            self._actors[number % len(self._actors)].search.remote(asked, share.vectors, share.start, k)
            for number, share in enumerate(shares)
        ]
        return merge([self._get(task) for task in tasks], k)

    def _place(self, passages: NDArray[np.float32]) -> list[_Share]:
        if self._placed is None or self._placed[0] is not passages:
            self._placed = None  # lets the old ones go first
            size = max(1, -(-len(passages) // len(self._actors)))
            starts = range(0, max(1, len(passages)), size)
            self._placed = (
                passages,
                [
                    _Share(start, self._ray.put(np.ascontiguousarray(passages[start : start + size])))
                    for start in starts
                ],
            )
        return self._placed[1]

    # ----------------------------------------------------------------------- asking

    def _spread(self, hand_out: Callable[[Any, int], Any], starts: Sequence[int]) -> Iterator[Any]:
        """Yield what the actors answer, as it comes; each has one task at a time."""
        from ray.exceptions import RayError
        from ray.util import ActorPool

        if not self._actors:
            raise RunFailure("the workers have ended; open new ones")
        try:
            for answer in ActorPool(self._actors).map_unordered(hand_out, starts):
                yield value_of(answer)
        except RayError as error:
            raise lost(error) from None

    def _get(self, task: Any) -> Any:
        from ray.exceptions import RayError

        try:
            return value_of(self._ray.get(task))
        except RayError as error:
            raise lost(error) from None


class _Share(NamedTuple):
    """Passages of one actor."""

    start: int
    """Number of the first one."""
    vectors: Any
    """Ray's reference to them."""


def merge(parts: Sequence[TopK], k: int) -> TopK:
    """Return the best K `[Q, K]` of several rankings `[Q, K]` of different passages, ties by the lower index."""
    indices = np.concatenate([part.indices for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    return TopK(
        indices=np.take_along_axis(indices, order, axis=1),
        scores=np.take_along_axis(scores, order, axis=1),
    )


# --------------------------------------------------------------------------- in the workers


class _Worker:
    def __init__(self, open_encoder: Callable[[str], TextEncoder], device: str) -> None:
        self._open, self._device = open_encoder, device
        self._encoder: TextEncoder | None = None

    def _opened(self) -> TextEncoder:
        if self._encoder is None:
            self._encoder = open_quietly(self._open, self._device)
        return self._encoder

    def describe(self) -> Answer:
        return attempt(lambda: (self._opened().name, self._opened().fingerprint))

    def encode(self, start: int, texts: list[str], role: Role, instruction: str | None) -> Answer:
        return attempt(lambda: (start, encode_as(self._opened(), texts, role=role, instruction=instruction)))

    def search(self, queries: NDArray[np.float32], passages: NDArray[np.float32], start: int, k: int) -> Answer:
        return attempt(lambda: best_of(queries, passages, k, start=start, device=self._device))


def best_of(
    queries: NDArray[np.float32], passages: NDArray[np.float32], k: int, *, start: int = 0, device: str = "cpu"
) -> TopK:
    """Return the best of a share of the passages `[Q, K]`, with scores that can be compared across shares.

    Args:
        queries: `[Q, D]`.
        passages: `[n, D]`, of the share.
        k: passages of each query; places beyond n are filled with index -1.
        start: number of the share's first passage.
        device: that multiplies.

    Raises:
        InputError: as `exact.search`.
    """
    from zhihui.ranking import exact

    found = exact.search(queries, passages, k, device=device)
    there = min(k, len(passages))
    for row, query in enumerate(queries):
        # As `exact` sums what is close, since close ones may lie in different shares.
        products = query.astype(np.float64) * passages[found.indices[row, :there]]
        found.scores[row, :there] = products.sum(axis=1)
    found.indices[:, :there] += start
    return found
