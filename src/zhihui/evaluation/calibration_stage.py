"""Calibration as a stage: a model, and what it was given, as files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhihui.encoder import Encoder
from zhihui.encoder.export_check import export_checked
from zhihui.encoder.stage import MODEL
from zhihui.evaluation.calibration import CalibrationConfig, calibrate
from zhihui.records import read_beir
from zhihui.runs import Manifest, run_stage


def calibrate_files(
    data: Path,
    encoder: Encoder,
    out: Path,
    config: CalibrationConfig,
    *,
    split: str = "train",
    name: str | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Calibrate a model of terms; `out` gets `model/`, as exported, and the manifest says what was chosen.

    Args:
        data: BEIR folder.
        encoder: the model; it is changed in place.
        out: the stage's folder.
        config: what is tried.
        split: whose queries are chosen by; never the one to measure on.
        name: what the model card calls the model; None for "model".
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data, or a model that has layers.
        RunFailure: the export does not give the model's vectors.
    """

    def work(folder: Path) -> dict[str, Any]:
        found = calibrate(encoder, read_beir(data), split, config)
        difference = export_checked(encoder, folder / MODEL, name=name, overwrite=True)
        return asdict(found) | {"export_difference": difference}

    inputs: dict[str, Path | str] = {"data": data, "model": encoder.fingerprint}
    settings = {"calibration": config, "split": split}
    return run_stage("calibrate", out, work, inputs=inputs, config=settings, overwrite=overwrite)
