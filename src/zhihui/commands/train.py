"""`zhihui train`: a model trained on examples by gradient-cached, hardness-weighted InfoNCE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhihui.commands.convert import OnError

if TYPE_CHECKING:
    from zhihui.encoder import Encoder


def command(
    data: Annotated[
        Path, typer.Argument(help="File or folder of examples, or BEIR folder (its split train).", metavar="DATA")
    ],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model to start from.")],
    out: Annotated[Path, typer.Option(help="Output folder; it gets model/ and history.json.")],
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in loss.temperature=0.05; several times."),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="BEIR folder to measure on before, during (eval_steps) and after.")
    ] = None,
    dev_split: Annotated[str, typer.Option(help="Its split.")] = "dev",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; by default a GPU if any.")] = None,
    on_error: Annotated[
        OnError, typer.Option(help="Unusable rows: stop at the first, or set them aside in rejected.jsonl.")
    ] = OnError.STOP,
    show: Annotated[
        bool, typer.Option("--show-settings", help="Print all settings as they would be used, and stop.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON; no progress bar.")] = False,
) -> None:
    """Train a model; a run that was killed goes on from its last checkpoint (save_steps)."""
    from dataclasses import asdict

    import yaml

    from zhihui import progress
    from zhihui.config import from_mapping, read_yaml, with_words
    from zhihui.runs import to_json
    from zhihui.training.config import TrainConfig

    progress.quiet(as_json)
    given = with_words(read_yaml(config) if config else {}, settings or [])
    wanted = from_mapping(TrainConfig, given, where=str(config) if config else "settings")
    if show:
        typer.echo(yaml.safe_dump(asdict(wanted), sort_keys=False, allow_unicode=True), nl=False)
        return

    from zhihui.encoder import load
    from zhihui.training.stage import MODEL, read_history, train_files

    evaluate, measured_on = (None, None) if dev is None else measure(dev, dev_split)
    manifest = train_files(
        data,
        load(model, device=device, dtype="float32"),
        out,
        wanted,
        name=str(out / MODEL),
        evaluate=evaluate,
        measured_on=measured_on,
        quarantine=on_error is OnError.QUARANTINE,
        overwrite=overwrite,
    )
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    history = read_history(out)
    counts = manifest.counts
    typer.echo(f"{out / MODEL}: {counts['examples']:,} examples, {counts['steps']:,} steps")
    typer.echo(f"  loss: {history.loss[0][1]:.4f} at first, {history.loss[-1][1]:.4f} at last")
    for step, found in history.evaluations:
        typer.echo(f"  after {step:,} steps: " + ", ".join(f"{metric} {value:.4f}" for metric, value in found.items()))
    for reason, count in counts["rejected"].items():
        typer.echo(f"  set aside: {count:,} ({reason}); see {out / 'rejected.jsonl'}")


def measure(folder: Path, split: str) -> tuple[Any, str]:
    """Return a function that measures an encoder on a split, and the fingerprint of what it measures."""
    from zhihui.evaluation import DenseSystem, evaluate
    from zhihui.records import read_beir
    from zhihui.runs import fingerprint, fingerprint_path

    data = read_beir(folder)
    data.judged(split)

    def scores(encoder: Encoder) -> dict[str, float]:
        (result,) = evaluate(data, split, [DenseSystem(encoder, name="model")]).systems
        return {metric: result.intervals[metric].value for metric in ("ndcg_at_10", "recall_at_100")}

    return scores, fingerprint([fingerprint_path(folder), split])
