"""`zhihui eval slices`: how models bear the same question asked otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zhihui.commands.evaluate import Baseline
from zhihui.commands.one_set import Mirror, SetFolder, Split, Task


def command(
    models: Annotated[
        list[str] | None, typer.Argument(help="Folders or hub ids of embedding models.", metavar="[MODEL]...")
    ] = None,
    data: SetFolder = None,
    task: Task = None,
    data_dir: Mirror = None,
    split: Split = "test",
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default one under runs/ for each set and choice of models.")
    ] = None,
    baseline: Annotated[Baseline, typer.Option(help="Measure BM25 over Chinese words too.")] = Baseline.BM25,
    instruction: Annotated[
        str | None, typer.Option(help="The task in words, in place of the task's own and the models' query prompt.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the changes and of the bootstrap.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU if any.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; no progress bar.")] = False,
) -> None:
    """Measure models on a set's queries asked otherwise: with typos, in the other script, with small talk."""
    from zhihui import progress
    from zhihui.encoder import load
    from zhihui.errors import InputError
    from zhihui.evaluation.sets import check_one_set, one_set
    from zhihui.evaluation.slices_stage import REPORT, RESULTS, slices_files
    from zhihui.runs import fingerprint, read_json, to_json

    progress.quiet(as_json)
    check_one_set(data, task, data_dir, split=split)
    if not models and baseline is Baseline.NONE:
        raise InputError("nothing to measure; name a model, or leave out --baseline none")
    measured = one_set(data, task, data_dir, split=split)
    encoders = [load(model, device=device) for model in models or []]
    names = [encoder.name for encoder in encoders]
    if len(set(names)) < len(names) or "bm25" in names:
        names = models or []  # folders of one name are told apart by their paths
    if len(set(names)) < len(names):
        raise InputError(f"a model is given twice ({', '.join(names)}); name each once")
    made = [
        measured.name,
        measured.fingerprint,
        measured.split,
        baseline,
        instruction,
        seed,
        [one.fingerprint for one in encoders],
    ]
    target = out or Path("runs") / f"slices-{fingerprint(made)[:10]}"
    slices_files(
        measured,
        target,
        dict(zip(names, encoders, strict=True)),
        baseline=baseline is Baseline.BM25,
        instruction=instruction,
        seed=seed,
        overwrite=overwrite,
    )
    results = read_json(target / RESULTS)
    if as_json:
        typer.echo(to_json({"out": target, **results}, indent=2))
        return
    print_table(results)
    typer.echo(f"report: {target / REPORT}")


def print_table(results: dict[str, Any]) -> None:
    """Print each slice with the scores of every system and what the change did to them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"nDCG@10 × 100 on {results['set_name']} ({results['split']}); below it the change, query by query"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("slice")
    table.add_column("queries", justify="right")
    for name in results["systems"]:
        table.add_column(escape(name), justify="right", overflow="fold")
    for one in results["slices"]:
        cells = []
        for name in results["systems"]:
            score = one["scores"][name]
            change = "" if score["change"] is None else f"\n{100 * score['change']['value']:+.2f}"
            cells.append(f"{100 * score['value']['value']:.2f}{change}")
        table.add_row(one["name"], f"{one['queries']:,}", *cells)
    Console(highlight=False).print(table)
    for name, one in results["truncation"].items():
        share = 100 * one["cut"] / one["passages"]
        typer.echo(f"{name}: reads {one['max_length']} tokens, cuts {share:.1f}% of the passages")
