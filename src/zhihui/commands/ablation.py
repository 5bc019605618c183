"""`zhihui eval ablation`: what a run of an ablation has measured so far, compared with its baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run of a recipe with an ablation.", metavar="RUN")],
    out: Annotated[Path | None, typer.Option(help="Output folder; by default one under runs/.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare the finished variants of an ablation with its baseline; the run may still be under way."""
    from zhihui.errors import InputError
    from zhihui.evaluation.ablation_stage import REPORT, RESULTS, TABLE, ablation_files
    from zhihui.recipe import read_recipe
    from zhihui.recipe.plan import RECIPE
    from zhihui.recipe.stages.ablate import Stage
    from zhihui.runs import read_json, to_json

    if as_json and markdown:
        raise InputError("--json and --markdown exclude each other; both are what is printed")
    if not (run / RECIPE).is_file():
        raise InputError(f"{run}: holds no run of a recipe; give the --out of zhihui run")
    recipe = read_recipe(run / RECIPE)
    located = [recipe.located(step, run) for step in recipe.steps if step.kind == "ablate"]
    if not located:
        raise InputError(f"{run}: its recipe has no ablation; give the run of one that has")
    stage = located[0]
    assert isinstance(stage, Stage), "stages of a kind are of one class"
    target = out or Path("runs") / f"ablation-{run.name}"
    # What is finished grows, and the folder shows the newest.
    ablation_files(stage.plan(finished=True), target, seed=stage.seed, overwrite=True)
    if as_json:
        typer.echo(to_json({"out": target, **read_json(target / RESULTS)}, indent=2))
        return
    typer.echo((target / TABLE).read_text(encoding="utf-8"), nl=False)
    if not markdown:
        typer.echo(f"report: {target / REPORT}")
