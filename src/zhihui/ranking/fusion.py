"""Several rankings into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zhihui.errors import InputError
from zhihui.ranking.topk import NONE, TopK, best


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
    if not rankings:
        raise InputError("no ranking to merge; give at least one")
    if k < 1:
        raise InputError(f"k is {k}; ask for at least 1 passage")
    if not constant >= 0:
        raise InputError(f"constant is {constant}; give 0 or more, usually 60")
    shares = [1.0] * len(rankings) if weights is None else list(weights)
    if len(shares) != len(rankings) or not all(share >= 0 for share in shares) or not any(shares):
        raise InputError(f"weights {shares}: give one of 0 or more for each of {len(rankings)} rankings, not all 0")
    sizes = [len(ranking.indices) for ranking in rankings]
    if len(set(sizes)) > 1:
        raise InputError(f"the rankings are of {sizes} queries; rank the same queries with each retriever")
    indices = np.concatenate([ranking.indices for ranking in rankings], axis=1)
    gains = np.concatenate(
        [w / (constant + 1 + np.arange(r.indices.shape[1])) for w, r in zip(shares, rankings, strict=True)]
    )
    fused = TopK.empty(sizes[0], k)
    for row, listed in enumerate(indices):
        filled = listed != NONE
        passages, place = np.unique(listed[filled], return_inverse=True)
        # Rounded before they are compared: float64 sums of equal parts in another order are equal here.
        scores = np.bincount(place, weights=gains[filled], minlength=len(passages)).astype(np.float32)
        chosen = best(scores, k)
        fused.indices[row, : len(chosen)] = passages[chosen]
        fused.scores[row, : len(chosen)] = scores[chosen]
    return fused
