"""References: `$name` in an input is what an earlier stage gives; all are resolved by name before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zhihui.config import did_you_mean
from zhihui.errors import InputError
from zhihui.recipe.stage import Kind, Takes
from zhihui.records.shipped import ENGINE, STARTER, model_path

SHIPPED = {"starter": STARTER, "engine": ENGINE}
"""The names of what is shipped, which no stage may have: a retrieval set, and a folder of files."""
KIND = "stage"
"""The setting that says what a stage does; left out, its name says it."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a stage may be called: a folder has its name."""
_REFERENCE = re.compile(r"\$(?P<name>[\w-]+)(?:/(?P<rest>.+))?")
_GIVES: dict[Kind, str] = {
    "passages": "passages",
    "examples": "examples",
    "set": "a retrieval set",
    "sets": "retrieval sets",
    "model": "a model",
    "vectors": "vectors",
    "results": "measurements",
}


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a stage."""

    setting: str
    """Where it is written: "data", "models.after"."""
    text: str
    """As it is written."""
    takes: Takes
    stage: str | None
    """The stage it refers to, one of `SHIPPED`, or None for something on this machine or the hub."""
    rest: str | None = None
    """A file within what the stage gives."""

    @property
    def is_model(self) -> bool:
        """Whether a model is wanted, which may be on the hub."""
        return self.takes.kinds == ("model",)

    def outside(self) -> Path | None:
        """Return the path on this machine, whether there is one or not; None for a stage's and for a hub id."""
        if self.stage in SHIPPED:
            folder = SHIPPED[self.stage]
            return folder / self.rest if self.rest else folder
        if self.stage is not None:
            return None
        looks_like_hub = self.text.count("/") == 1 and not self.text.startswith((".", "~", "/"))
        if not self.is_model:
            return Path(self.text)
        return None if looks_like_hub and not Path(self.text).exists() else model_path(self.text)


def is_reference(text: str) -> bool:
    """Whether a text refers to a stage or to what is shipped."""
    return _REFERENCE.fullmatch(text) is not None


def parts_of(text: str) -> tuple[str, str | None] | None:
    """Return the stage that a reference is to and the file in what it gives; None for any other text."""
    match = _REFERENCE.fullmatch(text)
    return None if match is None else (match["name"], match["rest"])


def read_input(setting: str, text: str, takes: Takes, *, where: str) -> Input:
    """Read an input.

    Raises:
        InputError: it begins with $ and is no reference.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None and text.startswith("$"):
        raise InputError(
            f"{where}: {setting} is {text!r}; write a reference as $stage, or $stage/file for a file in it"
        )
    if match is None:
        return Input(setting=setting, text=text, takes=takes, stage=None)
    return Input(setting=setting, text=text, takes=takes, stage=match["name"], rest=match["rest"])


def check_references(stages: Mapping[str, tuple[tuple[Kind, str], list[Input]]], *, file: Path) -> None:
    """Check that every reference is to an earlier stage that gives what is wanted.

    Args:
        stages: in their order: what each gives and takes.
        file: the recipe, for messages.

    Raises:
        InputError: an unknown stage, a later one, the stage itself, a circle, or something else than is wanted.
    """
    order = list(stages)
    for number, (name, (_, inputs)) in enumerate(stages.items()):
        for one in inputs:
            if one.stage is None:
                continue
            where = f"{file}: {name}: {one.setting} is {one.text}"
            if one.stage == "engine":
                if one.rest is None:
                    files = ", ".join(f"$engine/{path.name}" for path in sorted(ENGINE.iterdir()))
                    raise InputError(f"{where}, which is a folder of files; name one: {files}")
                continue
            if one.stage == "starter":
                gives: Kind = "set"
            elif one.stage not in stages:
                mend = did_you_mean(one.stage, (*order, *SHIPPED), above="$")
                raise InputError(f"{where}, and there is no stage {one.stage}; {mend}")
            elif one.stage == name:
                raise InputError(f"{where}, which is the stage itself; refer to an earlier one")
            elif order.index(one.stage) > number:
                if _leads_to(stages, one.stage, name):
                    raise InputError(f"{where}, and {one.stage} waits for {name} in turn; break the circle")
                raise InputError(f"{where}, which comes later; move {one.stage} before {name}")
            else:
                gives = stages[one.stage][0][0]
            if one.rest is None and gives not in one.takes.kinds:
                wanted = " or ".join(_GIVES[kind] for kind in one.takes.kinds) or "a path from outside"
                raise InputError(f"{where}, which gives {_GIVES[gives]}; {wanted} is wanted here")


def _leads_to(stages: Mapping[str, tuple[tuple[Kind, str], list[Input]]], start: str, goal: str) -> bool:
    """Whether a stage needs another, directly or through others."""
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name == goal:
            return True
        if name in stages and name not in seen:
            seen.add(name)
            waiting += [one.stage for one in stages[name][1] if one.stage is not None]
    return False
