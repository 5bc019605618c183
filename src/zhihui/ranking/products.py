"""Inner products on a CPU: of all pairs in float32, with a small rounding error, and of listed pairs in float64."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Multiply = Callable[[NDArray[np.float32], NDArray[np.float32]], None]
"""Writes the scores `[Q, N]` of some passages `[N, D]`: out, passages."""
UNIT = 2.0**-24
"""Half the distance from 1 to the next float32."""
SLICE = 256
"""Dimensions summed at once: fewer round less, and multiply more slowly."""
_PASSAGES = 512
"""Passages converted to float64 at once: as many as stay in a cache."""


class Multiplier:
    """Inner products of some queries with any passages, in float32.

    Where SciPy is installed, its BLAS sums slices of the dimensions one after another. Rounding errors grow with the
    square root of how many terms are summed and with what they are summed to; of a slice both are small. NumPy's
    BLAS, a few percent faster, cannot add to what is there already.
    """

    def __init__(self, queries: NDArray[np.float32]) -> None:
        self._queries = queries
        self._sgemm = sgemm()
        self._slices = [np.ascontiguousarray(queries[:, part]) for part in slices(queries.shape[1])]
        self._copies: list[NDArray[np.float32]] = []

    def into(self, out: NDArray[np.float32], passages: NDArray[np.float32]) -> None:
        """Write the products with some passages `[N, D]` into `out` `[Q, N]`, contiguous."""
        if self._sgemm is None:
            np.matmul(self._queries, passages.T, out=out)
            return
        for number, (left, right) in enumerate(zip(self._slices, self._cut(passages), strict=True)):
            # Of the transposes, because BLAS stores by columns; the result is written in place.
            self._sgemm(1.0, right.T, left.T, beta=float(number > 0), c=out.T, trans_a=1, overwrite_c=1)

    def _cut(self, passages: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Yield the slices of the passages, each contiguous, in memory that the next passages use again."""
        if len(self._slices) == 1:
            yield passages
            return
        count = len(passages)
        if not self._copies or len(self._copies[0]) < count:
            self._copies = [np.empty((count, part.shape[1]), dtype=np.float32) for part in self._slices]
        for part, copy in zip(slices(passages.shape[1]), self._copies, strict=True):
            # Not by torch: its threads, still waiting for more to copy, would keep those of BLAS from the processor.
            copy[:count] = passages[:, part]
            yield copy[:count]


def slices(dimensions: int) -> list[slice]:
    """Return the parts in which a `Multiplier` sums the dimensions."""
    if sgemm() is None:
        return [slice(0, dimensions)]
    edges = [*range(0, dimensions, SLICE), dimensions]
    return [slice(start, end) for start, end in pairwise(edges)]


@cache
def sgemm() -> Any:
    """Return SciPy's product of matrices that adds to what is there; None where SciPy is not installed."""
    try:
        return importlib.import_module("scipy.linalg.blas").sgemm
    except ImportError:
        return None


def squares(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squared norm of each slice of each vector, `[N, slices]`."""
    parts = [vectors[:, part] for part in slices(vectors.shape[1])]
    return np.stack([np.einsum("nd,nd->n", each, each, dtype=np.float64) for each in parts], axis=1)


def rounding(queries: NDArray[np.float64], passages: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    """Return `[Q]` by how much two products of a `Multiplier` with one query may be out of order.

    Rounding errors add up like a random walk (Higham & Mary 2019), so over n terms they grow with the square root of
    n; steps are in proportion to what is summed, which norms bound. The slices' errors and that of adding the slices
    are independent, and add up as squares. Measured at D from 64 to 3584 they stay below half of this.

    Args:
        queries: `[Q, slices]` squared norms, as `squares` gives them.
        passages: `[slices]`, the largest of any passage.
        dimensions: D.
    """
    lengths = np.array([part.stop - part.start for part in slices(dimensions)])
    within = queries @ (passages * _terms(lengths) ** 2)
    between = queries.sum(axis=1) * passages.sum() * _terms(len(lengths)) ** 2 if len(lengths) > 1 else 0.0
    found: NDArray[np.float64] = 2 * UNIT * np.sqrt(within + between)
    return found


def _terms(count: Any) -> Any:
    return 2 * count**0.5 + 2


def of_pairs(
    queries: NDArray[np.float32], passages: NDArray[np.float32], row: NDArray[np.intp], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the float64 product `[P]` of each pair of a query and a passage, always in one order of summation.

    The passages are gone through in their order, so that each is read once for all its queries.

    Args:
        queries: `[Q, D]`.
        passages: `[N, D]`; may be a memory map.
        row: `[P]`, of the queries.
        column: `[P]`, of the passages.
    """
    found = np.empty(len(row), dtype=np.float64)
    if not len(row):
        return found
    order = np.argsort(column, kind="stable")
    row, column = row[order], column[order]
    asked, row = np.unique(row, return_inverse=True)
    left = readable(queries[asked]).double()
    first = np.flatnonzero(np.diff(column, prepend=-1))
    listed = column[first]
    ends = np.append(first, len(column))
    buffer = torch.empty(_PASSAGES, queries.shape[1], dtype=torch.float64)
    for start in range(0, len(listed), _PASSAGES):
        part = listed[start : start + _PASSAGES]
        edges = ends[start : start + len(part) + 1]
        pairs = slice(edges[0], edges[-1])
        right = buffer[: len(part)]
        # Reading neighbours together is faster than collecting them one by one.
        together = part[-1] - part[0] == len(part) - 1
        right.copy_(readable(passages[part[0] : part[-1] + 1] if together else passages[part]))
        found[order[pairs]] = _sampled(right, left, edges - edges[0], row[pairs])
    return found


def _sampled(
    right: torch.Tensor, left: torch.Tensor, edges: NDArray[np.intp], row: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return products of each row of `right` with those rows of `left` that lie between its edges."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        wanted = torch.sparse_csr_tensor(
            torch.from_numpy(edges),
            torch.from_numpy(row),
            torch.zeros(len(row), dtype=torch.float64),
            size=(len(right), len(left)),
            check_invariants=False,
        )
        found = torch.sparse.sampled_addmm(wanted, right, left.T, beta=0.0)
    values: NDArray[np.float64] = found.values().numpy()
    return values


def readable(array: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor that shares its memory and is only read: torch warns of what cannot be written."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
