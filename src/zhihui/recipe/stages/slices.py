"""slices: how models bear the same question asked otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zhihui.encoder import load
from zhihui.errors import InputError
from zhihui.evaluation.sets import check_one_set, one_set, one_task
from zhihui.evaluation.slices_stage import BASELINE, RESULTS, slices_files
from zhihui.recipe import stage
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(stage.Stage):
    """Measure models on queries asked otherwise."""

    gives = ("results", RESULTS)
    needs = (("opencc", "mine"),)

    data: stage.SetFolder | None = None
    """A retrieval set; None where a task is named."""
    task: str | None = None
    """A retrieval task of C-MTEB in its place, such as T2Retrieval."""
    data_dir: stage.Outside | None = None
    """Local mirror of the task's data set; None fetches it."""
    split: str = "test"
    """Judgements of a retrieval set; a task has its own."""
    models: dict[str, stage.Model] = field(default_factory=dict)
    """Models by the name to show."""
    baseline: Literal["bm25", "none"] = "bm25"
    """Measured beside the models: BM25 over Chinese words, or nothing."""
    instruction: str | None = None
    """The task in words; None takes that of the task, or the models' own query prompt."""
    seed: int = 0
    """Of the changes and of the bootstrap."""

    def __post_init__(self) -> None:
        one_task(self.data, self.task, self.data_dir)
        if BASELINE in self.models:
            raise InputError(f"models: {BASELINE} is the name of another system; choose another")
        if not self.models and self.baseline == "none":
            raise InputError("nothing to measure; name a model, or the baseline bm25")

    def check(self) -> None:
        """See that the set and its split are there."""
        check_one_set(self.data, self.task, self.data_dir, split=self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Measure."""
        return slices_files(
            one_set(self.data, self.task, self.data_dir, split=self.split),
            out,
            {name: load(model, device=around.device) for name, model in self.models.items()},
            baseline=self.baseline == "bm25",
            instruction=self.instruction,
            seed=self.seed,
            overwrite=around.overwrite,
        )
