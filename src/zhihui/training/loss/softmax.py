"""One row's loss in closed form, and its slopes by the logits.

    loss = ln Z - l⁺,   Z = e^{l⁺} + G,   G = Σ_j e^{l_j}

Debiased (Chuang et al. 2020; Robinson et al. 2021), a share τ⁺ of the n negatives is taken to be positives in truth:

    G = max( (Σ_j e^{l_j} - τ⁺ n e^{l⁺}) / (1 - τ⁺),  n e^{-1/τ} )
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Slopes(NamedTuple):
    """The losses of R rows and their derivatives; all `[R]`."""

    loss: Tensor
    positive: Tensor
    """By the positive's logit."""
    negative: Tensor
    """By a negative's logit, over the e^l that was left in its place."""
    temperature: Tensor
    """By τ beyond what the logits have in it: the bound below G."""


def slopes(positive: Tensor, logit: Tensor, shift: Tensor, debias: float, temperature: float) -> Slopes:
    """Return losses and derivatives, leaving e^{l_j - c} in place of the logits, c any constant of the row.

    Args:
        positive: l⁺ `[R]`.
        logit: l_j + shift `[R, M]`, -inf for what is no negative; changed in place.
        shift: of the row `[R]`.
        debias: τ⁺.
        temperature: τ.
    """
    count = (logit > -torch.inf).sum(1).to(positive.dtype) if debias else None
    top = torch.maximum(positive, logit.amax(1) - shift)
    logit.sub_((top + shift)[:, None]).exp_()
    of_positive, mass = (positive - top).exp(), logit.sum(1)
    if count is None:
        z = of_positive + mass
        # -mass/z and not e^{l⁺}/z - 1, which loses all digits where the positive is far ahead.
        return Slopes(z.log() + top - positive, -mass / z, 1.0 / z, torch.zeros_like(z))
    free = (mass - debias * count * of_positive) / (1.0 - debias)
    bound = count * (-1.0 / temperature - top).exp()
    bounded = free < bound
    z = of_positive + torch.where(bounded, bound, free)
    slope = (~bounded).to(z.dtype) / (1.0 - debias)
    return Slopes(
        z.log() + top - positive,
        of_positive * (1.0 - slope * debias * count) / z - 1.0,
        slope / z,
        torch.where(bounded, bound / z, 0.0) / temperature**2,
    )
