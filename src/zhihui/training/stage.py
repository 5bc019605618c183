"""Training as a stage: from examples and a starting model to a folder with a model."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.export_check import export_checked
from zhihui.errors import InputError, require
from zhihui.records import REJECTED, RejectLog, is_beir, read_beir, read_examples
from zhihui.records.example import Example
from zhihui.runs import Manifest, run_stage
from zhihui.training.config import TrainConfig
from zhihui.training.history import History

MODEL = "model"
_CHECKPOINTS = "checkpoints"


def train_files(
    data: Path,
    encoder: Encoder,
    out: Path,
    config: TrainConfig,
    *,
    name: str | None = None,
    evaluate: Any = None,
    measured_on: str | None = None,
    quarantine: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Train a model on a data set; `out` gets `model/`, as exported, and history.json.

    The export is checked: transformers and sentence-transformers get the same vectors from it. A run that was killed
    goes on from its last checkpoint, to the same weights.

    Args:
        data: BEIR folder (its split `train`), or a file or folder of examples.
        encoder: the starting model; it is trained in place.
        out: the stage's folder.
        config: the run.
        name: what the model card calls the model; None for "model".
        evaluate: see `zhihui.training.trainer.train`.
        measured_on: fingerprint of what `evaluate` measures on; its results are part of the run.
        quarantine: set unusable rows aside in rejected.jsonl in place of stopping at the first.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data, or too little of it for a batch.
        RunFailure: the loss became NaN or infinite, or the export does not give the model's vectors.
    """
    require("accelerate", extra="train", purpose="training")
    from zhihui.training.trainer import train

    def work(folder: Path) -> dict[str, Any]:
        with RejectLog(folder / REJECTED) as rejects:
            examples = _read(data, rejects if quarantine else None)
        checkpoints = folder / _CHECKPOINTS
        checkpoints.mkdir(exist_ok=True)
        history = train(encoder, examples, config, checkpoints, evaluate=evaluate)
        difference = export_checked(encoder, folder / MODEL, name=name, overwrite=True)
        history.write(folder)
        shutil.rmtree(checkpoints)
        return {
            "examples": len(examples),
            "steps": len(history.loss),
            "last_loss": history.loss[-1][1],
            "export_difference": difference,
            "rejected": dict(sorted(rejects.counts.items())),
        }

    inputs: dict[str, Path | str] = {"data": data, "model": encoder.fingerprint}
    if measured_on is not None:
        inputs["measured_on"] = measured_on
    settings = asdict(config) | {"quarantine": quarantine}
    return run_stage("train", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def read_history(out: Path) -> History:
    """Read what a finished run measured."""
    return History.read(out)


def _read(data: Path, rejects: RejectLog | None) -> list[Example]:
    if is_beir(data):
        found = read_beir(data, rejects=rejects).examples("train")
    else:
        found = list(read_examples(data, rejects=rejects))
    if not found:
        raise InputError(f"{data}: no examples to train on; give at least one batch of them")
    return found
