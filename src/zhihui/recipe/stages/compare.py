"""compare: finished evaluations side by side, with what of their differences is more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zhihui.errors import InputError
from zhihui.evaluation.compare_stage import RESULTS, compare_files
from zhihui.recipe import stage
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(stage.Stage):
    """Compare evaluations."""

    gives = ("results", RESULTS)

    runs: tuple[stage.Results, ...]
    """Evaluations: stages, or folders that `zhihui eval` wrote."""
    data: tuple[stage.Sets, ...] = ()
    """Sets they measured, or folders of such: their texts are shown in place of ids."""
    mirror: stage.Outside | None = None
    """Folder of C-MTEB's data sets, likewise."""
    references: bool = True
    """Whether published scores are shown beside tasks of C-MTEB."""
    png: bool = False
    """Whether the drawings are written as PNG too."""
    seed: int = 0
    """Of the bootstrap and of the tests."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("runs is empty; name at least one evaluation")

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Compare."""
        return compare_files(
            # What a stage gives is its results; the queries' scores lie beside them.
            [path.parent if path.is_file() else path for path in self.runs],
            out,
            data=self.data,
            mirror=self.mirror,
            references=self.references,
            png=self.png,
            seed=self.seed,
            overwrite=around.overwrite,
        )
