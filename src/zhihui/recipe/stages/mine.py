"""mine: hard negatives for training examples or a retrieval set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.encoder import load
from zhihui.mining import MiningConfig
from zhihui.mining.stage import TRAIN, check_model, mine_files
from zhihui.recipe import stage
from zhihui.records import is_beir
from zhihui.records.beir import check_split
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(MiningConfig, stage.Stage):
    """Mine negatives."""

    gives = ("examples", TRAIN)
    needs = (("bm25s", "mine"),)

    data: stage.Examples
    model: stage.Model | None = None
    """For dense miners."""
    corpus: stage.SetFolder | None = None
    """Passages to mine: a retrieval set, or a file of rows with a text; None takes those of the data."""
    split: str = "train"
    """Of a retrieval set: whose queries become examples."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_model(self, given=self.model is not None)

    def check(self) -> None:
        """See that the split is there."""
        if is_beir(self.data):
            check_split(self.data, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Mine."""
        return mine_files(
            self.data,
            out,
            stage.part_of(MiningConfig, self),
            split=self.split,
            corpus=self.corpus,
            encoder=None if self.model is None else load(self.model, device=around.device),
            quarantine=self.quarantine,
            overwrite=around.overwrite,
        )
