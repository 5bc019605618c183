"""calibrate: a model of terms that weighs its parts as a set's queries ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.encoder.stage import MODEL
from zhihui.evaluation.calibration import CalibrationConfig
from zhihui.evaluation.calibration_stage import calibrate_files
from zhihui.recipe import stage
from zhihui.records.beir import check_split
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(CalibrationConfig, stage.Stage):
    """Calibrate a model of terms."""

    gives = ("model", MODEL)

    data: stage.SetFolder
    """A retrieval set."""
    model: stage.Model
    """A model of terms, such as nano."""
    split: str = "train"
    """Whose queries are chosen by; never the one to measure on."""

    def check(self) -> None:
        """See that the split is there."""
        check_split(self.data, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Calibrate."""
        return calibrate_files(
            self.data,
            load(self.model, device=around.device),
            out,
            stage.part_of(CalibrationConfig, self),
            split=self.split,
            name=str(out / MODEL),
            overwrite=around.overwrite,
        )
