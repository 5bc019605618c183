"""What a model card tells besides how the model is used: from runs of `zhihui eval` and the manifests of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.evaluation import cmteb
from zhihui.evaluation.compare_runs import STAGE, EvaluationRun, SetScores
from zhihui.records import read_rows
from zhihui.runs import MANIFEST, Manifest, fingerprint, fingerprint_path, read_manifest

_FAMILIES = ("map", "mrr", "ndcg", "precision", "recall")
_CUTS = (1, 3, 5, 10, 100, 1000)
METRICS = tuple(sorted(f"{family}_at_{k}" for family in _FAMILIES for k in _CUTS))
"""What a result of the card lists, in the order cards have them: that of the names."""
_EXAMPLES = "train.jsonl"
_RUN_MARKS = ("recipe.yaml", "stages.json", "stages")
"""What marks the folder of a whole run, above the folders of its stages."""
_SETTINGS = {
    "batches.size": "batch",
    "batches.negatives": "hard negatives for each example",
    "epochs": "epochs",
    "learning_rate": "highest learning rate",
    "loss.temperature": "temperature",
    "loss.hardness": "hardness weighting",
    "loss.strength": "its strength",
    "memory.size": "memory of earlier passages",
    "lora.rank": "LoRA of rank",
    "seed": "seed",
}
"""Of a training's config, by dotted keys: what each is called in a card."""
_ABOVE = 3  # folders above a model that may be its run
_HIDDEN = {STAGE, "compare", "slices", "curves", "measure"}
"""Stages that measure: no part of what a model was made from."""


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """A model's scores on one set, as the card's `model-index` has them."""

    data_set: str
    """Type of the data set: of tasks their id on the hub, else the set's name."""
    name: str
    split: str
    revision: str | None
    metrics: dict[str, float]
    """Each of `METRICS`, times 100."""


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """A stage that led to the model."""

    stage: str
    counts: dict[str, Any]
    config: Any = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What the manifests of a run say."""

    stages: list[TrainingStage]
    """In the order they finished in."""
    sources: dict[str, int]
    """Examples by the data set they name as their source; empty where the examples are no longer there."""


def set_results(run: EvaluationRun, system: str) -> list[SetResult]:
    """Return a system's results on every set of a run.

    Raises:
        InputError: the run lacks a metric that the card lists.
    """
    return [_result(one, one.systems[system].metrics, run.folder) for one in run.sets.values()]


def find_system(run: EvaluationRun, fingerprint_: str, given: str | None) -> str:
    """Return the name of the system in a run that is a model.

    Args:
        run: the run.
        fingerprint_: the model's.
        given: what the user calls it; None finds it by the fingerprint.

    Raises:
        InputError: no system of the run is it.
    """
    systems = next(iter(run.sets.values())).systems
    if given is not None:
        if given not in systems:
            raise InputError(f"{run.folder}: no system {given!r}; there are: {', '.join(systems)}")
        return given
    manifest = read_manifest(run.folder)
    instruction = None if manifest is None else manifest.config.get("instruction")
    own = {fingerprint_, fingerprint([fingerprint_, instruction])}
    found = [name for name, one in systems.items() if one.fingerprint in own]
    if not found:
        raise InputError(
            f"{run.folder}: measured {', '.join(systems)}, none of them this very model; evaluate it, or say by "
            "--system which one it is"
        )
    return found[0]


def training_facts(model: Path, given: Path | None) -> TrainingFacts:
    """Read how a model was made.

    Args:
        model: its folder.
        given: the run it is from; None looks above the model, and finds nothing where none is.

    Raises:
        InputError: `given` holds no manifest of a stage that makes something.
    """
    run = _run_of(model) if given is None else given
    manifests = {} if run is None else _manifests(run)
    if given is not None and not manifests:
        raise InputError(f"{given}: no manifest of a finished stage in it; give the folder of a run or of a stage")
    ordered = sorted(manifests.items(), key=lambda pair: ((pair[0] / MANIFEST).stat().st_mtime, str(pair[0])))
    return TrainingFacts(
        stages=[TrainingStage(stage=one.stage, counts=one.counts, config=one.config) for _, one in ordered],
        sources=_sources(manifests),
    )


def _result(one: SetScores, metrics: Mapping[str, Mapping[str, float]], folder: Path) -> SetResult:
    missing = [name for name in METRICS if name not in metrics]
    if missing:
        raise InputError(f"{folder}: its results on {one.name} lack {missing[0]}; run zhihui eval again")
    task = cmteb.tasks().get(one.name)
    official = task is not None and (one.split, len(one.query_ids)) == (task.split, task.queries)
    # Cards of C-MTEB name the data sets of 2023, of which mteb's newer ones are copies.
    older = task.older if task is not None and official else None
    return SetResult(
        data_set=one.name if older is None else older.path,
        name=one.name if older is None else f"MTEB {one.name}",
        split=one.split,
        revision=None if older is None else older.revision,
        metrics={name: round(100 * metrics[name]["value"], 3) for name in METRICS},
    )


def _run_of(model: Path) -> Path | None:
    above = [model, *model.resolve().parents[:_ABOVE]]
    whole = [folder for folder in above if any((folder / mark).exists() for mark in _RUN_MARKS)]
    single = [folder for folder in above if (folder / MANIFEST).is_file()]
    return next(iter([*whole, *single]), None)


def _manifests(run: Path) -> dict[Path, Manifest]:
    """Return the manifests of the stages of a run that make something, by their folders."""
    found = {}
    for path in sorted({*run.glob(MANIFEST), *run.glob(f"*/{MANIFEST}"), *run.glob(f"*/*/{MANIFEST}")}):
        manifest = read_manifest(path.parent)
        if manifest is not None and manifest.stage not in _HIDDEN:
            found[path.parent] = manifest
    return found


def _sources(manifests: Mapping[Path, Manifest]) -> dict[str, int]:
    """Count the examples a training read by their sources, if one of the run's folders still holds them."""
    wanted = {one.inputs["data"] for one in manifests.values() if one.stage == "train" and "data" in one.inputs}
    for folder in manifests:
        examples = folder / _EXAMPLES
        if examples.is_file() and wanted & {fingerprint_path(examples), fingerprint_path(folder)}:
            counts = Counter(str(row.data.get("source") or "unnamed") for row in read_rows(examples))
            return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    return {}


def training_settings(facts: TrainingFacts) -> list[str]:
    """Return the settings of the last training that a reader asks for first; of older manifests, those they have."""
    config: Any = next((one.config for one in reversed(facts.stages) if one.stage == "train"), {})
    shown = []
    for path, label in _SETTINGS.items():
        value: Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value and not isinstance(value, Mapping):
            shown.append(f"{label} {value}")
    return shown


def shown_counts(stage: TrainingStage) -> str:
    """Return a stage's counts as a line for a table: whole numbers above 0, those by reason added up."""
    parts = []
    for name, value in stage.counts.items():
        if isinstance(value, Mapping):
            value = sum(one for one in value.values() if isinstance(one, int))
        if isinstance(value, int) and not isinstance(value, bool) and value:
            parts.append(f"{value:,} {name.replace('_', ' ')}")
    return ", ".join(parts) or "–"
