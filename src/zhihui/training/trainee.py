"""Trainee: all that training moves, in one module: the encoder and, if it is learned, the temperature."""

from __future__ import annotations

from torch import Tensor, nn

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.packing import Packed
from zhihui.training.loss import LearnedTemperature, LossConfig


class Trainee(nn.Module):
    """What checkpoints and the optimiser hold."""

    def __init__(self, encoder: Encoder, config: LossConfig) -> None:
        """Put an encoder and a temperature together.

        Raises:
            InputError: the temperature is too low to be learned.
        """
        super().__init__()
        self.encoder = encoder
        self.fixed = config.temperature
        self.learned = LearnedTemperature(config.temperature) if config.learn_temperature else None
        # What DistributedDataParallel leaves alone: the temperature takes no part in encoding, where gradients are
        # looked for, and buffers are constants (rotary frequencies), which need not be sent at every step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        if self.learned is not None:
            self._ddp_params_and_buffers_to_ignore.append("learned.log")

    @property
    def temperature(self) -> float:
        """τ as it is."""
        return self.fixed if self.learned is None else float(self.learned().detach())

    def forward(self, packed: Packed) -> Tensor:
        """Return the vectors of packed sequences `[B, D]`."""
        return self.encoder(packed)

    def pull_temperature(self, slope: float) -> None:
        """Accumulate the gradient of a learned temperature from the loss's derivative by τ."""
        if self.learned is not None:
            tau = self.learned()
            tau.backward(gradient=tau.new_tensor(slope))
