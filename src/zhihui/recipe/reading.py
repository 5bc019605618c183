"""Reading: from a file and KEY=VALUE words to a recipe whose every setting, name and reference is known to be good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from zhihui.config import did_you_mean, from_mapping, read_yaml, with_words
from zhihui.errors import InputError
from zhihui.recipe.ablation import lay_out
from zhihui.recipe.references import KIND, NAME, SHIPPED, Input, check_references, is_reference, read_input
from zhihui.recipe.stage import Stage, inputs_of, texts_in, with_texts
from zhihui.recipe.stages import STAGES, stage_named
from zhihui.runs import atomic_open

_KEYS = ("about", "stages", "ablation")


@dataclass(frozen=True)
class Step:
    """One stage of a recipe."""

    name: str
    kind: str
    """One of `STAGES`."""
    stage: Stage
    """Its settings, inputs as they are written."""
    inputs: list[Input]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings, defaults too, as YAML has them; inputs first."""
        found: dict[str, Any] = _plain(asdict(self.stage))  # type: ignore[call-overload]
        return {name: found[name] for name in inputs_of(type(self.stage))} | found

    @property
    def refers_to(self) -> list[str]:
        """The stages it takes something from."""
        return [one.stage for one in self.inputs if one.stage is not None and one.stage not in SHIPPED]

    def folder(self, out: Path) -> Path:
        """Return the stage's folder within a run's."""
        return out / self.name

    def product(self, out: Path) -> Path:
        """Return what others take from it."""
        return self.folder(out) / self.stage.gives[1]


@dataclass(frozen=True)
class Recipe:
    """Stages in the order in which they run, each after those it refers to."""

    path: Path
    about: str
    steps: list[Step]

    def step(self, name: str) -> Step:
        """Return a stage.

        Raises:
            InputError: no stage has this name.
        """
        for step in self.steps:
            if step.name == name:
                return step
        names = [step.name for step in self.steps]
        raise InputError(f"{self.path}: no stage {name}; {did_you_mean(name, names)}")

    def located(self, step: Step, out: Path) -> Stage:
        """Return a stage's settings with its inputs where they are on this machine, in a run's folder."""
        places = {one.setting: str(self.place(one, out)) for one in step.inputs}
        changed = {name: with_texts(getattr(step.stage, name), name, places) for name in inputs_of(type(step.stage))}
        return replace(step.stage, **changed)  # type: ignore[type-var]

    def place(self, one: Input, out: Path) -> Path | str:
        """Return where an input is: a path, or a hub id."""
        if one.stage is None or one.stage in SHIPPED:
            return one.outside() or one.text
        product = self.step(one.stage).product(out)
        return product / one.rest if one.rest else product

    def write(self, path: Path) -> None:
        """Write the recipe with every setting in it, defaults too; it can be run as it is."""
        stages = {step.name: {KIND: step.kind, **step.settings} for step in self.steps}
        with atomic_open(path) as stream:
            about = {"about": self.about} if self.about else {}
            yaml.safe_dump({**about, "stages": stages}, stream, sort_keys=False, allow_unicode=True, width=100)


def read_recipe(path: Path, words: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the file.
        words: STAGE.SETTING=VALUE, laid over it.

    Raises:
        InputError: in one line what is wrong, where, and how to mend it: not a recipe, an unknown stage or setting, a
            value of another type or out of bounds, a reference to a stage that is not there, comes later, or does not
            give what is wanted.
    """
    content = read_yaml(path)
    for key in content:
        if key not in _KEYS:
            raise InputError(f"{path}: unknown key {key}; {did_you_mean(key, _KEYS)}")
    about, stages = content.get("about", ""), content.get("stages")
    if not isinstance(about, str):
        raise InputError(f"{path}: about is {about!r}; write a line of text")
    if not isinstance(stages, dict) or not stages:
        raise InputError(f"{path}: stages holds none; write NAME: and its settings below")
    plain = {str(name): settings if settings is not None else {} for name, settings in stages.items()}
    of_ablation = [word for word in words if "ablation" in content and word.startswith("ablation.")]
    of_stages = [word for word in words if word not in of_ablation]
    for word in of_stages:
        name, dot, _ = word.partition("=")[0].partition(".")
        if not dot:
            raise InputError(f"setting {word!r} names no stage; write STAGE.SETTING=VALUE, as in train.epochs=3")
        if name not in plain:
            raise InputError(f"setting {word!r}: no stage {name}; {did_you_mean(name, plain)}")
    laid_over = with_words(plain, of_stages)
    if "ablation" in content:
        given = with_words({"ablation": content["ablation"]}, of_ablation)["ablation"]
        laid_over = lay_out(laid_over, given, file=path)
    steps = [_step(name, settings, path) for name, settings in laid_over.items()]
    check_references({step.name: (step.stage.gives, step.inputs) for step in steps}, file=path)
    return Recipe(path=path, about=about, steps=steps)


def _step(name: str, settings: Any, path: Path) -> Step:
    where = f"{path}: {name}"
    if not NAME.fullmatch(name) or name in SHIPPED:
        why = "is what is shipped" if name in SHIPPED else "cannot be a folder's name"
        raise InputError(f"{where}: this name {why}; use another, of letters, digits, - and _")
    if not isinstance(settings, Mapping):
        raise InputError(f"{where} is {settings!r}; it is a group of settings")
    given = {key: value for key, value in settings.items() if key != KIND}
    kind = settings.get(KIND, name)
    if kind not in STAGES:
        what = f"{KIND} is {kind!r}, which is unknown" if KIND in settings else f"no {KIND} is of this name"
        raise InputError(f"{where}: {what}; {did_you_mean(kind, STAGES)}")
    owner = stage_named(kind)
    stage = from_mapping(owner, given, where=where)
    inputs = []
    for setting, takes in inputs_of(owner).items():
        found = texts_in(getattr(stage, setting), setting)
        inputs += [read_input(place, text, takes, where=where) for place, text in found]
    others = {key: each for key, each in given.items() if key not in inputs_of(owner)}
    for place, text in texts_in(others, ""):
        if is_reference(text):
            known = ", ".join(inputs_of(owner))
            raise InputError(f"{where}: {place} is {text}, and is no input; only these refer to stages: {known}")
    return Step(name=name, kind=kind, stage=stage, inputs=inputs)


def _plain(value: Any) -> Any:
    """Return what YAML has: lists for tuples, text for paths."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
