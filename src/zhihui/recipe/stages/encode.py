"""encode: the vectors of a file of texts, in shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.encoder.shards import ShardConfig, encode_file
from zhihui.recipe import stage
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(ShardConfig, stage.Stage):
    """Encode texts."""

    gives = ("vectors", ".")

    data: stage.Texts
    """File of texts, such as `corpus.jsonl` of a retrieval set."""
    model: stage.Model
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Encode."""
        encoder = load(self.model, device=around.device)
        config = stage.part_of(ShardConfig, self)
        return encode_file(self.data, out, encoder, config, quarantine=self.quarantine, overwrite=around.overwrite)
