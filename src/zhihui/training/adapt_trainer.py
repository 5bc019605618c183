"""The loop of bidirectional adaptation: HF `Trainer`'s, around our chunks and loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from zhihui.encoder.packing import pack
from zhihui.errors import RunFailure
from zhihui.progress import Bar
from zhihui.training.arguments import arguments
from zhihui.training.history import History, remove_older_checkpoints

if TYPE_CHECKING:
    from zhihui.training.adapt import AdaptConfig, Predictor, Steps
    from zhihui.training.masking import Hidden


class AdaptTrainer(Trainer):
    """HF Trainer whose step is a sum over chunks: their losses do not depend on one another, unlike InfoNCE."""

    def __init__(self, predictor: Predictor, config: AdaptConfig, folder: Path, data: Steps, history: History) -> None:
        """Prepare a run; `history` grows with it."""
        on_cpu = predictor.encoder.device.type == "cpu"
        told = arguments(config, folder, steps=len(data), on_cpu=on_cpu, report_to="none")
        super().__init__(model=predictor, args=told, train_dataset=data)
        self.history = history
        self.remove_callback(PrinterCallback)
        self.add_callback(_Shown(len(data), history))

    def run(self, checkpoint: Path | None) -> None:
        """Train, from a checkpoint where there is one.

        Raises:
            RunFailure: the loss became NaN or infinite.
        """
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the steps in their order: the plan has shuffled them."""
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_only)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Accumulate the gradients of one step and return its mean loss."""
        model.train()
        chunks: list[list[Hidden]] = inputs["chunks"]
        count = sum(len(each.places) for chunk in chunks for each in chunk)
        total = 0.0
        for chunk in chunks:
            packed = pack([each.ids for each in chunk]).to(self.args.device)
            with self.compute_loss_context_manager():
                loss = model(packed, chunk) / count
            loss.backward()
            total += float(loss.detach())
        step = self.state.global_step + 1
        if not math.isfinite(total):
            raise RunFailure(f"the loss became {total} at step {step}; lower learning_rate")
        self.history.loss.append((step, total))
        return torch.tensor(total)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir)
        newest = folder / f"checkpoint-{self.state.global_step}"
        self.history.write(newest)
        remove_older_checkpoints(folder, newest)


def _only(items: list[list[list[Hidden]]]) -> dict[str, Any]:
    return {"chunks": items[0]}


class _Shown(TrainerCallback):
    """Shows a bar."""

    def __init__(self, steps: int, history: History) -> None:
        self.steps, self.history = steps, history

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin where the run is."""
        self.bar = Bar(self.steps, "Adapting")
        self.bar.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move on."""
        self.bar.advance(note=f"loss {self.history.loss[-1][1]:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remove the bar."""
        self.bar.close()
