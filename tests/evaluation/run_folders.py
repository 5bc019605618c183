"""Runs of `zhihui eval` as their files are, with scores that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zhihui.evaluation.metrics import METRICS
from zhihui.records import write_rows
from zhihui.runs import run_stage, write_json

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Set -> system -> nDCG@10 of each query."""


def write_run(
    folder: Path,
    scores: Scores,
    *,
    split: str = "test",
    fingerprints: Mapping[str, str] | None = None,
    sets: Mapping[str, str] | None = None,
    stage: str = "evaluate",
) -> Path:
    """Write a run; `fingerprints` are those of systems, `sets` those of sets, by default their names."""
    systems = list(next(iter(scores.values())))
    of_system = {name: f"weights of {name}" for name in systems} | dict(fingerprints or {})
    of_set = {name: f"texts of {name}" for name in scores} | dict(sets or {})

    def work(out: Path) -> dict[str, Any]:
        for name, by_system in scores.items():
            rows: list[dict[str, Any]] = []
            for system, values in by_system.items():
                rows.append({"system": system, "fingerprint": of_system[system], "seconds": 1.0, "split": split})
                for number, value in enumerate(values):
                    ranks = {f"p{number}": 1} if value > 0 else {}
                    top = [[f"p{number}", 0.9], ["p-other", 0.5]]
                    kept = {"ndcg_at_10": value, "ranks": ranks, "top": top}
                    rows.append({"system": system, "query_id": f"q{number}", **kept})
            write_rows(out / "sets" / name / "found.jsonl", rows)
            means = {system: float(np.mean(values)) for system, values in by_system.items()}
            metrics = {
                system: {metric: {"value": mean, "low": 0.0, "high": 1.0} for metric in METRICS}
                for system, mean in means.items()
            }
            write_json(out / "sets" / name / "results.json", metrics)
        return {}

    inputs = {f"set:{name}": of_set[name] for name in scores}
    inputs |= {f"system:{name}": of_system[name] for name in systems}
    config = {"split": split, "systems": systems, "instruction": None}
    run_stage(stage, folder, work, inputs=inputs, config=config)
    return folder
