"""synth.label: examples with grades by a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.recipe import stage
from zhihui.recipe.asking import Asking
from zhihui.records import is_beir
from zhihui.records.beir import check_split
from zhihui.runs import Manifest
from zhihui.synthesis import LabelConfig


@dataclass(frozen=True, kw_only=True)
class Stage(LabelConfig, Asking):
    """Grade."""

    data: stage.Examples
    templates: stage.Outside | None = None
    """Folder of own templates; None uses those shipped."""
    split: str = "train"
    """Of a retrieval set: whose queries become examples."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_given()

    def check(self) -> None:
        """See that teacher, templates and split are there."""
        self.check_asking(self.templates)
        if is_beir(self.data):
            check_split(self.data, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Grade."""
        return self.synth(
            self.data,
            out,
            stage.part_of(LabelConfig, self),
            around,
            templates=self.templates,
            split=self.split,
            quarantine=self.quarantine,
        )
