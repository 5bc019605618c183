"""What HF's trainer is told: the same for every loop of ours, which bring their own data, log and bar."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainingArguments

if TYPE_CHECKING:
    from zhihui.training.adapt import AdaptConfig
    from zhihui.training.config import TrainConfig


def arguments(
    config: AdaptConfig | TrainConfig, folder: Path, *, steps: int, on_cpu: bool, **more: Any
) -> TrainingArguments:
    """Return the arguments of a run of so many steps, each of one item of the data."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(config.warmup * steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        seed=config.seed,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 1,
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=on_cpu,
        **more,
    )
