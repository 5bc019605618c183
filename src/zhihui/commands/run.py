"""`zhihui run`: a recipe, from its first stage to its last."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zhihui.recipe import Outcome, Plan


def command(
    recipe: Annotated[Path, typer.Argument(help="YAML file of stages and their settings.", metavar="RECIPE")],
    out: Annotated[Path | None, typer.Option(help="Output folder.", show_default="runs/NAME of the recipe")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE.KEY=VALUE", help="A setting, as in train.epochs=3; several times."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="The last stage to run, to look at what it gives.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; by default a GPU if any.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the recipe and print each stage with all its settings and its state."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do finished stages of other settings anew, and what depends on them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; no progress.")] = False,
) -> None:
    """Run a recipe, whose every setting is checked first; what is done is not redone, a killed run goes on.

    A dry run names inputs that are not there yet, and is content with them.
    """
    from zhihui import progress
    from zhihui.recipe import make_plan, read_recipe, run_recipe
    from zhihui.runs import to_json

    progress.quiet(as_json)
    whole = read_recipe(recipe, settings or [])
    target = out or _default_out(recipe)
    if dry_run:
        plan = make_plan(whole, target)
        if as_json:
            typer.echo(to_json(_as_json(plan), indent=2))
        else:
            _show_plan(plan)
        return
    outcomes = run_recipe(
        whole,
        target,
        until=until,
        device=device,
        overwrite=overwrite,
        say=(lambda line: None) if as_json else (lambda line: typer.echo(line, err=True)),
    )
    if not outcomes:  # a process of torchrun that is not the first
        return
    if as_json:
        typer.echo(to_json({"out": target, "stages": outcomes}, indent=2))
        return
    _show_outcomes(target, outcomes)


def _default_out(recipe: Path) -> Path:
    """Return a folder under runs/, or for the recipe of a run that very run's folder."""
    from zhihui.recipe.plan import RECIPE, RECORD

    if recipe.name == RECIPE and (recipe.parent / RECORD).is_file():
        return recipe.parent
    return Path("runs") / recipe.stem


# --------------------------------------------------------------------------- plan


def _as_json(plan: Plan) -> dict[str, Any]:
    stages = [
        {
            "name": each.step.name,
            "stage": each.step.kind,
            "state": each.state,
            "changes": each.changes,
            "missing": {one.setting: one.text for one in each.missing},
            "settings": each.step.settings,
        }
        for each in plan.stages
    ]
    return {"recipe": plan.recipe.path, "out": plan.out, "stages": stages, "missing": plan.missing}


def _show_plan(plan: Plan) -> None:
    import yaml

    typer.echo(f"{plan.recipe.path} into {plan.out}")
    if plan.recipe.about:
        typer.echo(f"  {plan.recipe.about}")
    for each in plan.stages:
        kind = "" if each.step.name == each.step.kind else f" ({each.step.kind})"
        typer.echo(f"\n{each.step.name}{kind}: {_state(each)}")
        settings = yaml.safe_dump(each.step.settings, sort_keys=False, allow_unicode=True, width=100)
        typer.echo("".join(f"  {line}\n" for line in settings.splitlines()), nl=False)
    if plan.missing:
        typer.echo("\nnot there yet:")
        for line in plan.missing:
            typer.echo(f"  {line}")


def _state(planned: Any) -> str:
    if planned.changes:
        return f"{planned.state} ({', '.join(planned.changes)})"
    if planned.missing:
        return f"{planned.state} ({', '.join(one.text for one in planned.missing)})"
    return str(planned.state)


# --------------------------------------------------------------------------- outcome


def _show_outcomes(out: Path, outcomes: list[Outcome]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for label in ("stage", "does", "state"):
        table.add_column(label, overflow="fold")
    table.add_column("seconds", justify="right")
    table.add_column("counts", overflow="fold")
    for one in outcomes:
        seconds = "" if one.seconds is None else f"{one.seconds:,.1f}"
        table.add_row(escape(one.name), one.stage, one.state, seconds, escape(_counts(one.counts)))
    console = Console(highlight=False)
    console.print(table)
    ablations = [one for one in outcomes if one.stage == "ablate" and one.state != "not run"]
    for one in outcomes:
        # Of an ablation's hundred measurements the comparison says it all.
        if one.stage == "evaluate" and one.state != "not run" and not ablations:
            _show_results(one)
    for one in ablations:
        _show_ablation(one)
    console.print(f"{out}: a folder for each stage, recipe.yaml with all settings", markup=False, soft_wrap=True)


def _show_results(one: Outcome) -> None:
    from zhihui.commands.evaluate import print_table
    from zhihui.evaluation.stage import RESULTS
    from zhihui.runs import read_json, read_manifest

    results, manifest = read_json(one.folder / RESULTS), read_manifest(one.folder)
    assert manifest is not None, "the stage is done"
    systems = manifest.config["systems"]  # in the order to show
    print_table({name: results[name] for name in systems}, f"{one.name}, with 95% intervals")


def _show_ablation(one: Outcome) -> None:
    from zhihui.evaluation.ablation_stage import REPORT, TABLE

    typer.echo((one.folder / TABLE).read_text(encoding="utf-8"), nl=False)
    typer.echo(f"report: {one.folder / REPORT}")


def _counts(counts: dict[str, Any]) -> str:
    shown = {name: value for name, value in counts.items() if isinstance(value, int | float) and value}
    return ", ".join(f"{_number(value)} {name.replace('_', ' ')}" for name, value in shown.items())


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
