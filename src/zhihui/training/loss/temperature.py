"""LearnedTemperature: τ as something to train."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zhihui.errors import InputError


class LearnedTemperature(nn.Module):
    """τ held as its logarithm, so that a step changes it by a share of itself.

    It is kept at or above 0.01: logits beyond 100 make training unstable (Radford et al. 2021, CLIP).
    """

    LOWEST = 0.01

    def __init__(self, start: float) -> None:
        """Begin at τ = `start`.

        Raises:
            InputError: it is below the lowest.
        """
        super().__init__()
        if start < self.LOWEST:
            raise InputError(
                f"temperature {start} is too low to be learned; use {self.LOWEST} or more, or learn_temperature: false"
            )
        self.log = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """Return τ, a scalar with its gradient."""
        with torch.no_grad():
            # On the parameter and not on the result: a clamped result has no gradient to rise again.
            self.log.clamp_(min=math.log(self.LOWEST))
        return self.log.exp()
