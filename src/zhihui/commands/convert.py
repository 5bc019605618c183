"""`zhihui convert`: examples from one format to another."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OnError(StrEnum):
    """What an unusable row does."""

    STOP = "stop"
    QUARANTINE = "quarantine"


def command(
    source: Annotated[Path, typer.Argument(help="File or folder to read.", metavar="SRC")],
    target: Annotated[Path, typer.Argument(help="File or folder to write.", metavar="DST")],
    source_format: Annotated[
        str | None,
        typer.Option("--from", help="native, sentence-transformers, tevatron, ms-swift or beir; else told by SRC."),
    ] = None,
    target_format: Annotated[
        str | None, typer.Option("--to", help="The same names; else native for a file and beir for a folder.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="BEIR: the only split to read, or the split to write (else all, and test)."),
    ] = None,
    negatives: Annotated[
        int | None,
        typer.Option(min=0, help="Keep the first N negatives of each row; a row with fewer is unusable."),
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(help="Unusable rows: stop at the first, or set them aside in DST.rejected.jsonl."),
    ] = OnError.STOP,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON; no progress bar.")] = False,
) -> None:
    """Convert training examples and retrieval sets between formats; what a format cannot hold is reported."""
    from zhihui import progress
    from zhihui.records.conversion import convert
    from zhihui.runs import to_json

    progress.quiet(as_json)
    report = convert(
        source,
        target,
        source_format=source_format,
        target_format=target_format,
        split=split,
        negatives=negatives,
        quarantine=on_error is OnError.QUARANTINE,
        overwrite=overwrite,
    )
    if as_json:
        typer.echo(to_json(report, indent=2))
        return
    typer.echo(f"{target}: {report['written']} rows of {report['read']} examples, as {report['to']}")
    for reason, count in sorted(report["rejected"].items()):
        typer.echo(f"  set aside: {count} ({reason})")
    if report["rejected"]:
        typer.echo(f"  see {report['rejected_file']}")
    for field, count in sorted(report["lost"].items()):
        typer.echo(f"  {report['to']} has no place for {field}: dropped in {count} examples")
