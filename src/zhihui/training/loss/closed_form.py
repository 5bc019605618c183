"""`info_nce`: the loss of a batch, or of one process's share of it, with all gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from zhihui.training.loss.chunk import Batch, Block, Chunks, Sums
from zhihui.training.loss.config import LossConfig
from zhihui.training.loss.distillation import Distillation
from zhihui.training.loss.known import Masked
from zhihui.training.loss.layout import Layout
from zhihui.training.loss.prefixes import Prefix


class Gradients(NamedTuple):
    """A loss and its gradients; over the processes of a run, each is to be summed."""

    loss: Tensor
    """Mean over the queries of all processes, a scalar; of a process, its queries' part of it."""
    queries: Tensor
    """By the queries given `[b, D]`."""
    passages: Tensor
    """By all passages `[N, D]`; zero for those from a memory."""
    temperature: Tensor
    """By τ, a scalar."""
    masked: Masked
    """How many negatives were dropped; with Matryoshka, at the longest prefix."""
    gathered_queries: Tensor | None
    """By the gathered queries as negatives `[B, D]`; None where none were given, or nothing is set against them."""


@torch.no_grad()
def info_nce(
    queries: Tensor,
    passages: Tensor,
    layout: Layout,
    config: LossConfig,
    *,
    temperature: float | Tensor | None = None,
    gathered_queries: Tensor | None = None,
    offset: int = 0,
) -> Gradients:
    """Return the loss and its gradients with respect to the vectors and the temperature.

    It communicates nothing. A process of several gives its own queries, the passages of all, and the layout of all; the
    sum of what the processes return is what one process would return for everything.

    Args:
        queries: `[b, D]`, of unit norm; all B of the layout, or this process's.
        passages: all `[N, D]`, of unit norm; each query has at least one positive. Those of a memory are best put last.
        layout: which passage belongs to which query and how, over all processes.
        config: temperature, weights, masks.
        temperature: τ where it is not the config's.
        gathered_queries: all queries `[B, D]`; needed by terms against queries where `queries` are not all.
        offset: number of the first of `queries` among all.

    Returns:
        In fp32, or in fp64 for fp64 vectors.

    Raises:
        ValueError: a query has no positive, shapes do not agree with the layout, or a prefix exceeds the vectors.
    """
    _check(queries, passages, layout, config, gathered_queries, offset)
    dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
    tau = float(config.temperature if temperature is None else temperature)
    if not tau > 0:
        raise ValueError(f"temperature {tau} is not above 0")
    with _exact_products(queries.device):
        vectors = [queries.to(dtype), passages.to(dtype)]
        if gathered_queries is not None and _against_queries(config):
            vectors.append(gathered_queries.to(dtype))
        batch = Batch.of(layout, config, dtype, offset, len(queries))
        distillation = Distillation(layout, config, dtype) if config.distillation else None
        if not config.matryoshka:
            gradient, sums = _of_vectors(batch, vectors, distillation, tau)
        else:
            gradient, sums = _of_prefixes(batch, vectors, distillation, tau)
    by_gathered = gradient[2] if len(gradient) > 2 else None
    return Gradients(sums.loss, gradient[0], gradient[1], sums.temperature, sums.masked, by_gathered)


def _of_prefixes(
    batch: Batch, vectors: list[Tensor], distillation: Distillation | None, temperature: float
) -> tuple[list[Tensor], Sums]:
    """Sum the weighted losses of all prefixes."""
    lengths = batch.config.matryoshka
    weights = batch.config.matryoshka_weights or (1.0,) * len(lengths)
    total = [torch.zeros_like(each) for each in vectors]
    sums = Sums.zero(vectors[0])
    for length, weight in sorted(zip(lengths, weights, strict=True)):
        prefixes = [Prefix.of(each, length) for each in vectors]
        gradient, found = _of_vectors(batch, [prefix.vectors for prefix in prefixes], distillation, temperature)
        for whole, prefix, part in zip(total, prefixes, gradient, strict=True):
            whole[:, :length].add_(prefix.pull_back(part), alpha=weight)
        loss, by_temperature = sums.loss + weight * found.loss, sums.temperature + weight * found.temperature
        sums = Sums(loss=loss, temperature=by_temperature, masked=found.masked)
    return total, sums


def _of_vectors(
    batch: Batch, vectors: list[Tensor], distillation: Distillation | None, temperature: float
) -> tuple[list[Tensor], Sums]:
    """Return the gradients by queries, passages and (where given) gathered queries, and the sums of all rows."""
    gradient = [torch.zeros_like(each) for each in vectors]
    (q, p), (grad_q, grad_p), layout = vectors[:2], gradient[:2], batch.layout
    everyone = 2 if len(vectors) == 3 else 0  # without gathered queries, the queries are all there are
    live = int((layout.owner >= 0).nonzero().max()) + 1  # behind these is only memory
    blocks = [Block(kind="query_passage", against=p, gradient=grad_p[:live])]
    for term in batch.config.terms:
        if term == "passage_passage":
            against = p[batch.rows.positive]
            blocks.append(Block(kind=term, against=against, gradient=torch.zeros_like(against)))
        else:
            blocks.append(Block(kind=term, against=vectors[everyone], gradient=gradient[everyone]))
    chunks = Chunks(
        batch=batch, temperature=temperature, q=q, p=p, grad_q=grad_q, grad_p=grad_p, blocks=blocks, sums=Sums.zero(q)
    )
    width, count = sum(len(block.against) for block in blocks), len(batch.local.query)
    floats = _chunk_floats(q.device)
    step = min(batch.config.rows or max(1, floats // width), count)
    buffer = q.new_empty(step, width)
    for start in range(0, count, max(1, step)):
        chunks.add(slice(start, start + step), buffer)
    for block in blocks:
        if block.kind == "passage_passage":
            grad_p.index_add_(0, batch.rows.positive, block.gradient)
    if distillation is not None:
        loss, by_temperature = distillation.add(q, p, batch.offset, temperature, floats, grad_q, grad_p)
        chunks.sums.loss.add_(loss)
        chunks.sums.temperature.add_(by_temperature)
    grad_p[layout.owner < 0] = 0.0
    return gradient, chunks.sums


def _chunk_floats(device: torch.device) -> int:
    """Return how many similarities are held at once when the rows are not given: 64 MiB, on a GPU 512 MiB."""
    # On a CPU fewer rows have the products wait for memory, and more gain nothing (measured, docs/lab-log.md).
    return 2**27 if device.type == "cuda" else 2**24


def _against_queries(config: LossConfig) -> bool:
    return "query_query" in config.terms or "passage_query" in config.terms


def _check(
    queries: Tensor,
    passages: Tensor,
    layout: Layout,
    config: LossConfig,
    gathered_queries: Tensor | None,
    offset: int,
) -> None:
    count, wanted = len(layout.query_key), len(layout.owner)
    if len(passages) != wanted:
        raise ValueError(f"{len(passages)} passages are given and the layout has {wanted}; give all of them")
    if not 0 <= offset <= offset + len(queries) <= count:
        last = offset + len(queries)
        raise ValueError(f"queries {offset} to {last} are given and the layout has {count}; mend offset or the layout")
    if gathered_queries is not None and len(gathered_queries) != count:
        raise ValueError(f"{len(gathered_queries)} gathered queries are given and the layout has {count}; give all")
    if gathered_queries is None and len(queries) != count and _against_queries(config):
        raise ValueError(f"{len(queries)} of {count} queries are given; the terms {config.terms} need gathered_queries")
    if (longest := max(config.matryoshka, default=0)) > queries.shape[1]:
        raise ValueError(f"matryoshka {longest} exceeds the {queries.shape[1]} dimensions of the vectors; lower it")


@contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Keep autocast, TF32 and bf16 out of matrix products: they would move a logit by tenths."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
