"""`zhihui eval`: retrieval systems measured on sets in the BEIR layout."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from zhihui.errors import InputError


class Baseline(StrEnum):
    """What the models are compared with."""

    BM25 = "bm25"
    NONE = "none"


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders or hub ids of embedding models; none measures the baseline.", metavar="[MODEL]..."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="BEIR folder, or a folder of BEIR folders; may be given several times."),
    ] = None,
    split: Annotated[str, typer.Option(help="Judgements to measure on, those of qrels/SPLIT.tsv.")] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default one under runs/ for each evaluation.")
    ] = None,
    baseline: Annotated[
        Baseline, typer.Option(help="Measure BM25 over Chinese words too, and compare with it.")
    ] = Baseline.BM25,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Measure each model fused with BM25 by reciprocal rank too.")
    ] = False,
    instruction: Annotated[
        str | None, typer.Option(help="The task in words, in place of the models' own query prompt.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU if any.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; no progress bar.")] = False,
) -> None:
    """Measure models on retrieval sets with mteb's metrics, each with its interval, and write a report."""
    from zhihui import progress
    from zhihui.encoder import load
    from zhihui.evaluation.stage import (
        REPORT,
        RESULTS,
        SETS,
        EvaluationConfig,
        Measurement,
        check_systems,
        set_folders,
        systems_of,
    )
    from zhihui.runs import fingerprint, read_json, to_json

    progress.quiet(as_json)
    if not data:
        raise InputError("no set to measure on; pass --data with a BEIR folder")
    config = EvaluationConfig(split=split, baseline=baseline.value, hybrid=hybrid, instruction=instruction)
    measurement = Measurement(set_folders(data), config)
    check_systems(len(models or []), config)
    encoders = [load(model, device=device) for model in models or []]
    names = [encoder.name for encoder in encoders]
    if len(set(names)) < len(names) or "bm25" in names:
        names = models or []  # folders of one name are told apart by their paths
    systems = systems_of(dict(zip(names, encoders, strict=True)), config)
    target = out or Path("runs") / f"eval-{fingerprint(measurement.identity(systems))[:10]}"
    measurement.run(systems, target, overwrite=overwrite)
    results = read_json(target / RESULTS)
    sets = measurement.sets
    if as_json:
        per_set = {name: read_json(target / SETS / name / RESULTS) for name in sets}
        typer.echo(to_json({"out": target, "average": results, "sets": per_set}, indent=2))
        return
    where = next(iter(sets)) if len(sets) == 1 else f"average over {len(sets)} sets"
    print_table({system.name: results[system.name] for system in systems}, f"{where}, with 95% intervals")
    typer.echo(f"report: {target / REPORT}")


_SHOWN = {
    "ndcg_at_10": "nDCG@10",
    "mrr_at_10": "MRR@10",
    "recall_at_10": "Recall@10",
    "recall_at_100": "Recall@100",
}
"""As many as fit 80 columns; the report has more."""


def print_table(results: Mapping[str, Any], title: str) -> None:
    """Print system -> metric -> value and interval as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    table.add_column("system", overflow="fold")
    for label in _SHOWN.values():
        table.add_column(label, justify="right", no_wrap=True, min_width=11)
    for name, metrics in results.items():
        cells = [metrics[metric] for metric in _SHOWN]
        table.add_row(escape(name), *(f"{c['value']:.3f}\n{c['low']:.3f}–{c['high']:.3f}" for c in cells))
    Console(highlight=False).print(table)
