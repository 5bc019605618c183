"""curves: what smaller vectors of a model cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.evaluation.curves import CurvesConfig
from zhihui.evaluation.curves_stage import RESULTS, curves_files
from zhihui.evaluation.sets import check_one_set, one_set, one_task
from zhihui.recipe import stage
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(CurvesConfig, stage.Stage):
    """Measure a model's vectors cut shorter and stored in fewer bits."""

    gives = ("results", RESULTS)

    model: stage.Model
    data: stage.SetFolder | None = None
    """A retrieval set; None where a task is named."""
    task: str | None = None
    """A retrieval task of C-MTEB in its place, such as T2Retrieval."""
    data_dir: stage.Outside | None = None
    """Local mirror of the task's data set; None fetches it."""
    split: str = "test"
    """Judgements of a retrieval set; a task has its own."""
    instruction: str | None = None
    """The task in words; None takes that of the task, or the model's own query prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_task(self.data, self.task, self.data_dir)

    def check(self) -> None:
        """See that the set and its split are there."""
        check_one_set(self.data, self.task, self.data_dir, split=self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Measure."""
        return curves_files(
            one_set(self.data, self.task, self.data_dir, split=self.split),
            out,
            load(self.model, device=around.device),
            stage.part_of(CurvesConfig, self),
            instruction=self.instruction,
            overwrite=around.overwrite,
        )
