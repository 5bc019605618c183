"""Training as a stage: from examples and a starting model to a folder with a model.

Under torchrun the first process runs the stage, and the others train beside it; only the first writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.export_check import export_checked
from zhihui.errors import InputError, RunFailure, require
from zhihui.records import REJECTED, RejectLog, is_beir, read_beir, read_examples
from zhihui.records.example import Example
from zhihui.runs import Manifest, run_stage
from zhihui.training.config import TrainConfig
from zhihui.training.history import History
from zhihui.training.processes import Processes

MODEL = "model"
LOGS = "logs"
PREFLIGHT = "preflight.txt"
_CHECKPOINTS = "checkpoints"
_MERGE_TEXTS = 16
"""Passages whose vectors must be the same before and after LoRA's adapters are merged."""


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
    told: Callable[[str], None] | None = None,
) -> Manifest:
    """Train a model on a data set; `out` gets `model/`, as exported, history.json and preflight.txt.

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
        told: what preflight.txt says, before the first step: examples as the model sees them, memory and time.

    Raises:
        InputError: unusable data, or too little of it for a batch.
        RunFailure: the loss became NaN or infinite, or the export does not give the model's vectors.
    """
    require("accelerate", extra="train", purpose="training")
    from zhihui.training.lora import apply_lora, merge_lora
    from zhihui.training.preflight import show
    from zhihui.training.trainer import train

    processes = Processes.join(cpu=encoder.device.type == "cpu")

    def trained(folder: Path) -> tuple[int, History, RejectLog]:
        with RejectLog(folder / REJECTED if processes.first else None) as rejects:
            examples = read_training(data, rejects if quarantine else None)
        checkpoints = folder / _CHECKPOINTS
        checkpoints.mkdir(exist_ok=True)
        if config.lora is not None:
            apply_lora(encoder, config.lora, seed=config.seed)

        def announce(found: Any) -> None:
            text = show(found)
            (folder / PREFLIGHT).write_text(text + "\n", encoding="utf-8")
            if told is not None:
                told(text)

        history = train(
            encoder, examples, config, checkpoints, evaluate=evaluate, logs=folder / LOGS, announce=announce
        )
        if config.lora is not None and (processes.first or not config.shard):
            merge_lora(encoder, [example.pos[0] for example in examples[:_MERGE_TEXTS]])
        return len(examples), history, rejects

    def work(folder: Path) -> dict[str, Any]:
        processes.from_first(folder)
        count, history, rejects = trained(folder)
        difference = export_checked(encoder, folder / MODEL, name=name, overwrite=True)
        history.write(folder)
        shutil.rmtree(folder / _CHECKPOINTS)
        counts = {
            "examples": count,
            "steps": len(history.loss),
            "last_loss": history.loss[-1][1],
            "export_difference": difference,
            "rejected": dict(sorted(rejects.counts.items())),
        }
        if history.final_temperature is not None:
            counts["temperature"] = history.final_temperature
        return counts

    if not processes.first:
        return _beside(processes, trained)
    inputs: dict[str, Path | str] = {"data": data, "model": encoder.fingerprint}
    if measured_on is not None:
        inputs["measured_on"] = measured_on
    settings = asdict(config) | {"quarantine": quarantine}
    try:
        manifest = run_stage("train", out, work, inputs=inputs, config=settings, overwrite=overwrite)
    except (InputError, RunFailure) as error:
        processes.fail(str(error))
        raise
    processes.from_first(manifest)
    return manifest


def _beside(processes: Processes, trained: Callable[[Path], object]) -> Manifest:
    """Train beside the first process, if it says that there is something to train, and return its manifest."""
    said = processes.from_first()
    if isinstance(said, Manifest):
        return said
    try:
        trained(said)
    except (InputError, RunFailure):
        processes.from_first()  # what stopped this process stopped the first too, which says so
        raise
    return cast("Manifest", processes.from_first())


def read_training(data: Path, rejects: RejectLog | None) -> list[Example]:
    """Read the examples of a file or folder, or of a BEIR folder's split `train`.

    Raises:
        InputError: unusable data, or none.
    """
    if is_beir(data):
        found = read_beir(data, rejects=rejects).examples("train")
    else:
        found = list(read_examples(data, rejects=rejects))
    if not found:
        raise InputError(f"{data}: no examples to train on; give at least one batch of them")
    return found
