"""Batches for the loss's tests in which every mask, weight and term has something to do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import normalize

from zhihui.training.loss import Gradients, Layout, LossConfig, info_nce

DIMENSIONS = 12


def batch(seed: int, *, queries: int = 6, memory: int = 3, ids: bool = False) -> tuple[Tensor, Tensor, Layout]:
    """Six queries or more, in fp64, whose passages hold what goes wrong in practice.

    One query has two positives; some have hard negatives nearer than their positive; one has its positive among its
    hard negatives; two have equal texts; two share a positive; another's passage lies nearer than the positive; the
    memory holds a known answer and a near one. The passages come in any order.
    """
    g = torch.Generator().manual_seed(seed)
    q = normalize(torch.randn(queries, DIMENSIONS, generator=g, dtype=torch.float64), dim=-1)
    rows: list[tuple[int, bool, int, Tensor]] = []  # owner, positive, key, vector

    def add(owner: int, positive: bool, key: int, near: int, spread: float) -> None:
        noise = torch.randn(DIMENSIONS, generator=g, dtype=torch.float64) / DIMENSIONS**0.5
        rows.append((owner, positive, key, normalize(q[near] + spread * noise, dim=-1)))

    for i in range(queries):
        add(i, True, 100 + i, i, 1.2)
        add(i, False, 200 + i, i, 1.5)
    add(0, True, 110, 0, 1.0)  # a second positive
    add(1, False, 210, 1, 0.1)  # a hard negative far nearer than the positive
    add(2, False, 102, 2, 0.4)  # the positive drawn again as a negative
    add(3, True, 104, 3, 0.5)  # shares a positive with query 4
    add(4, False, 212, 4, 3.0)  # easy hard negatives, so that some are left to weigh when near ones are masked
    add(4, False, 213, 1, 1.0)
    add(5, False, 211, 0, 0.1)  # near query 0 without being known to it
    for n in range(memory):
        # A known answer of query 1, one near query 2, and others.
        add(-1, False, [101, 301, 302][n] if n < 3 else 300 + n, [1, 2, 3][n % 3], [0.5, 0.1, 1.0][n % 3])
    order = torch.randperm(len(rows), generator=g).tolist()
    owner = torch.tensor([rows[j][0] for j in order])
    key = torch.tensor([rows[j][2] for j in order])
    if ids:
        # Most ids say nothing; by its id a hard negative of query 4 is a positive of query 5 in another edition.
        number = torch.arange(len(rows)) + 1000
        number[key == 204] = number[key == 105] = 7
        key = torch.stack([key, number], 1)
    query_key = torch.arange(queries)
    query_key[queries - 1] = 0  # the last asks what the first asks
    grade = torch.randn(len(rows), generator=g, dtype=torch.float64) * 2
    grade[owner == 2] = torch.nan  # query 2 has no grades at all
    grade[(torch.rand(len(rows), generator=g) < 0.2) | (owner < 0)] = torch.nan
    grade[owner == 1] = torch.tensor([0.3, 2.0, -1.0], dtype=torch.float64)  # query 1 is graded wholly
    layout = Layout(
        owner=owner,
        is_positive=torch.tensor([rows[j][1] for j in order]),
        passage_key=key,
        query_key=query_key,
        query_weight=torch.rand(queries, generator=g, dtype=torch.float64) + 0.5,
        grade=grade,
    )
    return q, torch.stack([rows[j][3] for j in order]), layout


def over_processes(
    q: Tensor, p: Tensor, layout: Layout, config: LossConfig, *, world: int, temperature: float | None = None
) -> Gradients:
    """What `world` processes return in sum, each for its own queries; the last has fewest."""
    bounds = [round(len(q) * rank / world) for rank in range(world + 1)]
    found = [
        info_nce(q[a:b], p, layout, config, gathered_queries=q, offset=a, temperature=temperature)
        for a, b in pairwise(bounds)
    ]
    queries = torch.cat([part.queries for part in found])
    for part in found:
        if part.gathered_queries is not None:
            queries = queries + part.gathered_queries
    masked = type(found[0].masked)(*(sum(counts) for counts in zip(*(part.masked for part in found), strict=True)))
    return Gradients(
        loss=sum(part.loss for part in found),
        queries=queries,
        passages=sum(part.passages for part in found),
        temperature=sum(part.temperature for part in found),
        masked=masked,
        gathered_queries=None,
    )


def pair_batch(
    queries: int, dimensions: int, *, negatives: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Layout]:
    """An ordinary batch: one positive and some hard negatives each, all texts distinct."""
    g = torch.Generator().manual_seed(seed)
    q = normalize(torch.randn(queries, dimensions, generator=g, dtype=torch.float64), dim=-1)
    owner = torch.arange(queries).repeat(1 + negatives)
    p = normalize(torch.randn(len(owner), dimensions, generator=g, dtype=torch.float64) / dimensions**0.5 + q[owner])
    layout = Layout(
        owner=owner,
        is_positive=torch.arange(len(owner)) < queries,
        passage_key=torch.arange(len(owner)),
        query_key=torch.arange(queries),
    )
    return q.to(dtype), p.to(dtype), layout


def without(layout: Layout, *names: str) -> Layout:
    """The same layout less some of what is optional."""
    return replace(layout, **dict.fromkeys(names))


def assert_same(found: Gradients, expected, *, rtol: float, atol: float) -> None:
    """Compare a loss and all its gradients with the reference's, which must not be zero."""
    assert expected.queries.abs().max() > 1e-6, "zero gradients would prove nothing"
    assert expected.passages.abs().max() > 1e-6, "zero gradients would prove nothing"
    assert expected.temperature.abs() > 1e-9, "a zero gradient would prove nothing"
    for name in ("loss", "queries", "passages", "temperature"):
        wanted = getattr(expected, name)
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(
            getattr(found, name).double(),
            wanted,
            rtol=rtol,
            atol=atol * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )
