"""synth.query: queries that a teacher writes for passages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.recipe import stage
from zhihui.recipe.asking import Asking
from zhihui.runs import Manifest
from zhihui.synthesis import QueryConfig
from zhihui.synthesis.stage import check_model


@dataclass(frozen=True, kw_only=True)
class Stage(QueryConfig, Asking):
    """Write queries."""

    needs = (("bm25s", "mine"),)

    data: stage.Passages
    model: stage.Model | None = None
    """For a dense round trip."""
    templates: stage.Outside | None = None
    """Folder of own templates; None uses those shipped."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_given()
        check_model(self, given=self.model is not None)

    def check(self) -> None:
        """See that teacher and templates are there."""
        self.check_asking(self.templates)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Write."""
        return self.synth(
            self.data,
            out,
            stage.part_of(QueryConfig, self),
            around,
            templates=self.templates,
            model=self.model,
            quarantine=self.quarantine,
        )
