"""Smaller vectors: what cutting dimensions and storing fewer bits costs, with every text encoded once.

Passages are stored small; queries stay in float32, but for the Hamming distance. Cutting is that of Matryoshka
representations (Kusupati et al. 2022): the first numbers of a vector, made unit length again. int8 gives each dimension
256 steps between its lowest and its highest value over the passages. Binary keeps signs; rescored, the nearest by
Hamming distance are ordered anew by the inner product of the query itself with the signs (Yamada, Asai and
Hajishirzi 2021), which needs no further bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.prefixes import cut
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.evaluation.bootstrap import Interval, paired_difference
from zhihui.evaluation.run import Evaluation, evaluate
from zhihui.progress import track
from zhihui.ranking import TopK, exact
from zhihui.ranking.topk import best
from zhihui.records import RetrievalSet
from zhihui.runs import fingerprint

Precision = Literal["float32", "int8", "binary", "binary, rescored"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_BITS: dict[Precision, int] = {"float32": 32, "int8": 8, "binary": 1, "binary, rescored": 1}
DEPTH = 100
"""Passages ranked for each query."""
MAIN = "ndcg_at_10"
_SHORTEST = 32  # numbers of the shortest vector tried by default
_LEVELS = 255  # steps between the lowest and the highest value of a dimension


@dataclass(frozen=True, kw_only=True)
class CurvesConfig:
    """What is tried."""

    dimensions: tuple[int, ...] = ()
    """Numbers a vector is cut to; empty for all of them, half, a quarter, ... down to 32."""
    precisions: tuple[Precision, ...] = PRECISIONS
    """How passages are stored."""
    rescored: int = 100
    """Nearest passages by Hamming distance whose order is found anew; at least the 10 that nDCG@10 sees."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        if any(one < 8 for one in self.dimensions):
            raise InputError(f"dimensions {min(self.dimensions)} is too short; cut to at least 8 numbers")
        for one in self.precisions:
            if one not in PRECISIONS:
                raise InputError(f"precision {one!r} is unknown; choose {', '.join(PRECISIONS)}")
        if not self.precisions:
            raise InputError("no precision to try; name one, such as int8")
        if self.rescored < 10:
            raise InputError(f"rescored {self.rescored} is less than the 10 that nDCG@10 sees; use 100 or more")

    def lengths(self, dimension: int) -> list[int]:
        """Return the lengths to try of vectors of `dimension` numbers, longest first.

        Raises:
            InputError: a length beyond that of the model's vectors.
        """
        if not self.dimensions:
            halves = [dimension]
            while halves[-1] % 2 == 0 and halves[-1] // 2 >= _SHORTEST:
                halves.append(halves[-1] // 2)
            return halves
        longest = max(self.dimensions)
        if longest > dimension:
            raise InputError(f"dimensions {longest} is more than the model's {dimension}; cut to fewer")
        return sorted({dimension, *self.dimensions}, reverse=True)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One way of storing passages."""

    dimensions: int
    precision: Precision
    bytes: float
    """Of one passage's vector."""
    value: Interval
    """Mean nDCG@10."""
    change: Interval | None
    """Against the whole vectors in float32, query by query; None for those themselves."""


@dataclass(frozen=True, kw_only=True)
class SizeCurves:
    """What was found."""

    set_name: str
    split: str
    model: str
    points: list[Point]
    """The whole vectors in float32 first."""

    def of(self, precision: Precision) -> list[Point]:
        """Return the points of one precision, shortest vectors first."""
        return sorted((one for one in self.points if one.precision == precision), key=lambda one: one.bytes)


class StoredVectors:
    """A retrieval system whose passages are stored in one way; the vectors are given, cut already."""

    def __init__(
        self,
        queries: NDArray[np.float32],
        passages: NDArray[np.float32],
        *,
        precision: Precision,
        rescored: int = 100,
    ) -> None:
        """Keep the vectors of the judged queries `[Q, D]` and of the corpus `[N, D]`, of unit norm.

        Args:
            queries: in the order of the judgements.
            passages: in the order of the corpus.
            precision: how passages are stored.
            rescored: see `CurvesConfig`.

        """
        self.precision = precision
        self.name = f"{precision}, {passages.shape[1]}"
        self.rescored = rescored
        self._queries, self._passages = queries, passages

    @property
    def fingerprint(self) -> str:
        """The way of storing."""
        return fingerprint([self.name, self.rescored])

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Store the passages and search them."""
        k = min(k, len(self._passages))
        if self.precision == "float32":
            return exact.search(self._queries, self._passages, k)
        if self.precision == "int8":
            return exact.search(self._queries, restored(*quantised(self._passages)), k)
        signs = signs_of(self._passages)
        found = TopK.empty(len(self._queries), k)
        rescored = self.precision == "binary, rescored"
        for row, query in enumerate(track(self._queries, total=len(self._queries), label=self.name)):
            # Of vectors of signs the inner product is D less twice the Hamming distance.
            near = signs @ signs_of(query)
            chosen = best(near, max(k, self.rescored) if rescored else k)
            scores = near[chosen]
            if rescored:
                again = signs[chosen] @ query
                order = np.argsort(-again, kind="stable")[:k]
                chosen, scores = chosen[order], again[order]
            found.indices[row, : len(chosen)] = chosen
            found.scores[row, : len(chosen)] = scores
        return found


def measure_curves(
    data: RetrievalSet,
    split: str,
    encoder: TextEncoder,
    config: CurvesConfig,
    *,
    instruction: str | None = None,
    ignore_identical_ids: bool = False,
) -> SizeCurves:
    """Measure one model's vectors on a split, cut and stored in every way of the config.

    Args:
        data: the set.
        split: which judgements count.
        encoder: gives the vectors, once.
        config: what is tried.
        instruction: the task in words for the queries; None takes the encoder's own.
        ignore_identical_ids: drop a passage that has the query's id from what is found.

    Raises:
        InputError: no such split, or a length beyond that of the model's vectors.
    """
    judged = data.judged(split)
    queries = encoder.encode_queries([data.queries[query_id] for query_id in judged], instruction=instruction)
    lengths = config.lengths(queries.shape[1])
    passages = encoder.encode_documents([passage.full for passage in data.corpus.values()])
    ways: list[tuple[int, Precision]] = [(lengths[0], "float32")]
    ways += [(length, one) for one in PRECISIONS if one in config.precisions for length in lengths]
    ways = list(dict.fromkeys(ways))
    points: list[Point] = []
    whole: Evaluation | None = None
    for length, precision in ways:
        system = StoredVectors(
            cut(queries, length), cut(passages, length), precision=precision, rescored=config.rescored
        )
        found = evaluate(data, split, [system], k=DEPTH, seed=config.seed, ignore_identical_ids=ignore_identical_ids)
        (result,) = found.systems
        change = None
        if whole is not None:
            change = paired_difference(result.scores[MAIN], whole.systems[0].scores[MAIN], seed=config.seed)
        else:
            whole = found
        points.append(
            Point(
                dimensions=length,
                precision=precision,
                bytes=length * _BITS[precision] / 8,
                value=result.intervals[MAIN],
                change=change,
            )
        )
    return SizeCurves(set_name=data.name, split=split, model=encoder.name, points=points)


def quantised(
    vectors: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors `[N, D]` in steps of each dimension, with the lowest value and the step `[D]`."""
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    step = np.where(high > low, (high - low) / _LEVELS, 1).astype(np.float32)
    return np.rint((vectors - low) / step).astype(np.uint8), low, step


def restored(steps: NDArray[np.uint8], low: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors `[N, D]` that `quantised` stands for."""
    return (steps.astype(np.float32) * step + low).astype(np.float32)


def signs_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 for each number above 0 and -1 for the others."""
    return np.where(vectors > 0, np.float32(1), np.float32(-1))
