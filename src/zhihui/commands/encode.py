"""`zhihui encode`: the vectors of a file of texts, in shards."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from zhihui.commands.convert import OnError
from zhihui.errors import InputError


class RoleName(StrEnum):
    """What the texts are."""

    QUERY = "query"
    DOCUMENT = "document"


class FormName(StrEnum):
    """What is written."""

    NPY = "npy"
    PARQUET = "parquet"


class Dtype(StrEnum):
    """What is computed in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Stored(StrEnum):
    """What vectors are stored in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: local starts one here, auto is the one this machine is a node of, or HOST:PORT.",
    ),
]


def command(
    source: Annotated[
        Path,
        typer.Argument(
            help="Rows with a text (.jsonl, .jsonl.gz, .parquet; BEIR's corpus.jsonl) or .txt, one text a line.",
            metavar="INPUT",
        ),
    ],
    model: Annotated[str, typer.Option(help="Folder or hub id of an embedding model.")],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    role: Annotated[RoleName, typer.Option(help="What the texts are: decides the prompt put before them.")],
    instruction: Annotated[
        str | None, typer.Option(help="Queries: the task in words, in place of the model's own prompt.")
    ] = None,
    form: Annotated[
        FormName, typer.Option("--format", help="vectors-*.npy beside ids-*.jsonl, or Parquet with id and vector.")
    ] = FormName.NPY,
    shard_size: Annotated[int, typer.Option(min=1, help="Texts in a shard; memory holds one.")] = 20_000,
    dtype: Annotated[Dtype, typer.Option(help="Compute in this; auto is what the model is stored in.")] = Dtype.AUTO,
    store_dtype: Annotated[Stored, typer.Option(help="Store the vectors in this.")] = Stored.FLOAT32,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens a text is cut to; by default the model's own.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="cpu, cuda, cuda:1, ...; several times for a process on each. By default a GPU if any."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Encode on the CPU in this many processes, in place of --device.")
    ] = None,
    ray: RayAddress = None,
    token_budget: Annotated[
        int | None, typer.Option(min=1, help="Tokens computed together; by default what suits the device.")
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Key of the text, taken alone; by default text (with title), or the obvious one.")
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="Unusable rows: stop at the first, or set them aside in rejected.jsonl.")
    ] = OnError.STOP,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run of other settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON; no progress bar.")] = False,
) -> None:
    """Encode a file of texts into vectors; a run that was killed goes on at the shard it was in."""
    from zhihui import progress
    from zhihui.encoder.devices import ParallelEncoder, check_device, open_on
    from zhihui.encoder.protocol import TextEncoder
    from zhihui.encoder.shards import ShardConfig, ShardEncoder, check_texts, encode_file
    from zhihui.runs import to_json

    progress.quiet(as_json)
    if device and workers is not None:
        raise InputError("--device and --workers exclude each other; --workers N is N times --device cpu")
    if ray is not None and (device or workers is not None):
        raise InputError("--ray takes a worker for each GPU, or core, of the cluster; leave out --device and --workers")
    config = ShardConfig(
        role=role.value,
        instruction=instruction,
        form=form.value,
        size=shard_size,
        store_dtype=store_dtype.value,
        field=field,
    )
    quarantine = on_error is OnError.QUARANTINE
    devices = ["cpu"] * workers if workers is not None else device or []
    for name in devices:
        check_device(name)
    open_encoder = partial(open_on, model=model, token_budget=token_budget, max_length=max_length, dtype=dtype.value)
    with ExitStack() as running:
        encoder: TextEncoder | ShardEncoder
        if ray is not None:
            from zhihui.distributed.cluster import join, path_for_workers
            from zhihui.distributed.shards import RayShards

            cluster = running.enter_context(join(ray))
        total = check_texts(source, config, quarantine=quarantine)
        if ray is not None:
            encoder = RayShards(cluster, partial(open_encoder, model=path_for_workers(model)))
        elif len(devices) > 1:
            encoder = running.enter_context(ParallelEncoder(open_encoder, devices))
        else:
            encoder = open_encoder(devices[0] if devices else None)
        manifest = encode_file(source, out, encoder, config, quarantine=quarantine, overwrite=overwrite, total=total)
    if as_json:
        typer.echo(to_json({"out": out, "manifest": manifest}, indent=2))
        return
    counts = manifest.counts
    typer.echo(f"{out}: {counts['texts']:,} vectors of {counts['dimension']:,} numbers in {counts['shards']:,} shards")
    for reason, count in counts["rejected"].items():
        typer.echo(f"  set aside: {count:,} ({reason}); see {out / 'rejected.jsonl'}")
