"""`zhihui eval curves`: what smaller vectors cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zhihui.commands.one_set import Mirror, SetFolder, Split, Task


def command(
    model: Annotated[str, typer.Argument(help="Folder or hub id of an embedding model.", metavar="MODEL")],
    data: SetFolder = None,
    task: Task = None,
    data_dir: Mirror = None,
    dimensions: Annotated[
        list[int] | None,
        typer.Option(
            help="Numbers a vector is cut to; may be given several times.", show_default="all, half, ... down to 32"
        ),
    ] = None,
    rescored: Annotated[
        int, typer.Option(help="Binary: the nearest passages whose order is found anew by the query's own numbers.")
    ] = 100,
    split: Split = "test",
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default one under runs/ for each set and model.")
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="The task in words, in place of the task's own and the model's query prompt.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU if any.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; no progress bar.")] = False,
) -> None:
    """Measure a model's vectors cut to fewer numbers and stored in float32, int8 or single bits; encode once."""
    from zhihui import progress
    from zhihui.encoder import load
    from zhihui.evaluation.curves import CurvesConfig
    from zhihui.evaluation.curves_stage import REPORT, RESULTS, curves_files
    from zhihui.evaluation.sets import one_set
    from zhihui.runs import fingerprint, read_json, to_json

    progress.quiet(as_json)
    config = CurvesConfig(dimensions=tuple(dimensions or ()), rescored=rescored, seed=seed)
    measured = one_set(data, task, data_dir, split=split)
    encoder = load(model, device=device)
    config.lengths(encoder.dimension)
    made = [measured.name, measured.fingerprint, measured.split, instruction, config, encoder.fingerprint]
    target = out or Path("runs") / f"curves-{fingerprint(made)[:10]}"
    curves_files(measured, target, encoder, config, instruction=instruction, overwrite=overwrite)
    results = read_json(target / RESULTS)
    if as_json:
        typer.echo(to_json({"out": target, **results}, indent=2))
        return
    print_table(results)
    typer.echo(f"report: {target / REPORT}")


def print_table(results: dict[str, Any]) -> None:
    """Print every way of storing with its size and its score."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{results['model']} on {results['set_name']} ({results['split']})"))
    table.add_column("stored as")
    for label in ("dimensions", "bytes", "nDCG@10 × 100", "change"):
        table.add_column(label, justify="right")
    for one in results["points"]:
        change = "" if one["change"] is None else f"{100 * one['change']['value']:+.2f}"
        sizes = (f"{one['dimensions']:,}", f"{one['bytes']:,.0f}")
        table.add_row(one["precision"], *sizes, f"{100 * one['value']['value']:.2f}", change)
    Console(highlight=False).print(table)
