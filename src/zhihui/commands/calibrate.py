"""`zhihui calibrate`: a model of terms weighs its parts as a set's queries ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhihui.commands.stage_options import AsJson, ConfigFile, Device, Overwrite, Show


def command(
    data: Annotated[Path, typer.Argument(help="BEIR folder: corpus, queries, judgements.", metavar="FOLDER")],
    out: Annotated[Path, typer.Option(help="Output folder; it gets model/.")],
    model: Annotated[str, typer.Option(help="Folder or hub id of a model of terms, or nano.")] = "nano",
    split: Annotated[str, typer.Option(help="Whose queries are chosen by; never the one to measure on.")] = "train",
    config: ConfigFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in queries=500; several times."),
    ] = None,
    device: Device = None,
    show: Show = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Choose how a model of terms weighs lengths, repetitions and its semantic part, by a set's training queries."""
    from zhihui import progress
    from zhihui.config import read_settings, to_yaml
    from zhihui.evaluation.calibration import CalibrationConfig
    from zhihui.runs import to_json

    progress.quiet(as_json)
    wanted = read_settings(CalibrationConfig, config, settings)
    if show:
        typer.echo(to_yaml(wanted), nl=False)
        return

    from zhihui.encoder import load
    from zhihui.encoder.stage import MODEL
    from zhihui.evaluation.calibration_stage import calibrate_files
    from zhihui.records.beir import check_split

    check_split(data, split)
    manifest = calibrate_files(
        data, load(model, device=device), out, wanted, split=split, name=str(out / MODEL), overwrite=overwrite
    )
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    typer.echo(f"{out / MODEL}: chosen on {counts['queries']:,} queries, {counts['passages']:,} passages")
    for label in ("before", "after"):
        found = counts[label]
        typer.echo(
            f"  {label:<7}nDCG@10 {found['ndcg_at_10']:.3f}: semantic share {found['share']:.2f}, "
            f"saturation {found['saturation']:.2f}, length {found['length']:.2f}"
        )
