"""`zhihui eval`: retrieval systems measured on sets in the BEIR layout and on the tasks of C-MTEB."""

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
    task: Annotated[
        list[str] | None,
        typer.Option(help="Retrieval task of C-MTEB, such as T2Retrieval, or all; may be given several times."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Local mirror of the tasks' data sets, in the hub's layouts; by default they are fetched."),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="Published system to run, such as zhihui or gte-qwen2-7b; may be given several times."),
    ] = None,
    model_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the system's model, or of several by repository name; else they are fetched."),
    ] = None,
    split: Annotated[str, typer.Option(help="Judgements of BEIR sets, those of qrels/SPLIT.tsv.")] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default one under runs/ for each evaluation.")
    ] = None,
    baseline: Annotated[
        Baseline, typer.Option(help="Measure BM25 over Chinese words too, and compare with it.")
    ] = Baseline.BM25,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Measure each model fused with BM25 too, by a weighted sum of scores.")
    ] = False,
    dense_share: Annotated[
        float, typer.Option(help="Of the model's scores in that sum, 0 to 1; the rest is BM25's.")
    ] = 0.6,
    rrf: Annotated[
        bool, typer.Option("--rrf", help="Measure each model fused with BM25 by reciprocal rank too.")
    ] = False,
    random: Annotated[bool, typer.Option("--random", help="Measure passages drawn at random too.")] = False,
    instruction: Annotated[
        str | None, typer.Option(help="The task in words, in place of the tasks' own and the models' query prompt.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens a text is cut to; by default the model's own, at most 512.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of vectors that several runs share; each text is encoded once.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            "--devices",
            help="cpu, cuda, cuda:1, ...; several times for a process on each. By default a GPU if any.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Encode on the CPU in this many processes, in place of --device.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Print the published scores of all known systems, and measure nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; no progress bar.")] = False,
) -> None:
    """Measure models on retrieval sets with mteb's metrics, each with its interval, and write a report."""
    from contextlib import ExitStack

    from zhihui import progress
    from zhihui.encoder.cache import BLOCK
    from zhihui.encoder.devices import check_device
    from zhihui.evaluation.cmteb import find_tasks
    from zhihui.evaluation.registry_models import open_all, sources_of
    from zhihui.evaluation.sets import beir_sets, set_folders, task_sets
    from zhihui.evaluation.stage import (
        REPORT,
        RESULTS,
        SETS,
        EvaluationConfig,
        Measurement,
        check_systems,
        systems_of,
    )
    from zhihui.runs import fingerprint, read_json, to_json

    progress.quiet(as_json)
    if published:
        print_published(as_json)
        return
    if data_dir is not None and not task:
        raise InputError(f"--data-dir {data_dir} is a mirror of C-MTEB's data sets; name tasks with --task, or all")
    if device and workers is not None:
        raise InputError("--device and --workers exclude each other; --workers N is N times --device cpu")
    config = EvaluationConfig(
        split=split,
        baseline=baseline.value,
        hybrid=hybrid,
        dense_share=dense_share,
        rrf=rrf,
        random=random,
        instruction=instruction,
    )
    tasks = find_tasks(task or [])
    sources = sources_of(
        models or [],
        system or [],
        model_dir=model_dir,
        forced=instruction is not None,
        max_length=max_length,
        trust_remote_code=trust_remote_code,
    )
    devices = ["cpu"] * workers if workers is not None else device or []
    for name in devices:
        check_device(name)
    folders = set_folders(data or [])
    check_systems(len(sources), config)
    measurement = Measurement([*beir_sets(folders, split), *task_sets(tasks, data_dir)], config)
    with ExitStack() as running:
        encoders = open_all(sources, devices, running)
        about = {name: source.about for name, source in zip(encoders, sources, strict=True)}
        systems = systems_of(encoders, config, instructions=measurement.instructions, about=about)
        target = out or Path("runs") / f"eval-{fingerprint(measurement.identity(systems))[:10]}"
        measurement.run(systems, target, cache=cache, block=BLOCK * max(1, len(devices)), overwrite=overwrite)
    results = read_json(target / RESULTS)
    sets = measurement.sets
    if as_json:
        per_set = {name: read_json(target / SETS / name / RESULTS) for name in sets}
        typer.echo(to_json({"out": target, "average": results, "sets": per_set}, indent=2))
        return
    where = next(iter(sets)) if len(sets) == 1 else f"average over {len(sets)} sets"
    print_table({system.name: results[system.name] for system in systems}, f"{where}, with 95% intervals")
    typer.echo(f"report: {target / REPORT}")


def print_published(as_json: bool) -> None:
    """Print what the known systems scored where they were published, nDCG@10 in percent."""
    from rich.console import Console
    from rich.table import Table

    from zhihui.evaluation.cmteb import tasks
    from zhihui.evaluation.registry import systems
    from zhihui.runs import to_json

    if as_json:
        typer.echo(to_json(systems(), indent=2))
        return
    table = Table(title="Published nDCG@10, percent", title_justify="left")
    table.add_column("--system", no_wrap=True)
    for name in (*tasks(), "average"):
        table.add_column(name.removesuffix("Retrieval"), justify="right", no_wrap=True)
    for key, one in systems().items():
        cells = [one.scores[name] for name in tasks()]
        table.add_row(key, *(f"{cell:.2f}" for cell in (*cells, one.average)))
    Console(highlight=False, width=max(104, Console().width)).print(table)


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
