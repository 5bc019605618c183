"""Memory, time and cost of training and serving a 7B embedding model, by arithmetic: the tables of docs/scaling.md.

    python scripts/scaling.py                      # as in docs/scaling.md
    python scripts/scaling.py --utilisation 0.4 --price 4.0

Nothing here is measured. Every figure follows from the assumptions printed above it, and each is an option.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from itertools import product
from math import ceil
from typing import Literal

PAIRS = (10**6, 10**7, 10**8, 10**9)
CORPORA = (10**6, 10**8, 10**10)
GPUS = (8, 32, 128, 512)
BATCHES = (2_048, 16_384, 65_536)
GB = 1e9
Method = Literal["full", "LoRA"]
Index = Literal["exact", "graph", "codes"]


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the figures rest on; the model's sizes are those of gte-Qwen2-7B-instruct."""

    parameters: float = 7.07e9
    """Weights without the output head, token embeddings included."""
    layers: int = 28
    hidden: int = 3_584
    """Width of the states, and numbers of a vector."""
    kv: int = 512
    """Width of the keys, and of the values."""
    inner: int = 18_944
    """Width of the feed-forward layer."""
    peak: float = 989e12
    """Dense bf16 FLOP/s of an H100 or H200."""
    utilisation: float = 0.5
    """Share of the peak at which training computes, recomputed activations counted."""
    encode_utilisation: float = 0.6
    """Share of the peak at which passages are encoded for mining."""
    query_tokens: int = 40
    """Instruction and EOS included."""
    passage_tokens: int = 300
    negatives: int = 4
    """Hard negatives a query."""
    chunk_tokens: int = 32_768
    """Tokens whose graph a GPU holds at once."""
    rank: int = 16
    """Of LoRA's adapters, on every linear layer."""
    price: float = 2.5
    """Of a GPU hour, in any currency."""
    network: float = 50e9
    """Bytes a second that a GPU receives from other nodes (400 Gbit/s)."""
    kept: int = 1_024
    """Numbers of a vector that an approximate index keeps, one byte each: a Matryoshka prefix."""
    links: int = 32
    """Neighbours of a passage in a graph (HNSW's M; twice as many on the lowest level, where nearly all are)."""
    code: int = 64
    """Bytes of a passage's product quantisation code."""
    server: float = 256e9
    """Bytes of memory of a search server."""
    bandwidth: float = 100e9
    """Bytes a second that it reads from memory."""


def tokens(assumed: Assumptions, *, negatives: int) -> int:
    """Return the tokens of a pair with its hard negatives."""
    return assumed.query_tokens + (1 + negatives) * assumed.passage_tokens


def flops_per_token(assumed: Assumptions, method: Method, *, replay: bool = True, recompute: bool = True) -> float:
    """Return the FLOPs a token costs in training.

    Forward 2 per parameter; backward 2 for the gradients of activations and 2 for those of weights, which LoRA saves
    but for its adapters; 2 for the forward pass that the gradient cache repeats; 2 for the one that checkpointing does.
    """
    passes = 2 + (4 if method == "full" else 2) + 2 * replay + 2 * recompute
    return passes * assumed.parameters


def training_hours(assumed: Assumptions, method: Method, *, pairs: float, negatives: int) -> float:
    """Return GPU hours of one pass over the pairs."""
    work = pairs * tokens(assumed, negatives=negatives) * flops_per_token(assumed, method)
    return work / (assumed.peak * assumed.utilisation) / 3600


def encoding_hours(assumed: Assumptions, *, passages: float) -> float:
    """Return GPU hours of encoding a corpus once, for mining."""
    work = passages * assumed.passage_tokens * 2 * assumed.parameters
    return work / (assumed.peak * assumed.encode_utilisation) / 3600


def searching_hours(assumed: Assumptions, *, queries: float, passages: float) -> float:
    """Return GPU hours of exact search, one product of all queries with all passages."""
    return 2 * queries * passages * assumed.hidden / (assumed.peak * assumed.utilisation) / 3600


def adapter_parameters(assumed: Assumptions) -> float:
    """Return LoRA's trained parameters: rank × (inputs + outputs) of every linear layer."""
    attention = 2 * (assumed.hidden + assumed.hidden) + 2 * (assumed.hidden + assumed.kv)
    feed_forward = 3 * (assumed.hidden + assumed.inner)
    return assumed.rank * assumed.layers * (attention + feed_forward)


def state_bytes(assumed: Assumptions, method: Method, *, gpus: int) -> float:
    """Return bytes a GPU holds of weights, gradients and optimiser.

    Full, sharded by FSDP: 4 master weight + 4 gradient + 8 AdamW per parameter, over all GPUs. LoRA: 4 per frozen
    weight on every GPU, 16 per adapter parameter.
    """
    if method == "full":
        return 16 * assumed.parameters / gpus
    return 4 * assumed.parameters + 16 * adapter_parameters(assumed)


def gathered_bytes(assumed: Assumptions, method: Method) -> float:
    """Return bytes that FSDP has put together: two blocks' weights in bf16, and all gradients in fp32.

    Gradients stay whole from a step's first chunk to its last, so that they cross the network once a step.
    """
    return 0.0 if method == "LoRA" else 2 * 2 * assumed.parameters / assumed.layers + 4 * assumed.parameters


def activation_bytes(assumed: Assumptions) -> float:
    """Return bytes of a chunk's bf16 activations: the input of each block, and all that one block keeps."""
    inside = 6 * assumed.hidden + 2 * assumed.kv + 4 * assumed.inner
    return 2 * assumed.chunk_tokens * (assumed.layers * assumed.hidden + inside)


def vector_bytes(assumed: Assumptions, *, batch: int, gpus: int, negatives: int) -> float:
    """Return bytes of the fp32 vectors and their gradients: all passages on every GPU, its own queries."""
    return 2 * 4 * assumed.hidden * (batch * (1 + negatives) + batch / gpus)


def hiding_tokens(assumed: Assumptions, method: Method = "full") -> float:
    """Return the tokens of a chunk from which on computing hides the gathering of weights from other nodes.

    Weights are gathered in bf16 for the cached forward pass, its repetition and the backward pass.
    """
    seconds_a_token = flops_per_token(assumed, method) / (assumed.peak * assumed.utilisation)
    return 3 * 2 * assumed.parameters / assumed.network / seconds_a_token


def index_bytes(assumed: Assumptions, index: Index, *, passages: float) -> tuple[float, float]:
    """Return bytes in memory and on disk.

    exact: whole vectors in fp16. graph: bytes of the numbers kept, 4 for each link. codes: a code and an id of 8 bytes
    in the cells of an inverted file; the numbers kept, by which the best are ranked again, on disk.
    """
    if index == "exact":
        return passages * 2 * assumed.hidden, 0.0
    if index == "graph":
        return passages * (assumed.kept + 2 * 4 * assumed.links), 0.0
    return passages * (assumed.code + 8), passages * assumed.kept


def best_index(assumed: Assumptions, *, passages: float) -> Index:
    """Return the simplest index that will do: exact if read in a tenth of a second, else a graph on up to 8 servers."""
    if index_bytes(assumed, "exact", passages=passages)[0] <= assumed.bandwidth / 10:
        return "exact"
    return "graph" if servers(assumed, "graph", passages=passages) <= 8 else "codes"


def servers(assumed: Assumptions, index: Index, *, passages: float) -> int:
    """Return how many servers hold an index, a fifth of their memory left free."""
    return ceil(index_bytes(assumed, index, passages=passages)[0] / (0.8 * assumed.server))


# --------------------------------------------------------------------------- tables


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    line = "|" + "|".join(["---", *["---:"] * (len(head) - 1)]) + "|"
    return "\n".join([f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rows)])


def duration(hours: float) -> str:
    """Return a time as people say it."""
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"


def count(number: float) -> str:
    """Return a round number as people say it."""
    return f"{number / 1e9:g}B" if number >= 1e9 else f"{number / 1e6:g}M"


def time_table(assumed: Assumptions, method: Method, *, negatives: int) -> str:
    """Return the table of time by pairs and GPUs, with the cost."""
    rows = []
    for pairs in PAIRS:
        hours = training_hours(assumed, method, pairs=pairs, negatives=negatives)
        times = [duration(hours / gpus) for gpus in GPUS]
        rows.append([count(pairs), f"{hours:,.0f}", *times, f"{hours * assumed.price:,.0f}"])
    return table(["pairs", "GPU hours", *(f"{gpus} GPUs" for gpus in GPUS), "cost"], rows)


def memory_table(assumed: Assumptions) -> str:
    """Return the table of memory a GPU."""
    rows = []
    plans: tuple[tuple[Method, tuple[int, ...]], ...] = (("full", GPUS), ("LoRA", GPUS[:1]))
    for method, machines in plans:  # LoRA's state is on every GPU, however many
        for gpus, batch in product(machines, BATCHES):
            parts = [
                state_bytes(assumed, method, gpus=gpus),
                gathered_bytes(assumed, method),
                activation_bytes(assumed),
                vector_bytes(assumed, batch=batch, gpus=gpus, negatives=assumed.negatives),
            ]
            sizes = [f"{part / GB:.1f}" for part in (*parts, sum(parts))]
            rows.append([f"{method}, {gpus} GPUs, batch {batch:,}", *sizes])
    return table(["GB on each GPU", "state", "gathered", "activations", "vectors", "sum"], rows)


def mining_table(assumed: Assumptions) -> str:
    """Return the table of what one round of dense mining costs."""
    rows = []
    for pairs in PAIRS:
        encode = encoding_hours(assumed, passages=pairs)
        search = searching_hours(assumed, queries=pairs, passages=pairs)
        rows.append([count(pairs), f"{encode:,.1f}", f"{search:,.2f}", f"{(encode + search) * assumed.price:,.0f}"])
    return table(["passages and queries", "encoding, GPU hours", "exact search, GPU hours", "cost"], rows)


def encoding_table(assumed: Assumptions) -> str:
    """Return the table of encoding a corpus and keeping its vectors."""
    rows = []
    for passages in CORPORA:
        hours = encoding_hours(assumed, passages=passages)
        sizes = [f"{passages * width / GB:,.0f}" for width in (4 * assumed.hidden, 2 * assumed.hidden, assumed.kept)]
        times = [duration(hours / gpus) for gpus in (8, 128, 512)]
        rows.append([count(passages), f"{hours:,.0f}", *times, f"{hours * assumed.price:,.0f}", *sizes])
    head = ["passages", "GPU hours", "8 GPUs", "128 GPUs", "512 GPUs", "cost", "fp32, GB", "fp16, GB", "kept bytes, GB"]
    return table(head, rows)


def index_table(assumed: Assumptions) -> str:
    """Return the table of what holds an index; the simplest that is quick enough is bold."""
    rows = []
    names: dict[Index, str] = {
        "exact": "exact scan, fp16",
        "graph": "graph (HNSW), a byte a number",
        "codes": "inverted file and codes (IVF-PQ), ranked again from disk",
    }
    for passages in CORPORA:
        best = best_index(assumed, passages=passages)
        for index, name in names.items():
            memory, disk = index_bytes(assumed, index, passages=passages)
            cells = [
                name,
                f"{memory / GB:,.1f}",
                f"{disk / GB:,.1f}",
                f"{servers(assumed, index, passages=passages):,}",
            ]
            cells = [f"**{cell}**" for cell in cells] if index == best else cells
            rows.append([count(passages), *cells])
    return table(["passages", "index", "memory, GB", "disk, GB", "servers"], rows)


def report(assumed: Assumptions) -> str:
    """Return all tables as Markdown, the assumptions first."""
    values = [[each.name, f"{getattr(assumed, each.name):g}"] for each in fields(assumed)]
    bare, mined = tokens(assumed, negatives=0), tokens(assumed, negatives=assumed.negatives)
    parts = ["### Assumptions", table(["", "value"], values)]
    methods: tuple[Method, ...] = ("full", "LoRA")
    for method in methods:
        per_token = flops_per_token(assumed, method) / assumed.parameters
        for negatives, length in ((0, bare), (assumed.negatives, mined)):
            title = f"### Time and cost: {method}, {negatives} hard negatives ({length:,} tokens a pair)"
            parts += [title, f"{per_token:.0f} FLOPs per parameter and token, one pass over the pairs."]
            parts.append(time_table(assumed, method, negatives=negatives))
    parts += ["### Memory", memory_table(assumed)]
    parts += ["### A round of dense mining", mining_table(assumed)]
    parts += ["### A corpus to search: encoding", encoding_table(assumed)]
    parts += ["### A corpus to search: the index", index_table(assumed)]
    parts += [
        "### Smallest chunk",
        f"Gathering weights from other nodes is hidden behind chunks of {hiding_tokens(assumed):,.0f} tokens or more.",
    ]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for each in fields(Assumptions):
        kind = float if isinstance(each.default, float) else int
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, default=each.default)
    print(report(Assumptions(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
