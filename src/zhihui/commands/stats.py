"""`zhihui stats`: what a data set is like, before a day is spent training on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhihui.commands.convert import OnError
from zhihui.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

_SAMPLES = 20


def command(
    path: Annotated[Path, typer.Argument(help="Example file, folder of example files, or BEIR folder.")],
    tokenizer: Annotated[Path | None, typer.Option(help="Folder with a tokenizer.json: lengths in tokens too.")] = None,
    on_error: Annotated[
        OnError, typer.Option(help="Unusable rows: stop at the first, or leave them out and count them.")
    ] = OnError.STOP,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page to look at: charts, sampled examples, rejected rows.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Examples on the page.", show_default=str(_SAMPLES))
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of their draw.", show_default="0")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; no progress bar.")] = False,
) -> None:
    """Count rows, lengths, duplicates, scripts and faults of training examples or a retrieval set."""
    from zhihui import progress
    from zhihui.records import RejectLog
    from zhihui.records.statistics import collect
    from zhihui.runs import to_json

    progress.quiet(as_json)
    if html is None and (samples is not None or seed is not None):
        raise InputError("--samples and --seed are about the page; name it with --html")
    if html is not None and html.is_dir():
        raise InputError(f"{html}: is a folder; name a file, as in --html {html / 'page.html'}")
    rejects = RejectLog(None) if on_error is OnError.QUARANTINE else None
    found = collect(path, tokenizer=tokenizer, rejects=rejects)
    if html is not None:
        from zhihui.records.samples import write_page

        again = None if rejects is None else RejectLog(None)  # the rows left out are counted once
        write_page(html, path, drawn=samples or _SAMPLES, seed=seed or 0, rejects=again)
    if as_json:
        typer.echo(to_json(found, indent=2))
        return
    from rich.console import Console

    typer.echo(f"{path}: {found['rows']:,} rows")
    Console(highlight=False).print(_table(found))
    for line in _remarks(found):
        typer.echo(line)
    if html is not None:
        typer.echo(f"page: {html}")


def _table(found: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table()
    table.add_column("")
    for name in ("queries", "passages"):
        table.add_column(name, justify="right")
    sides = (found["queries"], found["passages"])
    for label, key in (("texts", "count"), ("duplicates", "duplicates"), ("near-empty", "near_empty")):
        table.add_row(label, *(f"{side[key]:,}" for side in sides))
    for label, key in (("characters", "chars"), ("tokens", "tokens")):
        if any(side[key] for side in sides):
            table.add_row(f"{label}: 5 / 50 / 95 %, max", *(_spread(side[key]) for side in sides))
    if all(side["script"] for side in sides):
        for script in sides[0]["script"]:
            table.add_row(_SCRIPTS[script], *(f"{side['script'][script]:.1%}" for side in sides))
    return table


_SHOWN = 20  # sources or splits in the readable form
_SCRIPTS = {
    "simplified": "simplified",
    "traditional": "traditional",
    "mixed": "simplified and traditional mixed",
    "shared": "Chinese, of either script",
    "none": "without Chinese",
}


def _spread(summary: dict[str, float] | None) -> str:
    if summary is None:
        return "-"
    return " / ".join(f"{summary[key]:,}" for key in ("p5", "p50", "p95")) + f", {summary['max']:,}"


def _remarks(found: dict[str, Any]) -> list[str]:
    pairs, per_row = found["pairs"], found["per_row"]
    lines = [
        f"pairs of query and positive: {pairs['count']:,}, of them repeated: {pairs['duplicates']:,}",
        f"positives a row (5 / 50 / 95 %, max): {_spread(per_row['positives'])}",
        f"negatives a row (5 / 50 / 95 %, max): {_spread(per_row['negatives'])}",
        f"rows with a negative equal to a positive: {found['negative_is_positive']:,}",
    ]
    for what, counts in (("source", found.get("sources", {})), ("split", found.get("splits", {}))):
        shown = list(counts.items())[:_SHOWN]
        lines += [f"{what} {name or '(none)'}: {count:,} rows" for name, count in shown]
        if len(counts) > _SHOWN:
            lines.append(f"and {len(counts) - _SHOWN} {what}s more; --json lists all")
    if found["queries"]["script"] is None:
        lines.append("scripts were not counted: pip install 'zhihui[mine]'")
    lines += [f"left out: {count:,} rows ({reason})" for reason, count in sorted(found["rejected"].items())]
    return lines
