"""`zhihui adapt`: a decoder learns from raw text to look both ways (masked next-token prediction)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhihui.commands.stage_options import AsJson, ConfigFile, Device, Overwrite, Show


def command(
    texts: Annotated[
        Path,
        typer.Argument(
            help="Raw text: rows with a text (.jsonl, .jsonl.gz, .parquet) or .txt, one text a line.", metavar="TEXTS"
        ),
    ],
    model: Annotated[str, typer.Option(help="Folder or hub id of a decoder; its causal mask is removed.")],
    out: Annotated[Path, typer.Option(help="Output folder; it gets model/ and history.json.")],
    config: ConfigFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, as in share=0.2; several times."),
    ] = None,
    field: Annotated[str | None, typer.Option(help="Key of the text in a row; by default the obvious one.")] = None,
    device: Device = None,
    show: Show = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a decoder to bidirectional attention on raw text, before it is trained on examples."""
    from zhihui import progress
    from zhihui.config import read_settings, to_yaml
    from zhihui.runs import to_json
    from zhihui.training.adapt import MODEL, AdaptConfig, adapt_files

    progress.quiet(as_json)
    wanted = read_settings(AdaptConfig, config, settings)
    if show:
        typer.echo(to_yaml(wanted), nl=False)
        return

    from zhihui.encoder import load

    manifest = adapt_files(
        texts,
        load(model, device=device, dtype="float32", attention="bidirectional"),
        out,
        wanted,
        field=field,
        name=str(out / MODEL),
        overwrite=overwrite,
    )
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    typer.echo(f"{out / MODEL}: {counts['texts']:,} texts, {counts['steps']:,} steps")
    typer.echo(f"  loss: {counts['first_loss']:.4f} nats at first, {counts['last_loss']:.4f} at last")
