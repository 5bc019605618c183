"""Ablation: what each change of a baseline does to quality, measured over several seeds, query by query.

Seed for seed a variant and the baseline are measured on the same queries. The difference of a query is the mean over
the seeds; the bootstrap over queries then says how far the mean difference could move with other queries (see
`zhihui.evaluation.bootstrap`), and the differences of the single seeds how far it moves with other draws of the
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.evaluation.bootstrap import Interval, mean_interval
from zhihui.evaluation.compare_runs import EvaluationRun, read_run

Verdict = Literal["better", "worse", "unclear"]
Scores = list[NDArray[np.float64]]
"""nDCG@10 of each query `[Q]`, set by set."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be compared: finished runs of `zhihui eval`, one a seed; None where one is not finished."""

    baseline: Sequence[Path | None]
    variants: Mapping[str, Sequence[Path | None]]
    """"POINT/VARIANT" -> as `baseline`, seed for seed."""
    changes: Mapping[str, Sequence[str]]
    """"POINT/VARIANT" -> the settings in which it differs from the baseline, to be shown."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Mean nDCG@10 of one variant over its seeds."""

    average: Interval
    """Over the sets, each counting the same."""
    per_set: list[float]
    seeds: list[float]
    """The average of each seed."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One variant against the baseline: its nDCG@10 less the baseline's."""

    point: str
    variant: str
    changes: list[str]
    level: Level
    average: Interval
    """Over the sets, each counting the same."""
    per_set: list[Interval]
    seeds: list[float]
    """The difference of each seed, over the sets."""

    @property
    def verdict(self) -> Verdict:
        """Better or worse where the interval keeps clear of 0 and every seed says the same."""
        if self.average.low > 0 and min(self.seeds) > 0:
            return "better"
        if self.average.high < 0 and max(self.seeds) < 0:
            return "worse"
        return "unclear"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Everything an ablation shows."""

    sets: list[str]
    queries: list[int]
    """Of each set."""
    baseline: Level
    effects: list[Effect] = field(repr=False)
    missing: list[str]
    """Variants of which no seed is finished."""

    @property
    def points(self) -> dict[str, list[Effect]]:
        """The variants by point, in their order."""
        found: dict[str, list[Effect]] = {}
        for one in self.effects:
            found.setdefault(one.point, []).append(one)
        return found


def measure_ablation(plan: Plan, *, seed: int = 0) -> Ablation:
    """Compare the finished variants with the baseline.

    Args:
        plan: the runs.
        seed: of the bootstrap.

    Raises:
        InputError: the baseline is not finished with any seed, a run is of several systems, or two runs are not of the
            same sets and queries.
    """
    runs = [None if folder is None else read_run(folder) for folder in plan.baseline]
    first = next((run for run in runs if run is not None), None)
    if first is None:
        raise InputError("no seed of the baseline is measured yet; run the recipe until it is")
    baseline = [None if run is None else _scores(run, first) for run in runs]
    effects, missing = [], []
    for name, folders in plan.variants.items():
        pairs = [
            (_scores(read_run(folder), first), of_baseline)
            for folder, of_baseline in zip(folders, baseline, strict=True)
            if folder is not None and of_baseline is not None
        ]
        if not pairs:
            missing.append(name)
            continue
        point, _, variant = name.partition("/")
        groups = [np.mean([own[place] - other[place] for own, other in pairs], axis=0) for place in _places(first)]
        effects.append(
            Effect(
                point=point,
                variant=variant,
                changes=list(plan.changes.get(name, ())),
                level=_level([own for own, _ in pairs], seed),
                average=mean_interval(groups, seed=seed),
                per_set=[mean_interval([group], seed=seed) for group in groups],
                seeds=[_mean(own) - _mean(other) for own, other in pairs],
            )
        )
    return Ablation(
        sets=list(first.sets),
        queries=[len(one.query_ids) for one in first.sets.values()],
        baseline=_level([scores for scores in baseline if scores is not None], seed),
        effects=effects,
        missing=missing,
    )


def _scores(run: EvaluationRun, first: EvaluationRun) -> Scores:
    for name in {**first.sets, **run.sets}:
        one, other = first.sets.get(name), run.sets.get(name)
        if one is None or other is None or (one.fingerprint, one.query_ids) != (other.fingerprint, other.query_ids):
            mend = "measure both on the same sets"
            raise InputError(f"{run.folder}: {name} was not measured as in {first.folder}; {mend}")
        if len(other.systems) != 1:
            names = ", ".join(other.systems)
            raise InputError(f"{run.folder}: measured several systems ({names}); name one model, and baseline none")
    return [next(iter(run.sets[name].systems.values())).ndcg for name in first.sets]


def _level(by_seed: Sequence[Scores], seed: int) -> Level:
    groups = [np.mean(each, axis=0) for each in zip(*by_seed, strict=True)]
    return Level(
        average=mean_interval(groups, seed=seed),
        per_set=[float(group.mean()) for group in groups],
        seeds=[_mean(scores) for scores in by_seed],
    )


def _mean(scores: Scores) -> float:
    return float(np.mean([group.mean() for group in scores]))


def _places(run: EvaluationRun) -> range:
    return range(len(run.sets))
