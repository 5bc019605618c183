"""sample: retrieval sets with fewer queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.errors import InputError
from zhihui.evaluation.sets import set_folders
from zhihui.recipe import stage
from zhihui.records.beir import check_split
from zhihui.records.sampling import SETS, SampleConfig, sample_files
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(SampleConfig, stage.Stage):
    """Keep some queries of each set."""

    gives = ("sets", SETS)

    sets: tuple[stage.Sets, ...]
    """Retrieval sets; a folder of such stands for all inside."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sets:
            raise InputError("sets is empty; name at least one retrieval set")

    def check(self) -> None:
        """See that each set has the split."""
        for folder in set_folders(self.sets).values():
            check_split(folder, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Sample."""
        config = stage.part_of(SampleConfig, self)
        return sample_files(set_folders(self.sets), out, config, overwrite=around.overwrite)
