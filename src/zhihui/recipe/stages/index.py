"""index: documents or a corpus as an index that is searched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.recipe import stage
from zhihui.runs import Manifest
from zhihui.search import IndexConfig
from zhihui.search.stage import INDEX, index_files


@dataclass(frozen=True, kw_only=True)
class Stage(IndexConfig, stage.Stage):
    """Index."""

    gives = ("index", INDEX)
    needs = (("bm25s", "search"), ("pyarrow", "search"))

    data: stage.Passages
    """File or folder of documents, or a retrieval set, whose passages are taken as they are."""
    model: stage.Model

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Index."""
        encoder = load(self.model, device=around.device)
        config = stage.part_of(IndexConfig, self)
        return index_files(self.data, out, config, model=self.model, encoder=encoder, overwrite=around.overwrite)
