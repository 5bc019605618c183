"""train: a model trained on examples."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.evaluation.stage import during_training
from zhihui.recipe import stage
from zhihui.records import RejectLog, is_beir
from zhihui.records.beir import check_split
from zhihui.runs import Manifest
from zhihui.training.batches import check_fill
from zhihui.training.checks import check_processes
from zhihui.training.config import TrainConfig
from zhihui.training.processes import Processes
from zhihui.training.stage import MODEL, read_training, train_files


@dataclass(frozen=True, kw_only=True)
class Stage(TrainConfig, stage.Stage):
    """Train a model."""

    gives = ("model", MODEL)
    needs = (("accelerate", "train"),)
    together = True

    data: stage.Examples
    model: stage.Model
    """Where training starts."""
    dev: stage.SetFolder | None = None
    """Measured on before the first step, every `eval_steps` and after the last; None measures nothing."""
    dev_split: str = "dev"
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def foresee(self) -> None:
        """See that the processes can share the batches, and that data that is there can fill them."""
        config = stage.part_of(TrainConfig, self)
        check_processes(config, int(os.environ.get("WORLD_SIZE", "1")))
        if self.data.exists():
            examples = read_training(self.data, RejectLog(None) if self.quarantine else None)
            check_fill(config.batches, Counter(example.source or "" for example in examples))

    def check(self) -> None:
        """See that the splits are there."""
        if is_beir(self.data):
            check_split(self.data, "train")
        if self.dev is not None:
            check_split(self.dev, self.dev_split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Train."""
        Processes.join(cpu=around.device == "cpu")  # each takes its own GPU, before a model is put on one
        evaluate, measured_on = (None, None) if self.dev is None else during_training(self.dev, self.dev_split)
        return train_files(
            self.data,
            load(self.model, device=around.device, dtype="float32"),
            out,
            stage.part_of(TrainConfig, self),
            name=str(out / MODEL),
            evaluate=evaluate,
            measured_on=measured_on,
            quarantine=self.quarantine,
            overwrite=around.overwrite,
        )
