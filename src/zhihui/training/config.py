"""TrainConfig: everything a training run depends on besides its data and its starting model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from zhihui.errors import InputError
from zhihui.training.batches import BatchConfig
from zhihui.training.gradient_cache import CacheConfig
from zhihui.training.lora import LoraSettings
from zhihui.training.loss import LossConfig
from zhihui.training.memory import MemoryConfig
from zhihui.training.refresh import RefreshConfig

Keep = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    There is no gradient accumulation: it would make the optimiser's steps larger but not the number of negatives. The
    gradient cache makes any `batches.size` fit, with the negatives of all of it.
    """

    loss: LossConfig = field(default_factory=LossConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    refresh: RefreshConfig = field(default_factory=RefreshConfig)
    lora: LoraSettings | None = None
    """Train adapters beside the linear layers and merge them at the end; None trains the whole model."""
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
    shard: bool = False
    """Whether the processes of torchrun share out weights, gradients and moments (FSDP2), or each holds all of them."""
    gradient_checkpointing: bool = False
    """Whether to recompute activations layer by layer, trading time for memory."""
    eval_steps: int = 0
    """Steps between evaluations; 0 evaluates before the first step and after the last only."""
    metric: str | None = None
    """Metric of the evaluation, the higher the better, that `patience` and `keep` go by; None for its first."""
    patience: int = 0
    """Evaluations without a new best after which training stops; 0 never stops early."""
    keep: Keep = "last"
    """Weights the run ends with: those of its last step, or of its best evaluation."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which is then measured and kept in place of them; 0 for none."""
    save_steps: int = 0
    """Steps between checkpoints, from which a killed run goes on; 0 writes none."""
    log_steps: int = 1
    """Steps between entries of the log."""
    report_to: tuple[str, ...] | None = None
    """Where to log, in transformers' names (tensorboard, wandb, ...); None for TensorBoard where it is installed."""
    workers: int = 0
    """Processes that draw and tokenize batches ahead; the batches are the same. 0 does it between steps."""
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
        if self.keep not in get_args(Keep):
            raise InputError(f"keep {self.keep!r} is unknown; choose {', '.join(get_args(Keep))}")
        if self.patience < 0 or self.workers < 0:
            raise InputError(f"patience {self.patience} and workers {self.workers} must be 0 or more")
        if self.patience and not self.eval_steps:
            raise InputError(f"patience {self.patience} counts evaluations on the way; set eval_steps too")
        if not 0.0 <= self.ema < 1.0:
            raise InputError(f"ema {self.ema} is no decay; use 0 (none) or more and less than 1")
        if self.shard and self.lora is not None and self.lora.quantize:
            raise InputError(
                "lora.quantize: layers of 4 bits cannot be shared out; set shard or lora.quantize to false"
            )
        if self.log_steps < 1:
            raise InputError(f"log_steps {self.log_steps} is too few; use at least 1")
