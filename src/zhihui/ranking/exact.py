"""Exact search by inner product: every passage against every query, in memory that grows with neither.

Matrix products in float32 round differently with the shapes of their operands, so two runs with other chunk
sizes, or two equal passages in one run, may disagree in the last bit. Ranks must not depend on that: scores
closer than the rounding error are computed again in float64, always in the same order of summation.

Where the device multiplies bfloat16 faster, all passages are scanned in it and the best are scored again in float32;
a query of which a passage that was left out might belong to them after all is scanned again in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.progress import bar
from zhihui.ranking import bf16, products
from zhihui.ranking.scanning import BestSoFar, likely_lowest
from zhihui.ranking.topk import TopK

Scan = Literal["float32", "bfloat16"]
_COARSE_UNIT = 2.0**-8  # half the distance from 1 to the next bfloat16


def search(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    k: int,
    *,
    query_chunk: int | None = None,
    passage_chunk: int = 2048,
    device: str = "cpu",
    scan: Scan | None = None,
) -> TopK:
    """Return the k passages with the highest inner product for each query.

    The order is that of the float64 inner products rounded to float32, ties by the lower index, whatever the
    chunks, the device and the scan; the scores are right to within the rounding error of float32 products.

    Args:
        queries: `[Q, D]`.
        passages: `[N, D]`; may be a memory map, of which a chunk at a time is read.
        k: passages of each query; places beyond N are filled with index -1.
        query_chunk: queries scored at once; None for 2048, on a GPU 8192.
        passage_chunk: passages scored at once; a tile of scores takes 4 * query_chunk * passage_chunk bytes.
        device: that multiplies; the vectors stay where they are and go there by chunks.
        scan: in what all passages are scored; None for bfloat16 where the device has instructions for it.

    Returns:
        `[Q, k]`.

    Raises:
        InputError: shapes that do not fit, k or a chunk less than 1, a vector that is not finite.
    """
    if query_chunk is None:
        query_chunk = 2048 if device == "cpu" else 8192
    for name, value in (("k", k), ("query_chunk", query_chunk), ("passage_chunk", passage_chunk)):
        if value < 1:
            raise InputError(f"{name} is {value}; give at least 1")
    if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1]:
        shapes = f"queries {list(queries.shape)}, passages {list(passages.shape)}"
        raise InputError(f"{shapes}: both must be [number, D] with one D; encode both with one model")
    found = TopK.empty(len(queries), k)
    if not len(queries) or not len(passages):
        return found
    first: Scan = scan or ("bfloat16" if bf16.is_native(device) else "float32")
    corpus = _measure(passages, passage_chunk, coarse=first == "bfloat16")
    # A few more than asked for, so that the k-th is seldom within rounding of one that was dropped.
    width = {"float32": k + max(8, k // 16), "bfloat16": 2 * k + 32}
    with bar(len(queries), "search") as progress:
        for start, chunk in _chunks(queries, query_chunk):
            norms = _norms(chunk, "query")
            if first == "float32" and _on_cpu(device):
                tolerance = products.rounding(products.squares(chunk), corpus.slices, queries.shape[1])
            else:
                tolerance = _rounding(queries.shape[1]) * corpus.longest * norms
            pending = [(np.arange(len(chunk)), min(width[first], len(passages)), first)]
            while pending:
                rows, kept, scanned = pending.pop()
                part = chunk[rows]
                scores, indices = _candidates(part, passages, kept, passage_chunk, device, scanned)
                dropped = scores[:, -1].astype(np.float64)  # nothing that was left out scores more
                if scanned == "bfloat16":
                    dropped += _coarse_error(part, norms[rows], corpus, device)
                    scores, indices = _scored_again(part, passages, indices)
                undecided = np.zeros(len(rows), dtype=bool)
                if kept < len(passages):
                    undecided = scores[:, k - 1] - dropped <= tolerance[rows]
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
                again = rows[undecided]
                if scanned == "bfloat16":
                    pending += [(again, min(width["float32"], len(passages)), "float32")] if len(again) else []
                    continue
                # Many passages tie where the list ends: these queries again, fewer at once, longer lists.
                longer = min(4 * kept, len(passages))
                at_once = max(1, query_chunk * width["float32"] // longer)
                pending += [(again[i : i + at_once], longer, "float32") for i in range(0, len(again), at_once)]
    return found


class _Corpus(NamedTuple):
    """What bounds the error of any passage's score."""

    longest: float
    """Largest norm."""
    slices: NDArray[np.float64]
    """Largest squared norm of each slice of the dimensions."""
    lost: float
    """Largest norm of what rounding to bfloat16 takes away; 0 if nothing is rounded."""


def _measure(passages: NDArray[np.float32], size: int, *, coarse: bool) -> _Corpus:
    longest = lost = 0.0
    slices = np.zeros(len(products.slices(passages.shape[1])))
    for _, chunk in _chunks(passages, size):
        squares = products.squares(chunk)
        longest = max(longest, float(_finite(np.sqrt(squares.sum(axis=1)), "passage").max()))
        slices = np.maximum(slices, squares.max(axis=0))
        if coarse:
            lost = max(lost, float(_lost(chunk).max()))
    return _Corpus(longest, slices, lost)


def _lost(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the norms `[N]` of what rounding to bfloat16 takes away."""
    exact = products.readable(vectors)
    return _norms((exact - exact.bfloat16().float()).numpy(), "rounded")


def _coarse_error(
    queries: NDArray[np.float32], norms: NDArray[np.float64], corpus: _Corpus, device: str
) -> NDArray[np.float64]:
    """Return by how much a bfloat16 score of each query may differ from the true one, for any passage.

    q·p - q'·p' = (q - q')·p + q'·(p - p'), each part at most the product of the norms; on a CPU the sum itself is
    rounded to bfloat16 as well.
    """
    lost = _lost(queries)
    rounded = 0.0 if torch.device(device).type == "cuda" else _COARSE_UNIT * (1 + 2 * _COARSE_UNIT)
    return lost * corpus.longest + (norms + lost) * (corpus.lost + rounded * (corpus.longest + corpus.lost))


def _scored_again(
    queries: NDArray[np.float32], passages: NDArray[np.float32], indices: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the candidates `[Q, kept]` with their float32 scores, best first."""
    scores = np.empty(indices.shape, dtype=np.float32)
    for row, listed in enumerate(indices):
        scores[row] = np.asarray(passages[listed], dtype=np.float32) @ queries[row]
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)


def _chunks(vectors: NDArray[np.float32], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(vectors), size):
        yield start, np.ascontiguousarray(vectors[start : start + size], dtype=np.float32)


def _norms(chunk: NDArray[np.float32], what: str) -> NDArray[np.float64]:
    return _finite(np.sqrt(np.einsum("nd,nd->n", chunk, chunk, dtype=np.float64)), what)


def _finite(norms: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    if not np.isfinite(norms).all():
        raise InputError(f"a {what} vector holds NaN or infinity; encode it again in float32 or bfloat16")
    return norms


def _rounding(dimensions: int) -> float:
    """Return by how much two float32 inner products of unit vectors may be out of order.

    Rounding errors add up like a random walk (Higham & Mary 2019), so they grow with the square root of D;
    measured at D from 64 to 3584 they stay below half of this.
    """
    return 2 * products.UNIT * (2 * dimensions**0.5 + 2)


def _on_cpu(device: str) -> bool:
    return torch.device(device).type == "cpu"


def _candidates(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    kept: int,
    passage_chunk: int,
    device: str,
    scan: Scan,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return scores and indices `[Q, kept]` of the passages with the highest scores of the scan, best first."""
    if not _on_cpu(device):
        return _scan_on(device, queries, passages, kept, passage_chunk, scan)
    multiply = _multiplier(queries, scan)
    lowest = likely_lowest(multiply, len(queries), passages, kept)
    best = _scan(multiply, passages, passage_chunk, BestSoFar(lowest, kept))
    scores, indices = best.best(kept)
    short = np.flatnonzero(best.filled < kept)
    if len(short):  # the sample was not like the other passages: these queries again, without a guess
        best = BestSoFar(np.full(len(short), -np.inf, dtype=np.float32), kept)
        best = _scan(_multiplier(queries[short], scan), passages, passage_chunk, best)
        scores[short], indices[short] = best.best(kept)
    return scores, indices


def _multiplier(queries: NDArray[np.float32], scan: Scan) -> products.Multiply:
    """Return what multiplies the queries on a CPU."""
    if scan == "float32":
        return products.Multiplier(queries).into
    left = torch.from_numpy(queries).bfloat16()

    def multiply(out: NDArray[np.float32], passages: NDArray[np.float32]) -> None:
        torch.from_numpy(out).copy_(torch.mm(left, products.readable(passages).bfloat16().T))

    return multiply


def _scan(multiply: products.Multiply, passages: NDArray[np.float32], size: int, best: BestSoFar) -> BestSoFar:
    """Score all passages, a chunk at a time."""
    queries = len(best.lowest)
    tile = np.empty(queries * min(size, len(passages)), dtype=np.float32)
    for start, chunk in _chunks(passages, size):
        scores = tile[: queries * len(chunk)].reshape(queries, len(chunk))
        multiply(scores, chunk)
        best.add(scores, start)
    return best


def _scan_on(
    device: str,
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    kept: int,
    passage_chunk: int,
    scan: Scan,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the candidates on a GPU."""
    dtype = torch.bfloat16 if scan == "bfloat16" else torch.float32
    left = torch.from_numpy(queries).to(device, dtype)
    scores = torch.empty(len(queries), 0, device=device)
    indices = torch.empty(len(queries), 0, dtype=torch.int64, device=device)
    tile = torch.empty(len(queries) * min(passage_chunk, len(passages)), device=device)
    for start, chunk in _chunks(passages, passage_chunk):
        right = products.readable(chunk).to(device, dtype)
        product = tile[: len(queries) * len(chunk)].view(len(queries), len(chunk))
        if scan == "float32":
            torch.mm(left, right.T, out=product)
        else:
            torch.mm(left, right.T, out_dtype=torch.float32, out=product)
        fresh, places = product.topk(min(kept, len(chunk)), dim=1, sorted=False)
        scores = torch.cat([scores, fresh], dim=1)
        indices = torch.cat([indices, places + start], dim=1)
        scores, chosen = scores.topk(min(kept, scores.shape[1]), dim=1, sorted=False)
        indices = indices.gather(1, chosen)
    scores, chosen = scores.topk(min(kept, scores.shape[1]), dim=1)
    return scores.cpu().numpy(), indices.gather(1, chosen).cpu().numpy()


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
    scores[query, place] = products.of_pairs(queries, passages, query, indices[query, place])
    # By index first, so that a stable sort by score leaves equal scores in the order of their indices.
    numbers, places = torch.from_numpy(indices).sort(dim=1)
    values, order = torch.from_numpy(scores).gather(1, places).sort(dim=1, descending=True, stable=True)
    found.indices[rows, :k] = numbers.gather(1, order[:, :k]).numpy()
    found.scores[rows, :k] = values[:, :k].numpy()
