"""`zhihui eval`: retrieval systems measured on sets in the BEIR layout."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhihui.errors import InputError

if TYPE_CHECKING:
    from zhihui.evaluation import DenseSystem, Evaluation, RetrievalSystem
    from zhihui.records import RetrievalSet

RESULTS, REPORT, SETS, MTEB = "results.json", "report.html", "sets", "mteb"
"""What the output folder holds, beside the manifest."""


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
    from zhihui.runs import fingerprint, fingerprint_path, read_json, run_stage, to_json

    progress.quiet(as_json)
    folders = _set_folders(data or [])
    sets = _read_sets(folders, split)
    systems = _systems(models or [], baseline=baseline, hybrid=hybrid, instruction=instruction, device=device)
    config = {"split": split, "systems": [system.name for system in systems], "instruction": instruction}
    inputs = {f"set:{name}": fingerprint_path(folder) for name, folder in folders.items()}
    inputs |= {f"system:{system.name}": system.fingerprint for system in systems}
    target = out or Path("runs") / f"eval-{fingerprint([inputs, config])[:10]}"
    run_stage(
        "evaluate",
        target,
        lambda folder: _measure(folder, sets, systems, split, instruction),
        inputs=inputs,
        config=config,
        overwrite=overwrite,
    )
    results = read_json(target / RESULTS)
    if as_json:
        per_set = {name: read_json(target / SETS / name / RESULTS) for name in sets}
        typer.echo(to_json({"out": target, "average": results, "sets": per_set}, indent=2))
        return
    where = next(iter(sets)) if len(sets) == 1 else f"average over {len(sets)} sets"
    print_table({system.name: results[system.name] for system in systems}, f"{where}, with 95% intervals")
    typer.echo(f"report: {target / REPORT}")


# --------------------------------------------------------------------------- what is measured


def _set_folders(given: list[Path]) -> dict[str, Path]:
    """Return the BEIR folders by name, those inside a given folder included."""
    from zhihui.records import is_beir

    if not given:
        raise InputError("no set to measure on; pass --data with a BEIR folder")
    found: dict[str, Path] = {}
    for path in given:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder")
        inside = [path] if is_beir(path) else sorted(child for child in path.iterdir() if is_beir(child))
        if not inside:
            raise InputError(f"{path}: neither a BEIR folder nor a folder of such; a set has corpus.jsonl in it")
        for folder in inside:
            name = folder.resolve().name
            if name in found and found[name].resolve() != folder.resolve():
                raise InputError(f"{folder} and {found[name]}: two sets of one name; rename a folder")
            found[name] = folder
    return found


def _read_sets(folders: Mapping[str, Path], split: str) -> dict[str, RetrievalSet]:
    """Read all sets before anything is encoded: a missing split must not show after hours."""
    from zhihui.records import read_beir

    sets = {name: read_beir(folder) for name, folder in folders.items()}
    for one in sets.values():
        one.judged(split)
    return sets


def _systems(
    models: list[str], *, baseline: Baseline, hybrid: bool, instruction: str | None, device: str | None
) -> list[RetrievalSystem]:
    """Build the systems in the order they are shown: baseline, models, hybrids."""
    from zhihui.encoder import load
    from zhihui.evaluation import Bm25System, DenseSystem, HybridSystem

    if not models and baseline is Baseline.NONE:
        raise InputError("nothing to measure; name a model, or leave out --baseline none")
    if hybrid and not models:
        raise InputError("--hybrid fuses BM25 with a model; name a model")

    encoders = [load(model, device=device) for model in models]
    names = [encoder.name for encoder in encoders]
    if len(set(names)) < len(names) or "bm25" in names:
        names = models  # folders of one name are told apart by their paths
    bm25 = Bm25System()
    dense: list[DenseSystem] = [
        DenseSystem(encoder, name=name, instruction=instruction) for encoder, name in zip(encoders, names, strict=True)
    ]
    systems: list[RetrievalSystem] = [] if baseline is Baseline.NONE else [bm25]
    systems += dense
    if hybrid:
        label = "hybrid" if len(dense) == 1 else "hybrid of {}"
        systems += [HybridSystem([bm25, one], name=label.format(one.name)) for one in dense]
    return systems


# --------------------------------------------------------------------------- measuring


def _measure(
    folder: Path,
    sets: Mapping[str, RetrievalSet],
    systems: list[RetrievalSystem],
    split: str,
    instruction: str | None,
) -> dict[str, Any]:
    """Evaluate set by set; a set an earlier attempt finished is read back."""
    from zhihui.evaluation import write_report, write_results_json
    from zhihui.evaluation.stored import read_found, write_found

    evaluations: list[Evaluation] = []
    for name, one in sets.items():
        found = folder / SETS / name / "found.jsonl"
        if found.is_file():
            evaluations.append(read_found(found, one))
            continue
        evaluation = _measure_set(folder / MTEB, one, systems, split, instruction)
        write_results_json(folder / SETS / name / RESULTS, evaluation)
        write_found(found, evaluation)  # last: it marks the set as done
        evaluations.append(evaluation)
    write_results_json(folder / RESULTS, evaluations)
    settings = {
        "split": split,
        "sets": list(sets),
        "systems": [system.name for system in systems],
        "query instruction": instruction or "the models' own",
        "passages ranked": 1000,
    }
    title = f"Retrieval on {next(iter(sets)) if len(sets) == 1 else f'{len(sets)} sets'}"
    write_report(folder / REPORT, title=title, evaluation=evaluations, settings=settings)
    return {
        "sets": len(sets),
        "systems": len(systems),
        "queries": sum(len(one.query_ids) for one in evaluations),
        "passages": sum(len(one.corpus) for one in sets.values()),
    }


def _measure_set(
    folder: Path, data: RetrievalSet, systems: list[RetrievalSystem], split: str, instruction: str | None
) -> Evaluation:
    """Evaluate one set, and let mteb score the same rankings into its own result files."""
    from zhihui.evaluation import evaluate, mteb_tasks
    from zhihui.ranking import TopK

    task = mteb_tasks.make_task(data, split, instruction=instruction)

    def keep(system: RetrievalSystem, ranking: TopK) -> None:
        model = mteb_tasks.RankingSearch(ranking, data, split, name=system.name, revision=system.fingerprint)
        mteb_tasks.write_mteb_results(folder, model, [task])

    return evaluate(data, split, systems, observe=keep)


# --------------------------------------------------------------------------- showing


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
