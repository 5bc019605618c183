"""`zhihui quickstart`: the whole system once, on the shipped set or on one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    data: Annotated[
        Path | None, typer.Option(help="BEIR folder to run on; by default the Chinese set that is shipped.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/quickstart"),
    model: Annotated[
        str,
        typer.Option(
            help="Model to start from: nano, which is shipped, `fresh` for one built on the set's own text, a folder, "
            "or a hub id."
        ),
    ] = "nano",
    training_tokens: Annotated[int, typer.Option(help="Tokens to train on, about; fewer is quicker.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; no progress.")] = False,
) -> None:
    """Go through the whole system on one retrieval set: mining, training, measuring, exporting, searching.

    On the shipped set the report also shows the data engine at work, offline. A run that was killed goes on where it
    was and ends with the same numbers.
    """
    from zhihui import progress

    progress.quiet(as_json)

    from zhihui.errors import require
    from zhihui.runs import read_json, to_json

    for module, extra in (("accelerate", "train"), ("mteb", "eval"), ("bm25s", "mine")):
        require(module, extra=extra, purpose="the quickstart")
    from zhihui.quickstart import QuickstartConfig, quickstart
    from zhihui.quickstart.pipeline import RESULTS

    quickstart(
        out,
        QuickstartConfig(seed=seed, training_tokens=training_tokens),
        data=data,
        model=None if model == "fresh" else model,
        overwrite=overwrite,
        say=(lambda line: None) if as_json else (lambda line: typer.echo(line, err=True)),
    )
    results = read_json(out / RESULTS)
    if as_json:
        typer.echo(to_json({"out": out, "results": results}, indent=2))
        return
    _show(out, results)


def _show(out: Path, results: dict[str, dict[str, dict[str, float]]]) -> None:
    from rich.console import Console
    from rich.markup import escape

    from zhihui.commands.evaluate import print_table
    from zhihui.quickstart.pipeline import REPORT, SEARCHES
    from zhihui.quickstart.searches import read_searches
    from zhihui.training.stage import MODEL

    console = Console(highlight=False)
    for search in read_searches(out / SEARCHES):
        console.print(f"\n[bold]{escape(search.query)}[/bold]")
        for hit in search.hits:
            console.print(f"  {hit.score:.3f}  {escape(_excerpt(hit.text))}", soft_wrap=True)
    console.print()
    order = ("bm25", "before", "after", "hybrid")
    print_table({name: results[name] for name in order}, "test queries, with 95% intervals")
    for name, what in ((REPORT, "open it"), (MODEL, "load it with sentence-transformers or transformers")):
        console.print(f"{out / name}: {what}", markup=False, soft_wrap=True)


def _excerpt(text: str, length: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[:length]}…"
