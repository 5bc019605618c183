"""adapt: a model that learned from raw text to look both ways, before it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.recipe import stage
from zhihui.runs import Manifest
from zhihui.training.adapt import MODEL, AdaptConfig, adapt_files


@dataclass(frozen=True, kw_only=True)
class Stage(AdaptConfig, stage.Stage):
    """Adapt a decoder to bidirectional attention."""

    gives = ("model", MODEL)
    needs = (("accelerate", "train"),)

    texts: stage.Texts
    """Raw text: rows with a text, or one a line."""
    model: stage.Model
    """Loaded with bidirectional attention, whatever its config says."""
    field: str | None = None
    """Key of the text in a row; None for the obvious one."""

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Adapt."""
        return adapt_files(
            self.texts,
            load(self.model, device=around.device, dtype="float32", attention="bidirectional"),
            out,
            stage.part_of(AdaptConfig, self),
            field=self.field,
            name=str(out / MODEL),
            overwrite=around.overwrite,
        )
