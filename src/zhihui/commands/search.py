"""`zhihui search`: the best passages of an index for a query, or for one after another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zhihui.search import Hit

_WIDTH = 160  # characters of a snippet


class ModeName(StrEnum):
    """What passages are ranked by."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


class FusionName(StrEnum):
    """What is added up where passages are ranked by both."""

    SCORES = "scores"
    RANKS = "ranks"


def command(
    index: Annotated[Path, typer.Option(help="The index, as `zhihui index` wrote it.")],
    query: Annotated[
        str | None,
        typer.Argument(help="In plain words; without one, queries are read line by line.", metavar="[QUERY]"),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Hits at most.")] = 10,
    mode: Annotated[
        ModeName, typer.Option(help="By vectors (dense), by words (bm25, needs no model), or by both.")
    ] = ModeName.HYBRID,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Only hits that meet a condition on their metadata, as in 'source = a.md', 'year >= 2020 and "
            "lang in (zh, en)'; may be given several times.",
            metavar="CONDITION",
        ),
    ] = None,
    fusion: Annotated[
        FusionName, typer.Option(help="Hybrid: add up scores, or what ranks bring (reciprocal rank fusion).")
    ] = FusionName.SCORES,
    dense_share: Annotated[
        float | None,
        typer.Option(help="Hybrid: weight of the ranking by vectors, 0 to 1; by default 0.6 of scores, 0.5 of ranks."),
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="The task in words, in place of the model's own prompt.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the index's model is now, if it was moved: folder or hub id.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... for the model; by default a GPU if any.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the hits of a query as a line of JSON; no progress bar.")
    ] = False,
) -> None:
    """Search an index: the best passages with their scores, the matching words highlighted."""
    from functools import partial

    from zhihui import progress
    from zhihui.errors import InputError
    from zhihui.search import open_index, overlong
    from zhihui.search.queries import checked_query

    progress.quiet(as_json)
    if query is not None:
        query = checked_query(query)
    with open_index(index) as opened:
        encoder = None if mode is ModeName.BM25 else opened.load_encoder(model=model, device=device)
        search = partial(
            opened.search,
            encoder=encoder,
            top_k=top_k,
            mode=mode.value,
            filters=where,
            fusion=fusion.value,
            dense_share=dense_share,
            instruction=instruction,
        )

        def answer(text: str) -> None:
            cut = None if encoder is None else overlong(encoder, text, instruction=instruction)
            if cut is not None:
                typer.echo(f"the query has {cut.tokens:,} tokens, the model reads {cut.read:,} of them", err=True)
            _show(text, search(text), as_json=as_json)

        if query is not None:
            answer(query)
            return
        for text in _lines(f"{len(opened):,} passages; a query, or an empty line to end"):
            try:
                answer(text)
            except InputError as error:
                typer.echo(f"zhihui: {error}", err=True)


def _lines(welcome: str) -> Iterator[str]:
    """Yield what is typed until an empty line or the end; of a pipe, every line that is not blank."""
    typed = sys.stdin.isatty()
    if typed:
        typer.echo(welcome, err=True)
    read: Callable[[], str] = (lambda: input("> ")) if typed else input
    while True:
        try:
            line = read().strip()
        except EOFError:
            return
        if line:
            yield line
        elif typed:
            return


def _show(query: str, hits: list[Hit], *, as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps({"query": query, "hits": [_as_dict(hit) for hit in hits]}, ensure_ascii=False))
        return
    if not hits:
        typer.echo("nothing found")
    for hit in hits:
        _print(hit)


def _as_dict(hit: Hit) -> dict[str, Any]:
    from dataclasses import asdict

    named = {name: score._asdict() for name in ("dense", "bm25", "fused") if (score := getattr(hit, name)) is not None}
    return {**asdict(hit), "dense": None, "bm25": None, "fused": None, **named}


def _print(hit: Hit) -> None:
    from rich.console import Console
    from rich.text import Text

    from zhihui.search.highlight import snippet

    console = Console(highlight=False, soft_wrap=True)
    parts = [
        f"{name} {score.value:.4f} (#{score.rank})"
        for name, score in (("dense", hit.dense), ("bm25", hit.bm25))
        if score
    ]
    console.print(
        Text.assemble(
            (f"{hit.rank}. ", "bold"),
            (hit.title or hit.id, "bold"),
            (f"  {hit.source}@{hit.start}", "cyan"),
            (f"  {hit.score:.4f}: {', '.join(parts)}" if hit.fused else f"  {', '.join(parts)}", "dim"),
        )
    )
    shown = snippet(hit.text, hit.highlights, width=_WIDTH)
    line = Text(f"   {shown.text}")
    for start, end in shown.highlights:
        line.stylize("bold yellow", start + 3, end + 3)
    console.print(line)
