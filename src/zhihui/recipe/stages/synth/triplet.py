"""synth.triplet: queries, positives and hard negatives that a teacher writes without a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.recipe import stage
from zhihui.recipe.asking import Asking
from zhihui.runs import Manifest
from zhihui.synthesis import TripletConfig


@dataclass(frozen=True, kw_only=True)
class Stage(TripletConfig, Asking):
    """Write triplets."""

    templates: stage.Outside | None = None
    """Folder of own templates; None uses those shipped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_given()

    def check(self) -> None:
        """See that teacher and templates are there."""
        self.check_asking(self.templates)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Write."""
        return self.synth(
            None,
            out,
            stage.part_of(TripletConfig, self),
            around,
            templates=self.templates,
        )
