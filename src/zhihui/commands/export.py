"""`zhihui export`: a model as a folder that transformers and sentence-transformers load without zhihui."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zhihui.encoder.stage import ExportConfig
    from zhihui.evaluation.card import CardConfig


class Dtype(StrEnum):
    """What the weights are written in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT4 = "int4"


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
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; with --card it may be left out, and MODEL gets the card.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the model card's code loads, such as a hub id; by default the folder.")
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="Write the weights in this; auto is what they are stored in. int4: models of terms.")
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
    card: Annotated[
        bool,
        typer.Option("--card", help="Write a whole model card: training, results, limits, code that has been run."),
    ] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="--card: run of zhihui eval to take scores from; may be given several times."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="--card: name of the model in those runs; by default its fingerprint tells.")
    ] = None,
    trained: Annotated[
        Path | None, typer.Option(help="--card: run the model is from; by default the one that MODEL lies in.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--license", help="--card: identifier, such as apache-2.0.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="--card: hub id of the model that training began with.")
    ] = None,
    about: Annotated[
        Path | None, typer.Option(help="--card: Markdown file with sections of your own, such as sources.")
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
    on_card = _card_config(card, results, system, trained, licence, base_model, about)
    if out is None:
        _card_only(model, config, on_card, device=device, as_json=as_json)
        return
    check_free(out, overwrite=overwrite)
    watched = sys.stderr.isatty() and not as_json
    ran: list[str] = []
    with nullcontext() if watched else hushed():
        encoder = config.load(model, device=device)
        if on_card is None:
            difference = export_checked(encoder, out, name=name, overwrite=overwrite)
        else:
            from zhihui.evaluation.card import export_with_card, gather

            facts = gather(encoder, model, on_card)
            difference, ran = export_with_card(encoder, out, facts, on_card, name=name, overwrite=overwrite)
    report = _report(encoder) | {"out": out, "largest_difference": difference, "tolerance": tolerance(encoder)}
    if on_card is not None:
        report["card_ran_with"] = ran
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
    if ran:
        typer.echo(f"  its card's code ran with {' and '.join(ran)}")
    if len(report["checked_with"]) == 1:
        typer.echo(
            "  not checked with sentence-transformers, which is not installed: pip install sentence-transformers"
        )


def _card_config(
    card: bool,
    results: list[Path] | None,
    system: str | None,
    trained: Path | None,
    licence: str | None,
    base_model: str | None,
    about: Path | None,
) -> CardConfig | None:
    from zhihui.errors import InputError
    from zhihui.evaluation.card import CardConfig

    given = {"results": results, "system": system, "trained": trained, "license": licence}
    given |= {"base-model": base_model, "about": about}
    if not card:
        stray = [name for name, value in given.items() if value]
        if stray:
            raise InputError(f"--{stray[0]} is for the card; pass --card")
        return None
    return CardConfig(
        licence=licence,
        base_model=base_model,
        results=tuple(results or ()),
        system=system,
        trained=trained,
        about=about,
    )


def _card_only(
    model: str, config: ExportConfig, about: CardConfig | None, *, device: str | None, as_json: bool
) -> None:
    """Write the card of an exported model into its folder."""
    from zhihui.encoder.export import shown_name
    from zhihui.encoder.export_check import hushed
    from zhihui.encoder.stage import ExportConfig
    from zhihui.errors import InputError
    from zhihui.evaluation.card import CARD, gather, write_card
    from zhihui.runs import to_json

    if about is None:
        raise InputError("no folder to write; pass --out, or --card to write the card of MODEL alone")
    folder = Path(model)
    if not (folder / "modules.json").is_file():
        raise InputError(f"{model}: not an exported model; pass --out to export it with its card")
    if config != ExportConfig(name=config.name):
        raise InputError("the card alone changes nothing in the model; pass --out to write it with other settings")
    with hushed():
        encoder = config.load(model, device=device)
        facts = gather(encoder, model, about)
        ran = write_card(encoder, folder, facts, about, name=config.name or shown_name(folder))
    if as_json:
        report = {"card": folder / CARD, "results": len(facts.results), "card_ran_with": ran}
        typer.echo(to_json(report, indent=2))
        return
    typer.echo(f"{folder / CARD}: results on {len(facts.results)} sets; its code ran with {' and '.join(ran)}")


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
