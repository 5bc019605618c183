"""`zhihui train`: a model trained on examples by gradient-cached, hardness-weighted InfoNCE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhihui.commands.convert import OnError
from zhihui.commands.stage_options import AsJson, ConfigFile, Device, Overwrite, Show


def command(
    data: Annotated[
        Path, typer.Argument(help="File or folder of examples, or BEIR folder (its split train).", metavar="DATA")
    ],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model to start from.")],
    out: Annotated[Path, typer.Option(help="Output folder; it gets model/ and history.json.")],
    config: ConfigFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in loss.temperature=0.05; several times."),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="BEIR folder to measure on before, during (eval_steps) and after.")
    ] = None,
    dev_split: Annotated[str, typer.Option(help="Its split.")] = "dev",
    device: Device = None,
    on_error: Annotated[
        OnError, typer.Option(help="Unusable rows: stop at the first, or set them aside in rejected.jsonl.")
    ] = OnError.STOP,
    show: Show = False,
    preflight: Annotated[
        bool,
        typer.Option("--preflight", help="Show examples as the model will see them and what the run takes, and stop."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train a model; a run that was killed goes on from its last checkpoint (save_steps)."""
    from functools import partial

    from zhihui import progress
    from zhihui.config import read_settings, to_yaml
    from zhihui.runs import to_json
    from zhihui.training.config import TrainConfig

    progress.quiet(as_json)
    wanted = read_settings(TrainConfig, config, settings)
    if show:
        typer.echo(to_yaml(wanted), nl=False)
        return

    from zhihui.encoder import load
    from zhihui.evaluation.stage import during_training
    from zhihui.training.history import History
    from zhihui.training.stage import MODEL, read_training, train_files

    if preflight:
        from zhihui.training import preflight as before

        typer.echo(
            before.show(
                before.preflight(load(model, device=device, dtype="float32"), read_training(data, None), wanted)
            )
        )
        return

    from zhihui.training.processes import Processes

    processes = Processes.join(cpu=device == "cpu")  # under torchrun each takes its GPU before a model is loaded
    evaluate, measured_on = (None, None) if dev is None else during_training(dev, dev_split)
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
        told=None if as_json else partial(typer.echo, err=True),
    )
    if not processes.first:
        return
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    history = History.read(out)
    counts = manifest.counts
    typer.echo(f"{out / MODEL}: {counts['examples']:,} examples, {counts['steps']:,} steps")
    typer.echo(f"  loss: {history.loss[0][1]:.4f} at first, {history.loss[-1][1]:.4f} at last")
    for step, found in history.evaluations:
        typer.echo(f"  after {step:,} steps: " + ", ".join(f"{metric} {value:.4f}" for metric, value in found.items()))
    for reason, count in counts["rejected"].items():
        typer.echo(f"  set aside: {count:,} ({reason}); see {out / 'rejected.jsonl'}")
