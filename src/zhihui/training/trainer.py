"""The trainer: HF `Trainer`'s loop around our batches, gradient cache and loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from zhihui.encoder.encoder import Encoder
from zhihui.errors import RunFailure
from zhihui.progress import Bar
from zhihui.records import Example
from zhihui.runs import write_json
from zhihui.training.batches import plan
from zhihui.training.collate import Batch, Batches
from zhihui.training.config import TrainConfig
from zhihui.training.gradient_cache import cached_backward
from zhihui.training.history import History, last_checkpoint, remove_older_checkpoints
from zhihui.training.loss import info_nce

Evaluate = Callable[[Encoder], Mapping[str, float]]
"""Measures the encoder on held-out data: metric to value."""

BAD_BATCH = "bad_batch.json"


def train(
    encoder: Encoder,
    examples: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
) -> History:
    """Train an encoder in place; run again after a kill, it goes on from the last checkpoint in `folder`.

    Args:
        encoder: the model, in fp32.
        examples: with hard negatives where there are any.
        config: the run.
        folder: for checkpoints; they are removed by whoever owns the folder.
        evaluate: called before the first step, every `eval_steps` and after the last.

    Raises:
        InputError: the data cannot fill the batches.
        RunFailure: the loss became NaN or infinite; the batch is in `folder`.
    """
    batches = plan(examples, config.batches, epochs=config.epochs, seed=config.seed)
    checkpoint = last_checkpoint(folder)
    history = History() if checkpoint is None else History.read(checkpoint)
    if config.gradient_checkpointing:
        _checkpointing(encoder, "enable", {"use_reentrant": False})
    data = Batches(encoder, examples, batches, config.batches, seed=config.seed)
    trainer = _Trainer(encoder, _arguments(config, folder, steps=len(batches), device=encoder.device), data, history)
    trainer.config = config
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Watch(encoder, evaluate, config.eval_steps or len(batches), history, len(batches)))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if config.gradient_checkpointing:
        _checkpointing(encoder, "disable")
    encoder.eval()
    return history


def _checkpointing(encoder: Encoder, what: str, *arguments: Any) -> None:
    """Call transformers' switch, which changed its name in 5.2x."""
    found = getattr(encoder.backbone, f"activation_checkpointing_{what}", None)
    (found or getattr(encoder.backbone, f"gradient_checkpointing_{what}"))(*arguments)


def _arguments(config: TrainConfig, folder: Path, *, steps: int, device: torch.device) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item of the data is a whole batch
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
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
    )


class _Trainer(Trainer):
    """HF Trainer whose step is the gradient cache and whose data is the plan."""

    config: TrainConfig

    def __init__(self, encoder: Encoder, arguments: TrainingArguments, data: Batches, history: History) -> None:
        super().__init__(model=encoder, args=arguments, train_dataset=data, data_collator=_only)
        self.encoder, self.history = encoder, history

    def get_train_dataloader(self) -> DataLoader[dict[str, Batch]]:
        """Return the batches in their order: the plan has shuffled them."""
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_only)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Accumulate the gradients of one batch and return its loss."""
        model.train()
        batch: Batch = inputs["batch"]
        device = self.args.device
        layout = batch.layout.to(device)
        count = len(layout.query_key)

        def gradients(vectors: Tensor) -> tuple[Tensor, Tensor]:
            found = info_nce(vectors[:count], vectors[count:], layout, self.config.loss)
            return found.loss, torch.cat([found.queries, found.passages])

        def encode(packed: Any) -> Tensor:
            with self.compute_loss_context_manager():
                return model(packed)

        loss = cached_backward(
            encode,
            batch.sequences,
            gradients,
            self.config.cache,
            device=device,
            no_sync=lambda: self.accelerator.no_sync(model),
            padded=not self.encoder.packable,
        )
        step, value = self.state.global_step + 1, float(loss)
        if not math.isfinite(value):
            path = Path(self.args.output_dir) / BAD_BATCH
            write_json(path, {"step": step, "rows": batch.rows, "loss": str(value)})
            raise RunFailure(
                f"the loss became {value} at step {step}; its rows are in {path}; lower learning_rate or look at them"
            )
        self.history.loss.append((step, value))
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir)
        newest = folder / f"checkpoint-{self.state.global_step}"
        self.history.write(newest)
        remove_older_checkpoints(folder, newest)


def _only(items: list[Batch]) -> dict[str, Batch]:
    return {"batch": items[0]}  # HF's loop looks into a batch for labels


class _Watch(TrainerCallback):
    """Evaluates, and shows a bar."""

    def __init__(self, encoder: Encoder, evaluate: Evaluate | None, every: int, history: History, steps: int) -> None:
        self.encoder, self.evaluate, self.every, self.history, self.steps = encoder, evaluate, every, history, steps
        self.bar: Bar | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the model as it is given."""
        if state.global_step == 0:
            self._measure(0)
        self.bar = Bar(self.steps, "Training")
        self.bar.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure every so many steps and after the last."""
        assert self.bar is not None, "training has begun"
        self.bar.advance(note=f"loss {self.history.loss[-1][1]:.3f}")
        if state.global_step % self.every == 0 or state.global_step == self.steps:
            self._measure(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remove the bar."""
        assert self.bar is not None, "training has begun"
        self.bar.close()

    def _measure(self, step: int) -> None:
        if self.evaluate is not None:
            # Evaluation must not move the random stream: a run that measures and one that does not are the same run.
            with torch.random.fork_rng():
                self.history.evaluations.append((step, dict(self.evaluate(self.encoder))))
