"""`zhihui chunk`: documents of any format as a corpus of clean passages."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Fold(StrEnum):
    """The script texts are brought to."""

    NONE = "none"
    SIMPLIFIED = "simplified"
    TRADITIONAL = "traditional"


class ScriptName(StrEnum):
    """The script passages are in."""

    ANY = "any"
    SIMPLIFIED = "simplified"
    TRADITIONAL = "traditional"


def command(
    data: Annotated[
        Path,
        typer.Argument(
            help="File, or folder with its subfolders: text, Markdown, HTML, PDF, DOCX, JSON lines, Parquet, CSV.",
            metavar="DOCUMENTS",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id of the model whose tokens are counted; else characters.")
    ] = None,
    size: Annotated[
        int, typer.Option("--size", "--tokens", help="Tokens of a passage at most; characters without --model.")
    ] = 256,
    overlap: Annotated[int, typer.Option(help="Whole sentences a passage repeats of the one before it.")] = 1,
    least: Annotated[int, typer.Option(help="Letters, digits and Chinese characters a passage has at least.")] = 8,
    min_chinese: Annotated[
        float, typer.Option(help="Share of Chinese characters among a passage's letters, at least.")
    ] = 0.0,
    script: Annotated[ScriptName, typer.Option(help="Leave out passages in the other script.")] = ScriptName.ANY,
    fold: Annotated[Fold, typer.Option(help="Bring every text to this script.")] = Fold.NONE,
    nfkc: Annotated[
        bool, typer.Option("--nfkc", help="Make full-width letters and the like plain; Chinese punctuation stays.")
    ] = False,
    repeated: Annotated[
        float, typer.Option(help="Lines at the edges of this share of the files are boilerplate; 1 keeps them.")
    ] = 0.5,
    join: Annotated[
        bool, typer.Option("--join/--no-join", help="Join lines wrapped at a fixed width, in text and PDF.")
    ] = True,
    field: Annotated[
        str | None, typer.Option(help="Key of the text in rows; by default text, or the obvious one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON; no progress bar.")] = False,
) -> None:
    """Clean documents and cut them into passages at sentence ends: a corpus to index, mine or write queries for."""
    from zhihui import progress
    from zhihui.corpus import ChunkConfig
    from zhihui.corpus.stage import CORPUS, chunk_files
    from zhihui.records import REJECTED
    from zhihui.runs import to_json

    progress.quiet(as_json)
    config = ChunkConfig(
        size=size,
        overlap=overlap,
        least=least,
        min_chinese=min_chinese,
        script=script.value,
        fold=fold.value,
        nfkc=nfkc,
        repeated=repeated,
        join=join,
        field=field,
    )
    manifest = chunk_files(data, out, config, model=model, overwrite=overwrite)
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    sizes = counts["lengths"]
    typer.echo(f"{out / CORPUS}: {counts['passages']:,} passages of {counts['documents']:,} documents")
    spread = " / ".join(f"{sizes[key]:,}" for key in ("p5", "p50", "p95"))
    typer.echo(f"  {counts['unit']} a passage (5 / 50 / 95 %, max): {spread}, {sizes['max']:,}")
    for line in counts["boilerplate"]:
        typer.echo(f"  taken off as boilerplate: {line}")
    for reason, count in counts["rejected"].items():
        typer.echo(f"  set aside: {count:,} ({reason}); see {out / REJECTED}")
