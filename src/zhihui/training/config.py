"""TrainConfig: everything a training run depends on besides its data and its starting model."""

from __future__ import annotations

from dataclasses import dataclass, field

from zhihui.errors import InputError
from zhihui.training.batches import BatchConfig
from zhihui.training.gradient_cache import CacheConfig
from zhihui.training.loss import LossConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run."""

    loss: LossConfig = field(default_factory=LossConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    epochs: int = 1
    """Passes over the data."""
    learning_rate: float = 2e-5
    """Highest learning rate of AdamW."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly to zero in the rest."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    """Gradients of a larger norm are scaled down to it."""
    bf16: bool = False
    """Whether to compute in bf16 with fp32 weights (autocast)."""
    gradient_checkpointing: bool = False
    """Whether to recompute activations layer by layer, trading time for memory."""
    eval_steps: int = 0
    """Steps between evaluations; 0 evaluates before the first step and after the last only."""
    save_steps: int = 0
    """Steps between checkpoints, from which a killed run goes on; 0 writes none."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"epochs {self.epochs} is too few; use at least 1")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate {self.learning_rate} is not above 0")
        if not 0.0 <= self.warmup < 1.0:
            raise InputError(f"warmup {self.warmup} is no share; use 0 or more and less than 1")
        if self.weight_decay < 0 or self.max_grad_norm <= 0:
            raise InputError("weight_decay must be 0 or more and max_grad_norm above 0")
        if self.eval_steps < 0 or self.save_steps < 0:
            raise InputError("eval_steps and save_steps must be 0 or more")
