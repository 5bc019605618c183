"""The plan of a run: for each stage whether it is done, and if not, why; found without loading a model.

A stage's key is a fingerprint of its settings, of its outside inputs' contents and of the keys of the stages it refers
to. So it is known before anything runs, and changes with whatever the stage's result depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.recipe.reading import Recipe, Step
from zhihui.recipe.references import SHIPPED, Input
from zhihui.runs import fingerprint, fingerprint_path, read_json, read_manifest, write_json

RECIPE, RECORD = "recipe.yaml", "stages.json"
"""What a run's folder holds beside its stages: the recipe with all settings, and what was done when with which."""


class State(StrEnum):
    """What a run would find of a stage."""

    DONE = "done"
    TO_DO = "to do"
    GOES_ON = "goes on"
    """A run was cut short in it; what it had done is used."""
    CHANGED = "changed"
    """It is done with other settings or inputs."""
    FOLLOWS = "follows"
    """It is done, and a stage it depends on has changed."""
    MISSING = "missing"
    """An input from outside is not there, here or in a stage it depends on."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A stage of a plan."""

    step: Step
    state: State
    key: str | None
    """None while an input is missing."""
    contents: dict[str, str]
    """By input: the fingerprint of what is outside, or the key of the stage that gives it."""
    changes: list[str] = field(default_factory=list)
    """Settings that differ from those it was done with."""
    missing: list[Input] = field(default_factory=list)
    """Its own inputs that are not there."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of a recipe in a folder would do."""

    recipe: Recipe
    out: Path
    stages: list[Planned]

    @property
    def missing(self) -> list[str]:
        """Inputs that are not there, each with its stage and setting."""
        return [f"{each.step.name}: {one.setting}: {one.text}" for each in self.stages for one in each.missing]


def make_plan(recipe: Recipe, out: Path) -> Plan:
    """Compare a recipe with what a folder holds of it.

    Raises:
        InputError: the folder holds something else than a run of a recipe.
    """
    record = read_record(out)
    planned: dict[str, Planned] = {}
    seen: dict[Path, str] = {}
    for step in recipe.steps:
        planned[step.name] = _planned(step, record.get(step.name), out, planned, seen)
    return Plan(recipe=recipe, out=out, stages=list(planned.values()))


def read_record(out: Path) -> dict[str, Any]:
    """Read which stages were done in a run's folder, by name; none when the folder is new.

    Raises:
        InputError: the folder holds something else.
    """
    if out.is_dir() and (out / RECIPE).is_file():
        return dict(read_json(out / RECORD)) if (out / RECORD).is_file() else {}
    # What is hidden is being written: by the first process of torchrun, or by one that was killed.
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
        raise InputError(f"{out}: exists and holds no run of a recipe; choose another folder with --out")
    return {}


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write which stages are done, in the order in which they were."""
    write_json(out / RECORD, record)


def _planned(
    step: Step, done: dict[str, Any] | None, out: Path, earlier: Mapping[str, Planned], seen: dict[Path, str]
) -> Planned:
    contents: dict[str, str] = {}
    missing: list[Input] = []
    for one in step.inputs:
        path = one.outside()
        if one.stage is not None and one.stage not in SHIPPED:
            contents[one.setting] = fingerprint([earlier[one.stage].key, one.rest])
        elif path is None:
            contents[one.setting] = one.text  # a hub id
        elif path.exists():
            contents[one.setting] = _content(path, seen)
        else:
            missing.append(one)
    if missing or any(earlier[name].state is State.MISSING for name in step.refers_to):
        return Planned(step=step, state=State.MISSING, key=None, contents=contents, missing=missing)
    # What an input is called does not matter, only what it is.
    own = _without(step.settings, {one.setting for one in step.inputs})
    key = fingerprint([step.kind, own, contents])
    manifest = read_manifest(step.folder(out))
    if done is None or manifest is None or manifest.key != done["manifest"]:
        begun = step.folder(out).with_name(f".{step.name}.partial").exists()
        state = State.GOES_ON if begun else State.TO_DO
        return Planned(step=step, state=state, key=key, contents=contents)
    if done["key"] == key:
        return Planned(step=step, state=State.DONE, key=key, contents=contents)
    changes = _changes(step, done, own, contents, earlier)
    return Planned(
        step=step, state=State.CHANGED if changes else State.FOLLOWS, key=key, contents=contents, changes=changes
    )


def _content(path: Path, seen: dict[Path, str]) -> str:
    if path not in seen:
        seen[path] = fingerprint_path(path)
    return seen[path]


def _changes(
    step: Step, done: dict[str, Any], own: Any, contents: dict[str, str], earlier: Mapping[str, Planned]
) -> list[str]:
    """Return the settings that differ by themselves, not because an earlier stage does."""
    if done["stage"] != step.kind:
        return ["stage"]
    before = _without(done["settings"], set(done["contents"]))
    found = sorted(key for key in {**own, **before} if own.get(key) != before.get(key))
    redone = {
        one.setting
        for one in step.inputs
        if one.stage in step.refers_to and earlier[one.stage].state in (State.CHANGED, State.FOLLOWS)
    }
    inputs = {**contents, **done["contents"]}
    return found + sorted(key for key in inputs if contents.get(key) != done["contents"].get(key) and key not in redone)


def _without(settings: Any, places: set[str], place: str = "") -> Any:
    """Return settings with null for the inputs at these places."""
    if isinstance(settings, dict):
        return {key: _without(each, places, f"{place}.{key}" if place else str(key)) for key, each in settings.items()}
    if isinstance(settings, list):
        return [_without(each, places, f"{place}.{number}") for number, each in enumerate(settings)]
    return None if place in places else settings
