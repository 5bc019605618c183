"""chunk: documents of any format as a corpus of clean passages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.corpus import ChunkConfig
from zhihui.corpus.stage import CORPUS, chunk_files
from zhihui.recipe import stage
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(ChunkConfig, stage.Stage):
    """Prepare a corpus."""

    gives = ("passages", CORPUS)

    data: stage.Passages
    """File or folder of documents."""
    model: stage.Model | None = None
    """Whose tokens the size is counted in; None counts characters."""

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Chunk."""
        config = stage.part_of(ChunkConfig, self)
        return chunk_files(self.data, out, config, model=self.model, overwrite=around.overwrite)
