"""refine: examples whose positives and negatives a teacher has looked through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.recipe import stage
from zhihui.recipe.asking import AskingOfExamples
from zhihui.runs import Manifest
from zhihui.synthesis import RefineConfig


@dataclass(frozen=True, kw_only=True)
class Stage(RefineConfig, AskingOfExamples):
    """Refine."""

    data: stage.Examples

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_given()

    def check(self) -> None:
        """See that teacher, templates and split are there."""
        self.check_examples(self.data)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Refine."""
        return self.synth_examples(self.data, out, stage.part_of(RefineConfig, self), around)
