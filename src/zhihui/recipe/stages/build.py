"""build: a fresh model and its tokenizer, made on a data set's own text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder.stage import MODEL, BuildConfig, build_files
from zhihui.recipe import stage
from zhihui.records import is_beir
from zhihui.records.beir import check_split
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(BuildConfig, stage.Stage):
    """Build a model."""

    gives = ("model", MODEL)

    data: stage.Examples
    """Whose text the tokenizer learns from."""
    split: str = "train"
    """Of a retrieval set: whose queries are read."""

    def check(self) -> None:
        """See that the split is there."""
        if is_beir(self.data):
            check_split(self.data, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Build."""
        config = stage.part_of(BuildConfig, self)
        return build_files(self.data, out, config, split=self.split, overwrite=around.overwrite)
