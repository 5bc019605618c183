"""evaluate: models and a baseline measured on retrieval sets, with intervals and a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from zhihui.encoder import load
from zhihui.errors import InputError
from zhihui.evaluation.stage import (
    RESULTS,
    EvaluationConfig,
    Measurement,
    check_systems,
    set_folders,
    systems_of,
)
from zhihui.recipe import stage
from zhihui.records.beir import check_split
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(EvaluationConfig, stage.Stage):
    """Measure models."""

    gives = ("results", RESULTS)
    needs = (("mteb", "eval"),)

    sets: tuple[stage.SetFolder, ...]
    """Retrieval sets; a folder of such stands for all inside."""
    models: dict[str, stage.Model] = field(default_factory=dict)
    """Models by the name to show."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sets:
            raise InputError("sets is empty; name at least one retrieval set")
        taken = sorted({"bm25", "hybrid"} & {*self.models})
        if taken:
            raise InputError(f"models: {taken[0]} is the name of another system; choose another")
        check_systems(len(self.models), self)

    def check(self) -> None:
        """See that each set has the split."""
        for folder in set_folders(self.sets).values():
            check_split(folder, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Measure."""
        config = stage.part_of(EvaluationConfig, self)
        measurement = Measurement(set_folders(self.sets), config)
        encoders = {name: load(model, device=around.device) for name, model in self.models.items()}
        return measurement.run(systems_of(encoders, config), out, overwrite=around.overwrite)
