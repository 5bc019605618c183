"""`zhihui export`: a model as a folder that transformers and sentence-transformers load without zhihui."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Dtype(StrEnum):
    """What the weights are written in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Pooling(StrEnum):
    """Which hidden states make the vector."""

    LASTTOKEN = "lasttoken"
    MEAN = "mean"
    CLS = "cls"


class Attention(StrEnum):
    """Which tokens a decoder's token sees."""

    BIDIRECTIONAL = "bidirectional"
    CAUSAL = "causal"


def command(
    model: Annotated[str, typer.Argument(help="Folder or hub id of a model.", metavar="MODEL")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    name: Annotated[
        str | None, typer.Option(help="What the model card's code loads, such as a hub id; by default the folder.")
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="Write the weights in this; auto is what they are stored in.")
    ] = Dtype.AUTO,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens a text is cut to, prompt included; by default the model's own.")
    ] = None,
    pooling: Annotated[Pooling | None, typer.Option(help="In place of the model's own.")] = None,
    attention: Annotated[
        Attention | None, typer.Option(help="Decoders: in place of what the model's config says.")
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(help='The task in words, as the query prompt; "" for bare queries.'),
    ] = None,
    query_prompt: Annotated[
        str | None, typer.Option(help="Whole text before a query, in place of --instruction.")
    ] = None,
    document_prompt: Annotated[
        str | None, typer.Option(help="Text before a document; by default the model's own.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... for the check; by default a GPU if any.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; no progress bar.")] = False,
) -> None:
    """Write a model with its card for transformers and sentence-transformers, and check that both give its vectors."""
    from zhihui import progress
    from zhihui.encoder.export import check_free
    from zhihui.encoder.export_check import export_checked, hushed, tolerance
    from zhihui.encoder.stage import ExportConfig
    from zhihui.runs import to_json

    progress.quiet(as_json)
    config = ExportConfig(
        name=name,
        dtype=dtype.value,
        max_length=max_length,
        pooling=None if pooling is None else pooling.value,
        attention=None if attention is None else attention.value,
        instruction=instruction,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
    )
    check_free(out, overwrite=overwrite)
    watched = sys.stderr.isatty() and not as_json
    with nullcontext() if watched else hushed():
        encoder = config.load(model, device=device)
        difference = export_checked(encoder, out, name=name, overwrite=overwrite)
    report = _report(encoder) | {"out": out, "largest_difference": difference, "tolerance": tolerance(encoder)}
    if as_json:
        typer.echo(to_json(report, indent=2))
        return
    typer.echo(
        f"{out}: {report['family']}, {report['parameters']:,} parameters in {report['dtype']}, "
        f"{report['attention']}, {report['pooling']} pooling, vectors of {report['dimension']:,} numbers"
    )
    typer.echo(
        f"  vectors in {' and '.join(report['checked_with'])} differ from its own by at most {difference:.1e} "
        f"({report['tolerance']:.1e} allowed)"
    )
    if len(report["checked_with"]) == 1:
        typer.echo(
            "  not checked with sentence-transformers, which is not installed: pip install sentence-transformers"
        )


def _report(encoder: Any) -> dict[str, Any]:
    from zhihui.encoder.export_check import checked_with

    settings = encoder.settings
    return {
        "family": encoder.backbone.config.model_type,
        "parameters": sum(weights.numel() for weights in encoder.parameters()),
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "attention": "causal" if encoder.is_causal else "bidirectional",
        "pooling": settings.pooling,
        "dimension": encoder.dimension,
        "max_length": settings.max_length,
        "prompts": settings.prompts,
        "checked_with": checked_with(),
    }
