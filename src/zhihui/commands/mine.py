"""`zhihui mine`: hard negatives for training examples or a retrieval set."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zhihui.commands.convert import OnError
from zhihui.commands.encode import RayAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zhihui.distributed.workers import RayWorkers
    from zhihui.encoder import Encoder
    from zhihui.mining import MiningConfig


def command(
    data: Annotated[Path, typer.Argument(help="BEIR folder, or file or folder of examples.", metavar="DATA")],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    model: Annotated[str | None, typer.Option(help="Folder or hub id of an embedding model, for dense mining.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="METHOD:FIRST-LAST:COUNT with bm25, dense or cross, or random:COUNT; may be given several times.",
            show_default="bm25:1-50:4",
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Dense: a negative scores lower than the best positive by over this.")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(help="Dense: a negative scores below this share of the best positive, e.g. 0.95."),
    ] = None,
    reranker: Annotated[
        str | None, typer.Option(help="Folder or hub id of a cross-encoder, for cross miners and filters.")
    ] = None,
    cross_margin: Annotated[
        float | None, typer.Option(help="As --margin, by the cross-encoder's scores and for all ranked miners.")
    ] = None,
    cross_ratio: Annotated[
        float | None, typer.Option(help="As --ratio, by the cross-encoder's scores and for all ranked miners.")
    ] = None,
    max_grade: Annotated[
        float | None,
        typer.Option(help="A passage that a teacher graded this high or higher for the query is no negative."),
    ] = None,
    grades: Annotated[
        Path | None, typer.Option(help="Examples with teacher grades that count besides those of DATA.")
    ] = None,
    near_duplicates: Annotated[
        float,
        typer.Option(help="Pass over a negative this similar (4-character Jaccard) to a positive or another; 0: off."),
    ] = 0.9,
    stop_words: Annotated[bool, typer.Option("--stop-words", help="BM25: leave Chinese function words out.")] = False,
    index: Annotated[
        str, typer.Option(help="Dense: exact, or faiss for corpora of tens of millions (recall is measured).")
    ] = "exact",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of vectors that several runs share; each text is encoded once.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws within the rank windows.")] = 0,
    split: Annotated[str, typer.Option(help="BEIR: the split whose queries become examples.")] = "train",
    corpus: Annotated[
        Path | None,
        typer.Option(help="Passages to mine: BEIR folder or file of rows with a text; else those of DATA."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... for the model; by default a GPU if any.")
    ] = None,
    ray: RayAddress = None,
    on_error: Annotated[
        OnError, typer.Option(help="Unusable rows: stop at the first, or set them aside in rejected.jsonl.")
    ] = OnError.STOP,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON; no progress bar.")] = False,
) -> None:
    """Mine hard negatives by BM25, an embedding model, a cross-encoder or chance, each from its window of ranks."""
    from typing import cast

    from zhihui import progress
    from zhihui.mining import Miner, MiningConfig
    from zhihui.mining.candidates import check_models
    from zhihui.mining.config import Index
    from zhihui.mining.stage import TRAIN, check_grades, mine_files
    from zhihui.runs import to_json

    progress.quiet(as_json)
    config = MiningConfig(
        miners=tuple(Miner.parse(spec) for spec in method or ["bm25:1-50:4"]),
        margin=margin,
        ratio=ratio,
        cross_margin=cross_margin,
        cross_ratio=cross_ratio,
        max_grade=max_grade,
        near_duplicates=near_duplicates or None,
        stop_words=stop_words,
        index=cast(Index, index),
        seed=seed,
    )
    check_models(config, encoder=model is not None, reranker=reranker is not None)
    check_grades(config, grades)
    if ray is not None:
        _check_ray(config, device=device, reranker=reranker)
    with ExitStack() as running:
        encoder: RayWorkers | Encoder | None = None
        scorer = None
        spread: dict[str, Any] = {}
        if model is not None and ray is not None:
            encoder = workers = running.enter_context(_spread(ray, model))
            spread = {"search": workers.search, "block": workers.block}
        elif model is not None:
            from zhihui.encoder import load

            encoder = load(model, device=device)
        if reranker is not None:
            from zhihui.ranking.reranker import load_reranker

            scorer = load_reranker(reranker, device=device)
        manifest = mine_files(
            data,
            out,
            config,
            split=split,
            corpus=corpus,
            grades=grades,
            encoder=encoder,
            reranker=scorer,
            cache=cache,
            device=device,
            quarantine=on_error is OnError.QUARANTINE,
            overwrite=overwrite,
            **spread,
        )
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    typer.echo(f"{out / TRAIN}: {counts['examples']:,} examples, {counts['passages']:,} passages searched")
    for spec, mined in counts["mined"].items():
        short = counts["shortfall"][spec]
        typer.echo(f"  {spec}: {mined:,} negatives" + (f", {short:,} short of the wanted" if short else ""))
    if "faiss" in counts:
        typer.echo("  faiss: recall {recall:.4f}, measured on {sample:,} queries".format(**counts["faiss"]))
    for reason, count in counts["rejected"].items():
        typer.echo(f"  set aside: {count:,} ({reason}); see {out / 'rejected.jsonl'}")


def _check_ray(config: MiningConfig, *, device: str | None, reranker: str | None) -> None:
    from zhihui.errors import InputError

    if not config.depth("dense"):
        raise InputError("--ray spreads dense mining; add a miner, as in --method dense:10-60:3, or leave --ray out")
    if config.index != "exact":
        raise InputError(f"--ray searches exactly, not with --index {config.index}; leave one of the two out")
    if reranker is not None:
        raise InputError("--ray spreads no cross-encoder; mine without it over Ray, or with it on one machine")
    if device is not None:
        raise InputError("--ray takes a worker for each GPU, or core, of the cluster; leave out --device")


@contextmanager
def _spread(address: str, model: str) -> Iterator[RayWorkers]:
    """Load a model on the workers of a cluster for the length of the block."""
    from functools import partial

    from zhihui.distributed.cluster import join, path_for_workers
    from zhihui.distributed.workers import RayWorkers
    from zhihui.encoder.devices import open_on

    with (
        join(address) as cluster,
        closing(RayWorkers(cluster, partial(open_on, model=path_for_workers(model)))) as workers,
    ):
        yield workers
