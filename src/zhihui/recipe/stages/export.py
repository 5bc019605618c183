"""export: a model written out anew, with what is to change in it, and checked in the libraries of its users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder.stage import MODEL, ExportConfig, export_files
from zhihui.recipe import stage
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(ExportConfig, stage.Stage):
    """Export a model."""

    gives = ("model", MODEL)

    model: stage.Model

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Export."""
        config = stage.part_of(ExportConfig, self)
        return export_files(self.model, out, config, device=around.device, overwrite=around.overwrite)
