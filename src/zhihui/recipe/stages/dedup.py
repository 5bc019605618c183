"""dedup: training examples without repetitions and without what an evaluation asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.evaluation.sets import set_folders
from zhihui.mining.dedup import DedupConfig
from zhihui.mining.dedup.stage import TRAIN, dedup_files
from zhihui.recipe import stage
from zhihui.records import is_beir
from zhihui.records.beir import check_split
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(DedupConfig, stage.Stage):
    """Remove repeated and contaminated examples."""

    gives = ("examples", TRAIN)
    needs = (("rensa", "mine"), ("opencc", "mine"))

    data: stage.Examples
    against: tuple[stage.Sets, ...] = ()
    """Evaluation sets to keep training clear of; a folder of such stands for all inside."""
    split: str = "train"
    """Of a retrieval set as data: whose queries become examples."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def check(self) -> None:
        """See that the splits are there."""
        if is_beir(self.data):
            check_split(self.data, self.split)
        for folder in set_folders(self.against).values():
            for split in self.splits:
                check_split(folder, split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Compare and remove."""
        return dedup_files(
            self.data,
            out,
            stage.part_of(DedupConfig, self),
            against=tuple(set_folders(self.against).values()),
            split=self.split,
            quarantine=self.quarantine,
            overwrite=around.overwrite,
        )
