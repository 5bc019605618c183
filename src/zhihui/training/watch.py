"""Watching a run: what happens between two steps: refresh, average, measure, keep the best, stop early, log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from zhihui.encoder.encoder import Encoder
from zhihui.errors import InputError
from zhihui.progress import Bar
from zhihui.training.config import TrainConfig
from zhihui.training.history import History
from zhihui.training.processes import Processes

Evaluate = Callable[[Encoder], Mapping[str, float]]
"""Measures the encoder on held-out data: metric to value."""


class Watch(TrainerCallback):
    """Watches one run, and shows a bar."""

    def __init__(
        self,
        trainer: Any,
        config: TrainConfig,
        folder: Path,
        history: History,
        processes: Processes,
        evaluate: Evaluate | None,
        *,
        steps: int,
        logging: bool,
    ) -> None:
        """Watch a trainer of `zhihui.training.trainer`.

        Args:
            trainer: the run's.
            config: the run.
            folder: for the weights of the best evaluation.
            history: to be added to.
            processes: of the run; the first measures.
            evaluate: None measures nothing.
            steps: of the whole run.
            logging: whether anybody takes the log.
        """
        self.trainer, self.config, self.folder, self.history = trainer, config, folder, history
        self.processes, self.evaluate, self.steps, self.logging = processes, evaluate, steps, logging
        self.every = config.eval_steps or steps
        self.bar: Bar | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the model as it is given."""
        if state.global_step == 0:
            # From here on each process draws its own dropout; a run that goes on has its generators restored.
            torch.manual_seed(self.config.seed * self.processes.size + self.processes.rank)
            self._measure(0, control)
        self.bar = Bar(self.steps, "Training")
        self.bar.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Do what is due after a step."""
        assert self.bar is not None, "training has begun"
        step = state.global_step
        self.bar.advance(note=f"loss {self.history.loss[-1][1]:.3f}")
        if self.trainer.average is not None:
            self.trainer.average.update()
        if self.trainer.reserves is not None and step % self.config.refresh.every == 0:
            self.history.refreshed.append((step, self.trainer.reserves.refresh(self.processes)))
        if step % self.config.log_steps == 0:
            self._log(self._newest())
        if step % self.every == 0 or step == self.steps:
            self._measure(step, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remove the bar."""
        assert self.bar is not None, "training has begun"
        self.bar.close()

    def finish(self) -> None:
        """Give the encoder the weights that the run ends with."""
        if self.trainer.average is not None and self.config.keep != "best":
            self.trainer.average.apply()
        self.trainer.publish()
        self.processes.wait()  # until the first has written the best
        if self.config.keep == "best" and (self.processes.first or not self.config.shard):
            step, _ = self.history.evaluations[self.history.best(self.config.metric)]
            self.trainer.encoder.load_state_dict(load_file(self._best(step)))

    def _measure(self, step: int, control: Any) -> None:
        if self.evaluate is None:
            return
        device = self.trainer.args.device
        average = self.trainer.average
        # Evaluation must not move the random stream: a run that measures and one that does not are the same run.
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            nullcontext() if average is None else average.applied(),
            self.trainer.whole() as encoder,
        ):
            found = dict(self.evaluate(encoder)) if self.processes.first else None
            found = self.processes.from_first(found)
            if self.config.metric is not None and self.config.metric not in found:
                raise InputError(f"metric {self.config.metric!r} is not measured; there are: {', '.join(found)}")
            self.history.evaluations.append((step, found))
            self._log({f"eval_{name}": value for name, value in found.items()})
            best = self.history.best(self.config.metric) if found else 0
            if self.config.keep == "best" and best == len(self.history.evaluations) - 1 and self.processes.first:
                self._keep(step, encoder)
        if self.config.patience and len(self.history.evaluations) - 1 - best >= self.config.patience:
            control.should_training_stop = True

    def _keep(self, step: int, encoder: Encoder) -> None:
        """Write the weights of the best evaluation so far, whole or not at all."""
        path = self._best(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        save_file(encoder.state_dict(), partial)
        partial.replace(path)
        if not self.config.save_steps:
            drop_worse(self.folder, step)

    def _best(self, step: int) -> Path:
        return _weights(self.folder, step)

    def _newest(self) -> dict[str, float]:
        history = self.history
        _, known, near, curated = history.masked[-1]
        values = {
            "loss": history.loss[-1][1],
            "gradient_norm": history.gradient_norm[-1][1],
            "learning_rate": float(self.trainer.lr_scheduler.get_last_lr()[0]),
            "masked_known": float(known),
            "masked_near": float(near),
            "masked_curated": float(curated),
        }
        for name in ("temperature", "remembered", "refreshed"):
            entries = getattr(history, name)
            if entries and entries[-1][0] == history.loss[-1][0]:
                values[name] = float(entries[-1][1])
        return values

    def _log(self, values: dict[str, float]) -> None:
        if self.logging:
            self.trainer.log(values)


def drop_worse(folder: Path, best: int) -> None:
    """Remove the weights of all evaluations but the best; only when no checkpoint has another for its best."""
    for path in folder.glob("best-*.safetensors"):
        if path != _weights(folder, best):
            path.unlink()


def _weights(folder: Path, step: int) -> Path:
    return folder / f"best-{step}.safetensors"
