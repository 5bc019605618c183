"""convert: examples of any format, or the judged queries of a retrieval set, as a file of examples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zhihui.recipe import stage
from zhihui.records.conversion import convert
from zhihui.runs import Manifest, run_stage


@dataclass(frozen=True, kw_only=True)
class Stage(stage.Stage):
    """Read examples and write them as ours."""

    gives = ("examples", "examples.jsonl")

    data: stage.Examples
    source_format: str | None = None
    """Name of the format, see `zhihui.records.formats`; None tells it by the data."""
    split: str | None = None
    """Of a retrieval set: the only split to read; None reads all."""
    negatives: int | None = None
    """Keep the first so many negatives of each example; None keeps all."""
    quarantine: bool = False
    """Whether unusable rows are set aside in place of stopping at the first."""

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Convert."""
        settings = {name: value for name, value in asdict(self).items() if name != "data"}

        def work(folder: Path) -> dict[str, Any]:
            report = convert(self.data, folder / self.gives[1], target_format="native", overwrite=True, **settings)
            return {key: report[key] for key in ("read", "written", "rejected", "lost")}

        inputs = {"data": self.data}
        return run_stage("convert", out, work, inputs=inputs, config=settings, overwrite=around.overwrite)
