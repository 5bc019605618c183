"""`zhihui dedup`: training examples without repetitions and without what an evaluation asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhihui.commands.convert import OnError


def command(
    data: Annotated[Path, typer.Argument(help="File or folder of examples, or BEIR folder.", metavar="DATA")],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(help="BEIR folder of an evaluation set to keep training clear of; may be given several times."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Near-duplicates share this much of their runs of four characters (Jaccard).")
    ] = 0.8,
    within: Annotated[
        bool, typer.Option("--within/--no-within", help="Whether examples that repeat an earlier one go.")
    ] = True,
    passages: Annotated[
        str, typer.Option(help="Passages of the evaluation sets that are protected: relevant, all or none.")
    ] = "relevant",
    against_split: Annotated[
        list[str] | None,
        typer.Option(
            help="Split of the evaluation sets that is protected; may be given several times.",
            show_default="all but train",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="BEIR data: the split whose queries become examples.")] = "train",
    seed: Annotated[int, typer.Option(help="Of the hash functions that propose pairs.")] = 0,
    on_error: Annotated[
        OnError, typer.Option(help="Unusable rows: stop at the first, or set them aside in rejected.jsonl.")
    ] = OnError.STOP,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON; no progress bar.")] = False,
) -> None:
    """Remove examples that repeat one another, or whose texts are in an evaluation set, word for word or nearly."""
    from typing import cast

    from zhihui import progress
    from zhihui.mining.dedup import DedupConfig
    from zhihui.mining.dedup.config import Passages
    from zhihui.mining.dedup.stage import REPORT, TRAIN, dedup_files
    from zhihui.runs import to_json

    progress.quiet(as_json)
    config = DedupConfig(
        threshold=threshold,
        within=within,
        passages=cast(Passages, passages),
        splits=tuple(against_split or ()),
        seed=seed,
    )
    manifest = dedup_files(
        data,
        out,
        config,
        against=against or (),
        split=split,
        quarantine=on_error is OnError.QUARANTINE,
        overwrite=overwrite,
    )
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    typer.echo(f"{out / TRAIN}: {counts['kept']:,} of {counts['examples']:,} examples; see {out / REPORT}")
    for reason, count in counts["rejected"].items():
        typer.echo(f"  set aside: {count:,} ({reason}); see {out / 'rejected.jsonl'}")
