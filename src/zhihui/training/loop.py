"""The loop: HF `Trainer` whose step is the gradient cache and whose data is the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from zhihui.encoder.encoder import Encoder
from zhihui.errors import RunFailure
from zhihui.runs import write_json
from zhihui.training.arguments import arguments
from zhihui.training.averaging import Average
from zhihui.training.collate import Batch, Batches
from zhihui.training.config import TrainConfig
from zhihui.training.gradient_cache import cached_backward
from zhihui.training.history import History, remove_older_checkpoints
from zhihui.training.loader import Loader
from zhihui.training.memory import Memory
from zhihui.training.processes import Processes
from zhihui.training.step import Step, step_gradients
from zhihui.training.trainee import Trainee
from zhihui.training.watch import drop_worse

BAD_BATCH = "bad_batch.json"


class Loop(Trainer):
    """HF Trainer whose step is the gradient cache and whose data is the plan."""

    def __init__(
        self,
        trainee: Trainee,
        encoder: Encoder,
        config: TrainConfig,
        folder: Path,
        data: Batches,
        history: History,
        processes: Processes,
        device: torch.device,
    ) -> None:
        on_cpu = device.type == "cpu"
        told = arguments(
            config,
            folder,
            steps=len(data),
            on_cpu=on_cpu,
            report_to=[name for name in config.report_to or () if name != "tensorboard"] or "none",
            ignore_data_skip=True,  # the loader begins where the run is
            ddp_backend="gloo" if on_cpu and processes.size > 1 else None,
            ddp_find_unused_parameters=False,
        )
        super().__init__(model=trainee, args=told, train_dataset=data)
        self.trainee, self.encoder = trainee, encoder
        self.config, self.history, self.processes = config, history, processes
        self.reserves = data.reserves
        self.agreed: Callable[[int, int], tuple[int, int]] | None = None
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
            agreed=self.agreed,
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
        norm = self.clip(model)
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

    def clip(self, model: Any) -> Any:
        """Scale gradients to the largest norm allowed and return their norm before."""
        return super()._clip_grad_norm(model)

    # ----------------------------------------------------------------------- the encoder that was given

    @contextmanager
    def whole(self) -> Iterator[Encoder]:
        """Lend the encoder with the weights as they are now."""
        yield self.encoder

    def publish(self) -> None:
        """Let the encoder that was given have the weights as they are now; all processes call it."""

    # ----------------------------------------------------------------------- checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir)
        newest = folder / f"checkpoint-{self.state.global_step}"
        if self.reserves is not None:
            self.reserves.settle(self.processes)
        self.processes.wait()  # until each has written its generators: the history says that all is there
        if self.average is not None:
            self.average.write(newest, first=self.processes.first)
        if self.processes.first:
            for part in (self.memory, self.reserves):
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
