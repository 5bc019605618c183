"""synth.expand: queries for the topics of long documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.recipe import stage
from zhihui.recipe.asking import Asking
from zhihui.runs import Manifest
from zhihui.synthesis import ExpandConfig


@dataclass(frozen=True, kw_only=True)
class Stage(ExpandConfig, Asking):
    """Expand documents."""

    data: stage.Passages
    templates: stage.Outside | None = None
    """Folder of own templates; None uses those shipped."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_given()

    def check(self) -> None:
        """See that teacher and templates are there."""
        self.check_asking(self.templates)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Expand."""
        return self.synth(
            self.data,
            out,
            stage.part_of(ExpandConfig, self),
            around,
            templates=self.templates,
            quarantine=self.quarantine,
        )
