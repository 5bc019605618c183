"""stats: what examples are like, as a page to look at and as numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.recipe import stage
from zhihui.records.samples import write_page
from zhihui.records.statistics import collect
from zhihui.runs import Manifest, run_stage, write_json

PAGE, NUMBERS = "page.html", "stats.json"


@dataclass(frozen=True, kw_only=True)
class Stage(stage.Stage):
    """Look at examples."""

    gives = ("results", NUMBERS)

    data: stage.Examples
    samples: int = 20
    """Examples on the page, drawn by the seed."""
    seed: int = 0
    """Of the draw."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples is {self.samples}; show at least 1")

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Count and draw."""

        def work(folder: Path) -> dict[str, Any]:
            found = collect(self.data)
            write_page(folder / PAGE, self.data, drawn=self.samples, seed=self.seed)
            write_json(folder / NUMBERS, found)
            return {"rows": found["rows"]}

        settings = {name: value for name, value in asdict(self).items() if name != "data"}
        return run_stage("stats", out, work, inputs={"data": self.data}, config=settings, overwrite=around.overwrite)
