"""`zhihui index export`: an index in the form that another vector database takes in."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Target(StrEnum):
    """What it is written for."""

    FAISS = "faiss"
    MILVUS = "milvus"
    QDRANT = "qdrant"


def command(
    index: Annotated[Path, typer.Argument(help="The index, as `zhihui index` wrote it.", metavar="INDEX")],
    out: Annotated[Path, typer.Argument(help="Output folder.", metavar="OUT")],
    to: Annotated[Target, typer.Option(help="What it is written for.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON; no progress bar.")] = False,
) -> None:
    """Write an index's passages and vectors for faiss, Milvus or Qdrant."""
    from zhihui import progress
    from zhihui.runs import to_json
    from zhihui.search import open_index
    from zhihui.search.exporting import export_index

    progress.quiet(as_json)
    with open_index(index) as opened:
        manifest = export_index(opened, out, to.value, overwrite=overwrite)
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    typer.echo(f"{out}: {counts['passages']:,} passages, vectors of {counts['dimension']:,} numbers, for {to.value}")
