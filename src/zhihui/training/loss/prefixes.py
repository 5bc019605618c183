"""Matryoshka (Kusupati et al. 2022): the loss on prefixes of the vectors, each brought to unit norm again."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

_SMALLEST = 1e-12


class Prefix(NamedTuple):
    """The first `m` dimensions of some vectors, of unit norm."""

    vectors: Tensor
    """`[B, m]`"""
    norm: Tensor | None
    """What they were divided by `[B, 1]`; None for the whole vectors, which are taken as they are."""

    @classmethod
    def of(cls, vectors: Tensor, length: int) -> Prefix:
        """Cut the vectors `[B, D]` to a length of at most D."""
        if length == vectors.shape[1]:
            return cls(vectors, None)
        cut = vectors[:, :length]
        norm = cut.norm(dim=1, keepdim=True).clamp_(min=_SMALLEST)
        return cls(cut / norm, norm)

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the vectors that were cut, from the one by the prefixes `[B, m]`; it is used up."""
        if self.norm is None:
            return gradient
        # u = x/|x|: du/dx = (I - u uᵀ)/|x|.
        along = (gradient * self.vectors).sum(1, keepdim=True)
        return gradient.addcmul_(self.vectors, along, value=-1.0).div_(self.norm)
