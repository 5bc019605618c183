"""gather: examples of several stages in one file, all of them or a draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.errors import InputError
from zhihui.recipe import stage
from zhihui.records import is_beir
from zhihui.records.beir import check_split
from zhihui.records.gathering import TRAIN, GatherConfig, gather_files
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(GatherConfig, stage.Stage):
    """Put examples together."""

    gives = ("examples", TRAIN)

    data: tuple[stage.Examples, ...]
    split: str = "train"
    """Of retrieval sets: whose queries become examples."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data:
            raise InputError("data is empty; name at least one file or stage of examples")

    def check(self) -> None:
        """See that the splits are there."""
        for path in self.data:
            if is_beir(path):
                check_split(path, self.split)

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Gather."""
        return gather_files(
            self.data,
            out,
            stage.part_of(GatherConfig, self),
            split=self.split,
            quarantine=self.quarantine,
            overwrite=around.overwrite,
        )
