"""Running: the stages of a recipe one after the other, those that are done left alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhihui.errors import InputError, RunFailure, require
from zhihui.recipe.plan import RECIPE, Plan, Planned, State, make_plan, read_record, write_record
from zhihui.recipe.reading import Recipe
from zhihui.recipe.stage import Surroundings
from zhihui.runs import Manifest

Say = Callable[[str], None]
_POLL = 1.0
"""Seconds between looks at what the first process has done."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a stage."""

    name: str
    stage: str
    """What it does."""
    folder: Path
    state: str
    """"done" by this run, "reused" from an earlier one, or "not run"."""
    seconds: float | None
    """Wall-clock seconds of the attempt that finished it."""
    counts: dict[str, Any]


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    until: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> list[Outcome]:
    """Run a recipe in a folder; a run that was killed goes on where it was.

    `out` gets a folder for each stage, recipe.yaml with all settings, and stages.json with what was done. Under
    torchrun the first process runs the stages; the others take part in those that are done together (training).

    Args:
        recipe: what is run.
        out: the run's folder.
        until: the last stage to run; None runs all.
        device: where models are computed; None for a GPU if any.
        overwrite: do finished stages of other settings or inputs anew, and what depends on them.
        say: told what is being done, a line at a time.

    Returns:
        What became of each stage; none in a process of torchrun that is not the first.

    Raises:
        InputError: an input or a module is missing, a stage is done with other settings and `overwrite` is not given,
            or what a stage finds it cannot use.
        RunFailure: a stage failed on good input.
    """
    if until is not None:
        recipe.step(until)
    plan = make_plan(recipe, out)
    names = [step.name for step in recipe.steps]
    wanted = plan.stages if until is None else plan.stages[: names.index(until) + 1]
    _check(plan, wanted, overwrite=overwrite)
    around = Surroundings(device=device, overwrite=overwrite)
    if int(os.environ.get("RANK", "0")):
        _run_beside(plan, wanted, around)
        return []
    recipe.write(out / RECIPE)
    started = time.monotonic()
    outcomes = []
    for number, planned in enumerate(plan.stages, start=1):
        if number > len(wanted):
            outcomes.append(_outcome(planned, out, "not run", None))
            continue
        if planned.state is State.DONE:
            outcomes.append(_outcome(planned, out, "reused", read_record(out)[planned.step.name]))
            continue
        name = planned.step.name
        what = name if name == planned.step.kind else f"{name} ({planned.step.kind})"
        say(f"[{time.monotonic() - started:5.0f} s] {number}/{len(names)} {what}")
        manifest = _run(recipe, planned, out, around)
        done = _record(planned, manifest)
        write_record(out, read_record(out) | {name: done})
        outcomes.append(_outcome(planned, out, "done", done))
    return outcomes


def _check(plan: Plan, wanted: list[Planned], *, overwrite: bool) -> None:
    """Refuse what could not be run to its end, before anything starts."""
    file = plan.recipe.path
    for planned in wanted:
        for one in planned.missing:
            mend = "paths start at the working directory; set it right, or with --set"
            what = "no such model folder" if one.is_model else "no such file or folder"
            raise InputError(f"{file}: {planned.step.name}: {one.setting} is {one.text}: {what}; {mend}")
    for planned in wanted:
        for module, extra in planned.step.stage.needs:
            require(module, extra=extra, purpose=f"{file}: {planned.step.name}")
    changed = [planned for planned in wanted if planned.state in (State.CHANGED, State.FOLLOWS)]
    if changed and not overwrite:
        first, *rest = changed
        what = f"other {', '.join(first.changes)}" if first.changes else "other inputs"
        follow = f" and {', '.join(each.step.name for each in rest)} after it" if rest else ""
        raise InputError(
            f"{plan.out}: {first.step.name} is done with {what}; pass --overwrite to do it{follow} anew, or choose "
            "another folder with --out"
        )
    for planned in wanted:
        if planned.state is not State.DONE:
            try:
                located = plan.recipe.located(planned.step, plan.out)
                located.foresee()
                if not planned.step.refers_to:
                    located.check()
            except InputError as error:
                raise InputError(f"{file}: {planned.step.name}: {error}") from None


def _run(recipe: Recipe, planned: Planned, out: Path, around: Surroundings) -> Manifest:
    step = planned.step
    try:
        located = recipe.located(step, out)
        located.check()
        return located.run(step.folder(out), around)
    except InputError as error:
        raise InputError(f"{recipe.path}: {step.name}: {error}") from None
    except RunFailure as error:
        raise RunFailure(f"{recipe.path}: {step.name}: {error}") from error


def _run_beside(plan: Plan, wanted: list[Planned], around: Surroundings) -> None:
    """Take part in the stages that are done together, each once the first process has done what it refers to."""
    keys = {each.step.name: each.key for each in plan.stages}
    for planned in wanted:
        if not planned.step.stage.together or planned.state is State.DONE:
            continue
        while any(read_record(plan.out).get(name, {}).get("key") != keys[name] for name in planned.step.refers_to):
            time.sleep(_POLL)  # torchrun ends this process when the first one fails
        _run(plan.recipe, planned, plan.out, around)


def _record(planned: Planned, manifest: Manifest) -> dict[str, Any]:
    return {
        "stage": planned.step.kind,
        "key": planned.key,
        "manifest": manifest.key,
        "settings": planned.step.settings,
        "contents": planned.contents,
        "seconds": manifest.seconds,
        "counts": manifest.counts,
    }


def _outcome(planned: Planned, out: Path, state: str, done: dict[str, Any] | None) -> Outcome:
    return Outcome(
        name=planned.step.name,
        stage=planned.step.kind,
        folder=planned.step.folder(out),
        state=state,
        seconds=None if done is None else done["seconds"],
        counts={} if done is None else done["counts"],
    )
