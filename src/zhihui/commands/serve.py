"""`zhihui serve`: models over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zhihui.commands.encode import Dtype


def command(
    models: Annotated[
        list[str],
        typer.Argument(help="Folders or hub ids of embedding models, or NAME=MODEL; the first is the default."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = 8080,
    device: Annotated[
        list[str] | None,
        typer.Option(help="cpu, cuda, cuda:1, ...; several times for a copy on each. By default a GPU if any."),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Compute in this; auto is what a model is stored in.")] = Dtype.AUTO,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens a text is cut to; by default the model's own.")
    ] = None,
    reranker: Annotated[
        str | None, typer.Option(help="Cross-encoder for /rerank; by default the first model's cosine ranks.")
    ] = None,
    index: Annotated[
        list[str] | None,
        typer.Option(help="Index to search, as `zhihui index` wrote it, or NAME=INDEX; may be given several times."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Start only if sentence-transformers gives the same vectors.")
    ] = False,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File of API keys, one a line; more in ZHIHUI_API_KEYS.", dir_okay=False)
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Most calls of a key a minute.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Most tokens of a key a minute.")] = None,
    token_budget: Annotated[
        int | None, typer.Option(help="Tokens computed together; by default what suits the device.")
    ] = None,
    queue_tokens: Annotated[int, typer.Option(help="Tokens that may wait before calls get 429.")] = 262_144,
    max_inputs: Annotated[int, typer.Option(help="Most texts of a call.")] = 4096,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Largest body of a call, in MiB.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds until a call is given up.")] = 60.0,
    drain_seconds: Annotated[float, typer.Option(help="Seconds that calls under way get at the end.")] = 30.0,
    token_ids: Annotated[
        bool, typer.Option("--token-ids", help="Take token ids of the model's own tokenizer.")
    ] = False,
    log_texts: Annotated[bool, typer.Option("--log-texts", help="Write the texts into the log.")] = False,
) -> None:
    """Serve embedding models over HTTP, for clients of OpenAI, text-embeddings-inference and Cohere's reranking."""
    from zhihui.errors import require

    for module in ("fastapi", "uvicorn", "orjson", "prometheus_client"):
        require(module, extra="serve", purpose="zhihui serve")

    from zhihui import progress
    from zhihui.serving.config import ServeConfig
    from zhihui.serving.indexes import Indexes, find_indexes
    from zhihui.serving.keys import read_keys
    from zhihui.serving.logs import write_json_lines
    from zhihui.serving.models import default_devices, load_models
    from zhihui.serving.reranking import load_served_reranker
    from zhihui.serving.running import bind, run
    from zhihui.serving.service import Service
    from zhihui.serving.verifying import verify as verify_model

    config = ServeConfig(
        host=host,
        port=port,
        token_budget=token_budget,
        queue_tokens=queue_tokens,
        max_inputs=max_inputs,
        max_body_bytes=max_body_mib * 2**20,
        max_held_bytes=8 * max_body_mib * 2**20,
        timeout=timeout,
        drain_seconds=drain_seconds,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        token_ids=token_ids,
        log_texts=log_texts,
    )
    keys = read_keys(api_key_file)
    bound = bind(config.host, config.port)
    with bound:
        if not config.is_loopback and not len(keys):
            typer.echo(f"zhihui: {host} is open to other machines without an API key; give --api-key-file", err=True)
        folders = find_indexes(index or [])
        devices = tuple(device or default_devices())
        loaded = load_models(
            models, devices, dtype=dtype.value, max_length=max_length, token_budget=config.token_budget
        )
        if verify:
            for model in loaded:
                typer.echo(
                    f"zhihui: {model.name} agrees with sentence-transformers: {verify_model(model):.7f}", err=True
                )
        indexes = Indexes(folders, loaded)
        second = None if reranker is None else load_served_reranker(reranker, devices)
        progress.quiet()
        write_json_lines()
        run(Service(loaded, config, reranker=second, indexes=indexes, keys=len(keys)), keys, bound)
