"""`zhihui index`: documents as an index that is searched."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zhihui.search import IndexConfig


class BackendName(StrEnum):
    """How vectors are searched."""

    AUTO = "auto"
    FLAT = "flat"
    LANCEDB = "lancedb"


class Stored(StrEnum):
    """What vectors are stored in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


def command(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Files, or folders with their subfolders: text, Markdown, HTML, PDF, DOCX, JSON lines, Parquet, CSV, "
            "or a BEIR folder. The index will hold these and nothing else.",
            metavar="DOCUMENTS...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The index, a folder; one that is there is brought up to date.")],
    model: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of an embedding model; by default that of the index, or the shipped nano."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", "--tokens", help="Tokens of a passage at most.", show_default="256")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Whole sentences a passage repeats of the one before it.", show_default="1")
    ] = None,
    least: Annotated[
        int | None,
        typer.Option(help="Letters, digits and Chinese characters a passage has at least.", show_default="8"),
    ] = None,
    whole: Annotated[
        bool | None,
        typer.Option("--whole/--cut", help="Take each document or row as one passage, as a BEIR corpus always is."),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Key of the text in rows; by default text, or the obvious one.")
    ] = None,
    backend: Annotated[
        BackendName | None,
        typer.Option(help="How vectors are searched: flat, lancedb, or by their number.", show_default="auto"),
    ] = None,
    ann_from: Annotated[
        int | None,
        typer.Option(help="lancedb: passages from which the search is approximate.", show_default="50000"),
    ] = None,
    store_dtype: Annotated[
        Stored | None, typer.Option(help="Store the vectors in this.", show_default="float32")
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(help="Cut the vectors to this length, of those the model was trained for.", show_default="whole"),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Take other settings or another model than the index was made with.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... for the model; by default a GPU if any.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON; no progress bar.")] = False,
) -> None:
    """Index documents for searching, or bring an index up to date; only texts that are new are encoded."""
    from dataclasses import asdict

    from zhihui import progress
    from zhihui.search import IndexConfig
    from zhihui.search.checks import check_place
    from zhihui.search.writing import model_of, settings_of, update_index

    progress.quiet(as_json)
    check_place(data, out)
    chunk = {"size": size, "overlap": overlap, "least": least, "field": field}
    own = {
        "whole": whole,
        "backend": backend,
        "ann_from": ann_from,
        "store_dtype": store_dtype,
        "dimensions": dimensions,
    }
    config = _with(settings_of(out, rebuild=rebuild) or IndexConfig(), own, chunk)
    name = model or model_of(out, rebuild=rebuild) or "nano"

    from zhihui.encoder import load

    encoder = load(name, device=device)
    report = update_index(data, out, config, model=name, encoder=encoder, rebuild=rebuild)
    if as_json:
        from zhihui.runs import to_json

        typer.echo(to_json({"out": out, **asdict(report)}, indent=2))
        return
    about = report.description
    state = "" if report.changed else ", nothing changed"
    typer.echo(f"{out}: {about.passages:,} passages of {about.files:,} files{state}")
    typer.echo(
        f"  added {report.added:,}, kept {report.kept:,}, removed {report.removed:,}; "
        f"{report.embedded:,} encoded, {report.seconds:.1f} s"
    )
    if about.ann is not None:
        typer.echo("  {kind}: {probed} of {cells} cells are searched, recall {recall:.4f}".format(**about.ann))
    for reason, count in about.rejected.items():
        typer.echo(f"  set aside: {count:,} ({reason}); see rejected.jsonl in {out}")


def _with(config: IndexConfig, own: dict[str, Any], chunk: dict[str, Any]) -> IndexConfig:
    """Return settings with those laid over them that were given."""
    from dataclasses import replace

    inner = replace(config.chunk, **{name: value for name, value in chunk.items() if value is not None})
    given = {name: getattr(value, "value", value) for name, value in own.items() if value is not None}
    return replace(config, chunk=inner, **given)
