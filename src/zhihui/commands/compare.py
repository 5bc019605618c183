"""`zhihui eval compare`: finished evaluations side by side, with what of their differences is more than chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders that zhihui eval wrote.", metavar="RUN")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="BEIR folders that were measured: shows their texts in place of ids."),
    ] = None,
    mirror: Annotated[
        Path | None, typer.Option(help="Folder of C-MTEB's data sets: shows the texts of its tasks.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default one under runs/ for each comparison.")
    ] = None,
    references: Annotated[
        bool, typer.Option("--references/--no-references", help="Show published scores beside tasks of C-MTEB.")
    ] = True,
    png: Annotated[bool, typer.Option("--png", help="Write the drawings as PNG too.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown, as for a card.")] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the tests.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished comparison of other runs or settings.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; no progress bar.")] = False,
) -> None:
    """Compare finished evaluations on the sets they share, query by query, and write a report."""
    from zhihui import progress
    from zhihui.errors import InputError
    from zhihui.evaluation.compare_stage import REPORT, RESULTS, TABLE, compare_files
    from zhihui.runs import fingerprint, read_json, to_json

    progress.quiet(as_json)
    if as_json and markdown:
        raise InputError("--json and --markdown exclude each other; both are what is printed")
    settings = [list(map(str, runs)), list(map(str, data or [])), mirror, references, png, seed]
    target = out or Path("runs") / f"compare-{fingerprint(settings)[:10]}"
    # A default folder is named by what is asked for, and what is asked for may have been measured anew.
    compare_files(
        runs,
        target,
        data=data or [],
        mirror=mirror,
        references=references,
        png=png,
        seed=seed,
        overwrite=overwrite or out is None,
    )
    results = read_json(target / RESULTS)
    if as_json:
        typer.echo(to_json({"out": target, **results}, indent=2))
        return
    if markdown:
        typer.echo((target / TABLE).read_text(encoding="utf-8"), nl=False)
        return
    print_table(results)
    for one in results["differences"]:
        verdict = "significant" if one["significant"] else "may be chance"
        typer.echo(f"{one['a']} over {one['b']}: {100 * one['average']['value']:+.2f}, p {one['p']:.4f}: {verdict}")
    typer.echo(f"report: {target / REPORT}")


def print_table(results: dict[str, Any]) -> None:
    """Print the average of each system, published ones among them, best first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = [
        (name, one["average"]["value"], f"{100 * one['average']['low']:.2f}–{100 * one['average']['high']:.2f}")
        for name, one in results["systems"].items()
    ]
    rows += [(name, one["average"], "published") for name, one in results["published"].items()]
    names = [one["name"] for one in results["sets"]]
    what = f"average over {len(names)} sets" if len(names) > 1 else names[0]
    table = Table(title=escape(f"nDCG@10 × 100, {what}"), title_justify="left")
    table.add_column("system", overflow="fold")
    table.add_column("nDCG@10", justify="right")
    table.add_column("95% interval", justify="right")
    for name, value, note in sorted(rows, key=lambda row: -row[1]):
        table.add_row(escape(name), f"{100 * value:.2f}", note)
    Console(highlight=False).print(table)
    if results["left_out"]:
        typer.echo(f"left out: {', '.join(results['left_out'])}")
