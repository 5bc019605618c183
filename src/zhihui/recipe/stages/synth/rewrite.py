"""synth.rewrite: queries rewritten so that positives answer them and negatives do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.recipe import stage
from zhihui.recipe.asking import AskingOfExamples
from zhihui.runs import Manifest
from zhihui.synthesis import RewriteConfig


@dataclass(frozen=True, kw_only=True)
class Stage(RewriteConfig, AskingOfExamples):
    """Rewrite queries."""

    data: stage.Examples

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_given()

    def check(self) -> None:
        """See that teacher, templates and split are there."""
        self.check_examples(self.data)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Rewrite."""
        return self.synth_examples(self.data, out, stage.part_of(RewriteConfig, self), around)
