"""Exact search by inner product: every passage against every query, in memory that grows with neither.

Matrix products in float32 round differently with the shapes of their operands, so two runs with other chunk
sizes, or two equal passages in one run, may disagree in the last bit. Ranks must not depend on that: scores
closer than the rounding error are computed again in float64, always in the same order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.progress import bar
from zhihui.ranking.topk import TopK

_UNIT = 2.0**-24  # half the distance from 1 to the next float32
_RESCORED = 2**22  # numbers in a block of float64 products


def search(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    k: int,
    *,
    query_chunk: int = 1024,
    passage_chunk: int = 2048,
) -> TopK:
    """Return the k passages with the highest inner product for each query.

    The order is that of the float64 inner products rounded to float32, ties by the lower index, whatever the
    chunks; the scores are right to within the rounding error of float32 products.

    Args:
        queries: `[Q, D]`.
        passages: `[N, D]`; may be a memory map, of which a chunk at a time is read.
        k: passages of each query; places beyond N are filled with index -1.
        query_chunk: queries scored at once.
        passage_chunk: passages scored at once; a tile of scores takes 4 * query_chunk * passage_chunk bytes.

    Returns:
        `[Q, k]`.

    Raises:
        InputError: shapes that do not fit, k or a chunk less than 1, a vector that is not finite.
    """
    for name, value in (("k", k), ("query_chunk", query_chunk), ("passage_chunk", passage_chunk)):
        if value < 1:
            raise InputError(f"{name} is {value}; give at least 1")
    if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1]:
        shapes = f"queries {list(queries.shape)}, passages {list(passages.shape)}"
        raise InputError(f"{shapes}: both must be [number, D] with one D; encode both with one model")
    found = TopK.empty(len(queries), k)
    if not len(queries) or not len(passages):
        return found
    longest = max(float(_norms(chunk, "passage").max()) for _, chunk in _chunks(passages, passage_chunk))
    # A few more than asked for, so that the k-th is seldom within rounding of one that was dropped.
    width = k + max(8, k // 16)
    with bar(len(queries), "search") as progress:
        for start, chunk in _chunks(queries, query_chunk):
            tolerance = _rounding(queries.shape[1]) * longest * _norms(chunk, "query")
            pending = [(np.arange(len(chunk)), min(width, len(passages)))]
            while pending:
                rows, kept = pending.pop()
                scores, indices = _candidates(chunk[rows], passages, kept, passage_chunk)
                undecided = np.zeros(len(rows), dtype=bool)
                if kept < len(passages):
                    undecided = scores[:, k - 1] - scores[:, -1] <= tolerance[rows]
                decided = ~undecided
                done = rows[decided]
                _settle(
                    chunk[done],
                    passages,
                    scores[decided],
                    indices[decided],
                    tolerance[done],
                    found,
                    start + done,
                )
                progress.advance(len(done))
                # Many passages tie where the list ends: these queries again, fewer at once, longer lists.
                longer = min(4 * kept, len(passages))
                at_once = max(1, query_chunk * width // longer)
                again = rows[undecided]
                pending += [(again[i : i + at_once], longer) for i in range(0, len(again), at_once)]
    return found


def _chunks(vectors: NDArray[np.float32], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(vectors), size):
        yield start, np.ascontiguousarray(vectors[start : start + size], dtype=np.float32)


def _norms(chunk: NDArray[np.float32], what: str) -> NDArray[np.float64]:
    norms = np.sqrt(np.einsum("nd,nd->n", chunk, chunk, dtype=np.float64))
    if not np.isfinite(norms).all():
        raise InputError(f"a {what} vector holds NaN or infinity; encode it again in float32 or bfloat16")
    return norms


def _rounding(dimensions: int) -> float:
    """Return by how much two float32 inner products of unit vectors may be out of order.

    Rounding errors add up like a random walk (Higham & Mary 2019), so they grow with the square root of D;
    measured at D from 64 to 3584 they stay below half of this.
    """
    return 2 * _UNIT * (2 * dimensions**0.5 + 2)


def _candidates(
    queries: NDArray[np.float32], passages: NDArray[np.float32], kept: int, passage_chunk: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return scores and indices `[Q, kept]` of the passages with the highest float32 scores, best first."""
    left = torch.from_numpy(queries)
    scores = torch.empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.int64)
    tile = torch.empty(len(queries) * min(passage_chunk, len(passages)))
    higher = np.empty(len(tile), dtype=bool)
    for start, chunk in _chunks(passages, passage_chunk):
        right = torch.from_numpy(chunk if chunk.flags.writeable else chunk.copy())
        product = torch.mm(left, right.T, out=tile[: len(queries) * len(chunk)].view(len(queries), len(chunk)))
        if scores.shape[1] < kept:
            fresh, places = product.topk(min(kept, len(chunk)), dim=1, sorted=False)
        else:
            # Of a later chunk only the few scores above the lowest kept one can enter.
            above = higher[: product.numel()].reshape(product.shape)
            np.greater(product.numpy(), scores.amin(dim=1, keepdim=True).numpy(), out=above)
            fresh, places = _gather(product, above)
        scores = torch.cat([scores, fresh], dim=1)
        indices = torch.cat([indices, places + start], dim=1)
        if scores.shape[1] > kept:
            scores, chosen = scores.topk(kept, dim=1, sorted=False)
            indices = indices.gather(1, chosen)
    scores, order = scores.sort(dim=1, descending=True)
    return scores.numpy(), indices.gather(1, order).numpy()


def _gather(product: torch.Tensor, above: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack the marked scores of each row to the left: scores and columns `[Q, most marked in a row]`."""
    rows, columns = np.divmod(np.flatnonzero(above), above.shape[1])
    counts = np.bincount(rows, minlength=len(above))
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    scores = torch.full((len(above), int(counts.max())), -torch.inf)
    indices = torch.zeros(scores.shape, dtype=torch.int64)
    scores[rows, places] = product[rows, columns]
    indices[rows, places] = torch.from_numpy(columns)
    return scores, indices


def _settle(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    scores: NDArray[np.float32],
    indices: NDArray[np.int64],
    tolerance: NDArray[np.float64],
    found: TopK,
    rows: NDArray[np.intp],
) -> None:
    """Write the best K of the candidates `[Q, kept]`, sorted by float32 score, into some rows of `found`."""
    k = min(found.indices.shape[1], scores.shape[1])
    close = scores[:, :-1] - scores[:, 1:] <= tolerance[:, None]
    doubtful = np.zeros(scores.shape, dtype=bool)
    doubtful[:, 1:] |= close
    doubtful[:, :-1] |= close
    doubtful &= scores >= scores[:, k - 1 : k] - tolerance[:, None]
    query, place = np.nonzero(doubtful)
    passage = indices[query, place]
    block = max(1, _RESCORED // queries.shape[1])
    for start in range(0, len(query), block):
        part = slice(start, start + block)
        products = queries[query[part]].astype(np.float64) * passages[passage[part]]
        scores[query[part], place[part]] = products.sum(axis=1)
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    found.indices[rows, :k] = np.take_along_axis(indices, order, axis=1)
    found.scores[rows, :k] = np.take_along_axis(scores, order, axis=1)
