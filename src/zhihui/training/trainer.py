"""The trainer: HF `Trainer`'s loop around our batches, gradient cache and loss, on one process or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from zhihui import progress
from zhihui.encoder.encoder import Encoder
from zhihui.errors import RunFailure
from zhihui.records import Example
from zhihui.runs import write_json
from zhihui.training.averaging import Average
from zhihui.training.batches import plan
from zhihui.training.checks import check
from zhihui.training.collate import Batch, Batches
from zhihui.training.config import TrainConfig
from zhihui.training.gradient_cache import cached_backward
from zhihui.training.history import History, last_checkpoint, remove_older_checkpoints
from zhihui.training.loader import Loader
from zhihui.training.memory import Memory
from zhihui.training.processes import Processes
from zhihui.training.refresh import Reserves
from zhihui.training.step import Step, step_gradients
from zhihui.training.trainee import Trainee
from zhihui.training.watch import Evaluate, Watch, drop_worse

BAD_BATCH = "bad_batch.json"


def train(
    encoder: Encoder,
    examples: Sequence[Example],
    config: TrainConfig,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
    logs: Path | None = None,
) -> History:
    """Train an encoder in place; run again after a kill, it goes on from the last checkpoint in `folder`.

    Under torchrun all processes call it with the same arguments and end with the same weights; the folder is one they
    share. The first of them evaluates and writes.

    Args:
        encoder: the model, in fp32.
        examples: with hard negatives where there are any.
        config: the run.
        folder: for checkpoints; they are removed by whoever owns the folder.
        evaluate: called before the first step, every `eval_steps` and after the last.
        logs: where TensorBoard's files go; None logs nothing there.

    Raises:
        InputError: the data cannot fill the batches, or settings do not suit data, model or processes.
        RunFailure: the loss or its gradient became NaN or infinite; the batch is in `folder`.
    """
    processes = Processes.join(cpu=encoder.device.type == "cpu")
    if not processes.first:
        progress.quiet()
    batches = plan(examples, config.batches, epochs=config.epochs, seed=config.seed)
    check(
        config,
        examples,
        batches,
        dimension=encoder.dimension,
        measured=evaluate is not None,
        processes=processes,
    )
    trainee = Trainee(encoder, config.loss)
    checkpoint = processes.from_first(last_checkpoint(folder) if processes.first else None)
    history = History() if checkpoint is None else History.read(checkpoint)
    if checkpoint is not None and _exhausted(history, config):
        batches = batches[: len(history.loss)]  # stopped early, and killed after that
    reserves = Reserves(examples, config.batches, config.refresh) if config.refresh.every else None
    data = Batches(
        encoder,
        examples,
        batches,
        config.batches,
        seed=config.seed,
        processes=processes,
        graded=config.loss.distillation > 0,
        reserves=reserves,
    )
    if config.gradient_checkpointing:
        _checkpointing(encoder, "enable", {"use_reentrant": False})
    trainer = _Trainer(trainee, config, folder, data, history, processes, encoder.device)
    trainer.remove_callback(PrinterCallback)
    logging = bool(trainer.args.report_to)
    if logs is not None and _tensorboard(config):
        logging = True
        board = TensorBoardCallback()
        board.logging_dir = str(logs)
        trainer.add_callback(board)
    watch = Watch(trainer, config, folder, history, processes, evaluate, steps=len(batches), logging=logging)
    trainer.add_callback(watch)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    watch.finish()
    if trainee.learned is not None:
        history.final_temperature = trainee.temperature
    if config.gradient_checkpointing:
        _checkpointing(encoder, "disable")
    encoder.eval()
    return history


def _exhausted(history: History, config: TrainConfig) -> bool:
    """Tell whether a run has stopped early."""
    if not config.patience or not history.evaluations:
        return False
    return len(history.evaluations) - 1 - history.best(config.metric) >= config.patience


def _checkpointing(encoder: Encoder, what: str, *arguments: Any) -> None:
    """Call transformers' switch, which changed its name in 5.2x."""
    found = getattr(encoder.backbone, f"activation_checkpointing_{what}", None)
    (found or getattr(encoder.backbone, f"gradient_checkpointing_{what}"))(*arguments)


def _tensorboard(config: TrainConfig) -> bool:
    wanted = config.report_to is None or "tensorboard" in config.report_to
    return wanted and find_spec("tensorboard") is not None


def _arguments(
    config: TrainConfig, folder: Path, *, steps: int, on_cpu: bool, processes: Processes
) -> TrainingArguments:
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
        report_to=[name for name in config.report_to or () if name != "tensorboard"] or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        ignore_data_skip=True,  # the loader begins where the run is
        ddp_backend="gloo" if on_cpu and processes.size > 1 else None,
        ddp_find_unused_parameters=False,
        use_cpu=on_cpu,
    )


class _Trainer(Trainer):
    """HF Trainer whose step is the gradient cache and whose data is the plan."""

    def __init__(
        self,
        trainee: Trainee,
        config: TrainConfig,
        folder: Path,
        data: Batches,
        history: History,
        processes: Processes,
        device: torch.device,
    ) -> None:
        arguments = _arguments(config, folder, steps=len(data), on_cpu=device.type == "cpu", processes=processes)
        super().__init__(model=trainee, args=arguments, train_dataset=data)
        self.trainee, self.config, self.history, self.processes = trainee, config, history, processes
        self.reserves = data.reserves
        self.memory = Memory(config.memory) if config.memory.size else None
        self.average = Average(trainee.encoder, config.ema) if config.ema else None

    def get_train_dataloader(self) -> Any:
        """Return the batches in their order: the plan has shuffled them."""
        return Loader(
            self.train_dataset,
            workers=self.config.workers,
            every=self.config.refresh.every,
            done=lambda: self.state.global_step,
        )

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Return what decays: as usual, but for a learned temperature, which has no reason to be near 1."""
        return [name for name in super().get_decay_parameter_names(model) if name != "learned.log"]

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Accumulate the gradients of one batch and return its loss over all processes."""
        model.train()
        device = self.args.device
        batch: Batch = inputs["batch"].to(device)
        number, temperature = self.state.global_step + 1, self.trainee.temperature
        found: list[Step] = []

        def gradients(vectors: Tensor) -> tuple[Tensor, Tensor]:
            step = step_gradients(
                vectors,
                batch,
                self.config.loss,
                number=number,
                temperature=temperature,
                processes=self.processes,
                memory=self.memory,
            )
            if not math.isfinite(step.loss):
                self._stop("loss", step.loss, number, batch.rows)
            found.append(step)
            return torch.tensor(step.loss, device=device), step.gradient

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
            padded=not self.trainee.encoder.packable,
            scale=float(self.processes.size),  # DistributedDataParallel takes the mean over processes, the loss the sum
        )
        self._record(number, temperature, found[0])
        self._rows = batch.rows
        return loss

    def _record(self, number: int, temperature: float, step: Step) -> None:
        self.trainee.pull_temperature(step.temperature)
        history = self.history
        history.loss.append((number, step.loss))
        history.masked.append((number, *step.masked))
        if self.config.loss.learn_temperature:
            history.temperature.append((number, temperature))
        if self.memory is not None:
            history.remembered.append((number, step.remembered))
        if self.reserves is not None:
            self.reserves.note(step.notes)

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        number, value = self.state.global_step + 1, float(norm)
        if not math.isfinite(value):
            self._stop("gradient", value, number, self._rows)
        self.history.gradient_norm.append((number, value))
        return norm

    def _stop(self, what: str, value: float, number: int, rows: list[int]) -> None:
        path = Path(self.args.output_dir) / BAD_BATCH
        if self.processes.first:
            write_json(path, {"step": number, "rows": rows, what: str(value)})
        raise RunFailure(
            f"the {what} became {value} at step {number}; its rows are in {path}; lower learning_rate or look at them"
        )

    # ----------------------------------------------------------------------- checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir)
        newest = folder / f"checkpoint-{self.state.global_step}"
        if self.reserves is not None:
            self.reserves.settle(self.processes)
        self.processes.wait()  # until each has written its generators: the history says that all is there
        if self.processes.first:
            for part in (self.memory, self.average, self.reserves):
                if part is not None:
                    part.write(newest)
            self.history.write(newest)
            remove_older_checkpoints(folder, newest)
            if self.config.keep == "best":
                drop_worse(folder, self.history.evaluations[self.history.best(self.config.metric)][0])

    def restore(self, checkpoint: Path) -> None:
        """Take over what HF's trainer knows nothing of."""
        if self.memory is not None:
            self.memory.read(checkpoint, self.args.device)
        if self.average is not None:
            self.average.read(checkpoint, len(self.history.loss))
        if self.reserves is not None:
            self.reserves.read(checkpoint)
