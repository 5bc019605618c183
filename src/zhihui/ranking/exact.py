"""Exact search by inner product: every passage against every query, in memory that grows with neither.

Matrix products in float32 round differently with the shapes of their operands, so two runs with other chunk
sizes, or two equal passages in one run, may disagree in the last bit. Ranks must not depend on that: scores
closer than the rounding error are computed again in float64, always in the same order of summation.

Where the device multiplies bfloat16 faster, all passages are scanned in it and the best are scored again in float32;
a query of which a passage that was left out might belong to them after all is scanned again in float32. Large
scans on a CPU are done by faiss where it is installed: it selects in all threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.progress import bar
from zhihui.ranking import bf16
from zhihui.ranking.topk import TopK

Scan = Literal["float32", "bfloat16"]
_UNIT = 2.0**-24  # half the distance from 1 to the next float32
_COARSE_UNIT = 2.0**-9  # half the distance from 1 to the next bfloat16
_SLACK = 1.3
"""How many times the candidates asked for are gathered before the worst are dropped."""
_WORTH_FAISS = 2**24  # scores of a chunk of queries from which on importing faiss pays
_FAISS_CHUNK = 2**15  # passages that faiss scans at once; all of a memory map would be read into memory
_RESCORED = 2**22  # numbers in a block of float64 products


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
        query_chunk: queries scored at once; None for 1024, on a GPU 8192.
        passage_chunk: passages scored at once, where faiss does not do it; a tile of scores takes
            4 * query_chunk * passage_chunk bytes.
        device: that multiplies; the vectors stay where they are and go there by chunks.
        scan: in what all passages are scored; None for bfloat16 where the device has instructions for it.

    Returns:
        `[Q, k]`.

    Raises:
        InputError: shapes that do not fit, k or a chunk less than 1, a vector that is not finite.
    """
    if query_chunk is None:
        query_chunk = 1024 if device == "cpu" else 8192
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
    lost: float
    """Largest norm of what rounding to bfloat16 takes away; 0 if nothing is rounded."""


def _measure(passages: NDArray[np.float32], size: int, *, coarse: bool) -> _Corpus:
    longest = lost = 0.0
    for _, chunk in _chunks(passages, size):
        longest = max(longest, float(_norms(chunk, "passage").max()))
        if coarse:
            lost = max(lost, float(_lost(chunk).max()))
    return _Corpus(longest, lost)


def _lost(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the norms `[N]` of what rounding to bfloat16 takes away."""
    exact = torch.from_numpy(vectors if vectors.flags.writeable else vectors.copy())
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
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    kept: int,
    passage_chunk: int,
    device: str,
    scan: Scan,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return scores and indices `[Q, kept]` of the passages with the highest scores of the scan, best first."""
    if device == "cpu" and scan == "float32" and len(queries) * len(passages) >= _WORTH_FAISS:
        faiss = _faiss()
        if faiss is not None:
            return _by_faiss(faiss, queries, passages, kept)
    dtype = torch.bfloat16 if scan == "bfloat16" else torch.float32
    left = torch.from_numpy(queries).to(device, dtype)
    scores = torch.empty(len(queries), 0, device=device)
    indices = torch.empty(len(queries), 0, dtype=torch.int64, device=device)
    tile = torch.empty(len(queries) * min(passage_chunk, len(passages)), device=device)
    higher = np.empty(len(tile), dtype=bool)
    lowest: NDArray[np.float32] | None = None
    for start, chunk in _chunks(passages, passage_chunk):
        right = torch.from_numpy(chunk if chunk.flags.writeable else chunk.copy()).to(device, dtype)
        product = _multiply(left, right, tile[: len(queries) * len(chunk)].view(len(queries), len(chunk)))
        if lowest is None or product.is_cuda:
            fresh, places = product.topk(min(kept, len(chunk)), dim=1, sorted=False)
        else:
            # Of a later chunk only the few scores above the lowest kept one can enter.
            above = higher[: product.numel()].reshape(product.shape)
            np.greater(product.numpy(), lowest, out=above)
            fresh, places = _gather(product, above)
        scores = torch.cat([scores, fresh], dim=1)
        indices = torch.cat([indices, places + start], dim=1)
        if scores.shape[1] >= kept * _SLACK or lowest is None:
            # Sorting out costs the more the oftener it is done; letting some more in costs little.
            scores, chosen = scores.topk(min(kept, scores.shape[1]), dim=1, sorted=False)
            indices = indices.gather(1, chosen)
            if scores.shape[1] == kept:
                lowest = scores.amin(dim=1, keepdim=True).cpu().numpy()
    scores, chosen = scores.topk(min(kept, scores.shape[1]), dim=1)
    return scores.cpu().numpy(), indices.gather(1, chosen).cpu().numpy()


def _by_faiss(
    faiss: Any, queries: NDArray[np.float32], passages: NDArray[np.float32], kept: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Do the scan by faiss, whose selection runs in all threads; what it finds is settled as any scan's."""
    faiss.omp_set_num_threads(torch.get_num_threads())
    scores = np.empty((len(queries), 0), dtype=np.float32)
    indices = np.empty((len(queries), 0), dtype=np.int64)
    for start, chunk in _chunks(passages, _FAISS_CHUNK):
        fresh, places = faiss.knn(queries, chunk, min(kept, len(chunk)), metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.concatenate([scores, fresh], axis=1)
        indices = np.concatenate([indices, places + start], axis=1)
        if start:
            best = np.argsort(-scores, axis=1, kind="stable")[:, :kept]
            scores, indices = np.take_along_axis(scores, best, axis=1), np.take_along_axis(indices, best, axis=1)
    return scores, indices


@cache
def _faiss() -> Any:
    """Return faiss; None where it is not installed."""
    try:
        return importlib.import_module("faiss")
    except ImportError:
        return None


def _multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Return the inner products `[Q, N]` in float32, in `out`; bfloat16 ones are summed in float32."""
    if left.dtype == torch.float32:
        if not left.is_cuda and _is_amd():
            np.matmul(left.numpy(), right.numpy().T, out=out.numpy())
            return out
        return torch.mm(left, right.T, out=out)
    if left.is_cuda:
        return torch.mm(left, right.T, out_dtype=torch.float32, out=out)
    return out.copy_(torch.mm(left, right.T))


@cache
def _is_amd() -> bool:
    """Whether the processor is one on which numpy's OpenBLAS multiplies a sixth faster than torch's MKL."""
    return "AMD" in str(torch.cpu.get_capabilities().get("cpu_name", ""))


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
