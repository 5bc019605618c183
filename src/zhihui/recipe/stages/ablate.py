"""ablate: variants compared with their baseline; a recipe's `ablation` adds this stage by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from zhihui.errors import InputError
from zhihui.evaluation.ablation import Plan
from zhihui.evaluation.ablation_stage import RESULTS, ablation_files
from zhihui.recipe import stage
from zhihui.runs import Manifest


@dataclass(frozen=True, kw_only=True)
class Stage(stage.Stage):
    """Compare variants."""

    gives = ("results", RESULTS)

    baseline: tuple[stage.Results, ...]
    """Measurements of the baseline, one a seed."""
    variants: dict[str, tuple[stage.Results, ...]]
    """"POINT/VARIANT" -> its measurements, one a seed, in the order of the baseline's."""
    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """"POINT/VARIANT" -> what is shown of its settings."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        for name, runs in self.variants.items():
            if len(runs) != len(self.baseline):
                counts = f"{len(runs)} measurements and the baseline {len(self.baseline)}"
                raise InputError(f"variants: {name} has {counts}; give one a seed to both")

    def plan(self, *, finished: bool = False) -> Plan:
        """Return what is compared; if `finished`, only what is measured already."""

        def folder(results: Path) -> Path | None:
            return results.parent if results.is_file() or not finished else None

        return Plan(
            baseline=[*map(folder, self.baseline)],
            variants={name: [*map(folder, runs)] for name, runs in self.variants.items()},
            changes=self.changes,
        )

    def run(self, out: Path, around: stage.Surroundings) -> Manifest:
        """Compare."""
        return ablation_files(self.plan(), out, seed=self.seed, overwrite=around.overwrite)
