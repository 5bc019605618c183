"""Hardness weights: harder negatives weigh more. They are constants: no gradient flows through them.

    none        w = 1
    additive    w = e^{α s}                       LLaVE (Lan et al. 2025), EmbeddingGemma
    importance  w = e^{β s} / mean_k e^{β s_k}    Robinson et al. 2021, eq. 4; the mean is over what is weighted

As ln w is linear in s, the weight of all other queries' passages goes into the scale of the similarity product, and
only the few own hard negatives of a row are touched one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zhihui.training.loss.config import LossConfig


class Scales(NamedTuple):
    """What similarities are multiplied with to be logits."""

    plain: float
    """1/τ: of the positive and of what is not weighted."""
    others: float
    """Of other queries' passages, and of all further terms."""
    own: float
    """Of the query's own hard negatives."""

    @classmethod
    def of(cls, config: LossConfig, temperature: float) -> Scales:
        """Return the scales of a config at a temperature."""
        plain = 1.0 / temperature
        boosted = plain + (config.strength if config.hardness != "none" else 0.0)
        return cls(
            plain,
            plain if config.scope == "explicit" else boosted,
            plain if config.scope == "in_batch" else boosted,
        )


def weigh(logit: Tensor, own: Tensor, own_columns: Tensor, scales: Scales, config: LossConfig) -> Tensor:
    """Set the logits of own hard negatives, and return what is yet to be subtracted from every logit of a row `[R]`.

    Args:
        logit: all similarities times `scales.others` `[R, M]`, -inf for what is masked; changed in place.
        own: similarities of the own hard negatives `[R, O]`, -inf for what is masked.
        own_columns: their columns `[R, O]`.
        scales: of this config.
        config: weights and their scope.
    """
    shift = logit.new_zeros(len(logit))
    own_logit = own * scales.own
    if config.hardness == "importance" and config.strength:
        if config.scope == "explicit":
            own_logit -= _log_mean_exp(config.strength * own)[:, None]
        else:
            logit.scatter_(1, own_columns, own_logit if config.scope == "all" else -torch.inf)
            shift = _log_mean_exp(logit * (config.strength / scales.others))
            if config.scope == "in_batch":
                own_logit += shift[:, None]
    logit.scatter_(1, own_columns, own_logit)
    return shift


def _log_mean_exp(values: Tensor) -> Tensor:
    """Return ln mean e^v of each row's finite values `[R]`, 0 where there are none; `values` is used up."""
    count = (values > -torch.inf).sum(1).clamp(min=1).to(values.dtype)
    if not values.shape[1]:
        return values.new_zeros(len(values))
    top = values.amax(1).nan_to_num(nan=torch.nan, neginf=0.0)
    mass = values.sub_(top[:, None]).exp_().sum(1)
    return torch.where(mass == 0, 0.0, mass.log() + top - count.log())
