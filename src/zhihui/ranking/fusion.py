"""Several rankings into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.ranking.topk import NONE, TopK, best

DENSE_SHARE = 0.6
"""Of a model's scores where they are fused with BM25's: of 0.3 to 0.8 the best, or as good, on held-out queries of five
sets (docs/lab-log.md)."""


def score_fusion(rankings: Sequence[TopK], k: int, *, weights: Sequence[float] | None = None) -> TopK:
    """Merge rankings of the same queries and passages by the weighted sum of their scores (Lee 1997).

    score(d) = sum over the rankings that list d of weight * (score - lowest) / (highest - lowest), lowest and highest
    among those that the ranking lists for the query; where these are equal, 1.

    Args:
        rankings: each `[Q, K_i]`; the K_i may differ, and should be many more than k.
        k: passages of each query to return.
        weights: of the rankings, in their order; None for 1 each.

    Returns:
        `[Q, k]`.

    Raises:
        InputError: as of `reciprocal_rank_fusion`.
    """
    shares = _checked(rankings, k, weights)
    return _merged(rankings, [share * _to_unit(ranking) for share, ranking in zip(shares, rankings, strict=True)], k)


def reciprocal_rank_fusion(
    rankings: Sequence[TopK], k: int, *, constant: float = 60, weights: Sequence[float] | None = None
) -> TopK:
    """Merge rankings of the same queries and passages by reciprocal rank fusion (Cormack et al. 2009).

    score(d) = sum over the rankings that list d of weight / (constant + rank of d), ranks counted from 1.

    Args:
        rankings: each `[Q, K_i]`; the K_i may differ.
        k: passages of each query to return.
        constant: the higher, the less the first ranks stand out; 60 in the paper.
        weights: of the rankings, in their order; None for 1 each, as in the paper.

    Returns:
        `[Q, k]`.

    Raises:
        InputError: no rankings, different numbers of queries, k less than 1, a negative constant, or weights that
            are negative, all zero or not one for each ranking.
    """
    shares = _checked(rankings, k, weights)
    if not constant >= 0:
        raise InputError(f"constant is {constant}; give 0 or more, usually 60")
    by_rank = [
        share / (constant + 1 + np.arange(r.indices.shape[1])) for share, r in zip(shares, rankings, strict=True)
    ]
    return _merged(
        rankings, [np.broadcast_to(gains, r.indices.shape) for gains, r in zip(by_rank, rankings, strict=True)], k
    )


def checked_weights(weights: Sequence[float], count: int) -> list[float]:
    """Return the weights of `count` rankings.

    Raises:
        InputError: a negative weight, none above zero, or not one for each ranking.
    """
    if len(weights) != count or not all(weight >= 0 for weight in weights) or not any(weights):
        raise InputError(f"weights {list(weights)}: give one of 0 or more for each of {count} rankings, not all 0")
    return list(weights)


def check_dense_share(share: float) -> None:
    """See that a share is one.

    Raises:
        InputError: it is below 0 or above 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"dense_share is {share}; give a share from 0 to 1, usually {DENSE_SHARE}")


def _checked(rankings: Sequence[TopK], k: int, weights: Sequence[float] | None) -> list[float]:
    if not rankings:
        raise InputError("no ranking to merge; give at least one")
    if k < 1:
        raise InputError(f"k is {k}; ask for at least 1 passage")
    shares = checked_weights([1.0] * len(rankings) if weights is None else weights, len(rankings))
    sizes = [len(ranking.indices) for ranking in rankings]
    if len(set(sizes)) > 1:
        raise InputError(f"the rankings are of {sizes} queries; rank the same queries with each retriever")
    return shares


def _to_unit(ranking: TopK) -> NDArray[np.float64]:
    """Return the scores `[Q, K]` of each query brought to the range from 0 to 1; equal ones become 1."""
    listed = ranking.indices != NONE
    scores = ranking.scores.astype(np.float64)
    low = np.min(scores, axis=1, keepdims=True, where=listed, initial=np.inf)
    high = np.max(scores, axis=1, keepdims=True, where=listed, initial=-np.inf)
    unit = np.ones_like(scores)
    return np.divide(scores - low, high - low, out=unit, where=listed & (high > low))


def _merged(rankings: Sequence[TopK], gains: Sequence[NDArray[np.float64]], k: int) -> TopK:
    """Return the k passages `[Q, k]` whose gains `[Q, K_i]` sum up highest."""
    indices = np.concatenate([ranking.indices for ranking in rankings], axis=1)
    weights = np.concatenate(gains, axis=1)
    fused = TopK.empty(len(indices), k)
    for row, listed in enumerate(indices):
        filled = listed != NONE
        passages, place = np.unique(listed[filled], return_inverse=True)
        # Rounded before they are compared: float64 sums of equal parts in another order are equal here.
        scores = np.bincount(place, weights=weights[row, filled], minlength=len(passages)).astype(np.float32)
        chosen = best(scores, k)
        fused.indices[row, : len(chosen)] = passages[chosen]
        fused.scores[row, : len(chosen)] = scores[chosen]
    return fused
