"""Options of the commands that measure on one retrieval set: a folder, or a task of C-MTEB in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SetFolder = Annotated[Path | None, typer.Option("--data", help="BEIR folder.")]
Task = Annotated[str | None, typer.Option(help="A task of C-MTEB in its place, such as T2Retrieval.")]
Mirror = Annotated[
    Path | None,
    typer.Option(help="Local mirror of the task's data set, in the hub's layouts; by default it is fetched."),
]
Split = Annotated[str, typer.Option(help="Judgements of a BEIR set, those of qrels/SPLIT.tsv.")]
