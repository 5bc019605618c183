"""The loss and gradients of one step over all processes: local rows against gathered passages.

1. gather     the passages of all processes (and the queries, if terms are set against them): one collective each
2. remember   passages of earlier batches are put behind them
3. loss       of this process's queries against all of it
4. back       what each process's queries give to a passage is summed where the passage is: one collective each
5. sum        loss, slope of the temperature and counts, in one collective
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zhihui.training.collate import Batch
from zhihui.training.loss import Layout, LossConfig, info_nce
from zhihui.training.memory import Memory, Remembered
from zhihui.training.processes import Processes
from zhihui.training.refresh import Notes


class Step(NamedTuple):
    """What one step found."""

    loss: float
    """The mean over the queries of all processes."""
    gradient: Tensor
    """By this process's vectors `[S, D]`, of the loss over all processes."""
    temperature: float
    """The loss's derivative by τ."""
    masked: tuple[int, int, int]
    """Negatives dropped over all processes: known, near, and how many of both were curated."""
    remembered: int
    """Passages of earlier batches among the negatives."""
    notes: Notes
    """How similar this process's queries and their own negatives are."""


@torch.no_grad()
def step_gradients(
    vectors: Tensor,
    batch: Batch,
    config: LossConfig,
    *,
    number: int,
    temperature: float,
    processes: Processes,
    memory: Memory | None = None,
) -> Step:
    """Return loss and gradients of a step, and let the memory have its passages.

    Args:
        vectors: of this process's `batch.sequences` `[S, D]`.
        batch: on the device of the vectors.
        config: of the loss.
        number: of the step, from 1.
        temperature: τ.
        processes: those of the run.
        memory: of earlier batches; None for none.
    """
    count = batch.queries[processes.rank]
    first, begin = (sum(counts[: processes.rank]) for counts in (batch.queries, batch.passages))
    queries, local = vectors[:count], vectors[count:]
    passages = processes.gather(local, batch.passages)
    everyone = None
    if processes.size > 1 and {"query_query", "passage_query"} & set(config.terms):
        everyone = processes.gather(queries, batch.queries)
    older = None if memory is None else memory.recall(batch.source, number, batch.own_keys)
    against, layout = (passages, batch.layout) if older is None else _with(passages, batch.layout, older)
    found = info_nce(queries, against, layout, config, temperature=temperature, gathered_queries=everyone, offset=first)
    by_queries = found.queries
    if found.gathered_queries is not None:
        by_queries = by_queries + processes.sum_back(found.gathered_queries, batch.queries)
    by_passages = processes.sum_back(found.passages[: len(passages)], batch.passages)
    scalars = torch.stack([value.double() for value in (found.loss, found.temperature, *found.masked)])
    loss, slope, *masked = processes.sum(scalars).tolist()
    if memory is not None:
        memory.remember(batch.source, number, passages[batch.planned], batch.own_keys[batch.planned])
    known, near, curated = map(int, masked)
    return Step(
        loss=loss,
        gradient=torch.cat([by_queries, by_passages]),
        temperature=slope,
        masked=(known, near, curated),
        remembered=len(against) - len(passages),
        notes=_notes(queries, local, batch, number, first, begin),
    )


def _with(passages: Tensor, layout: Layout, older: Remembered) -> tuple[Tensor, Layout]:
    """Put remembered passages behind those of the batch."""
    extra = len(older.keys)
    keys = older.keys[:, None].expand(-1, layout.passage_key.shape[1])
    grade = layout.grade
    whole = Layout(
        owner=torch.cat([layout.owner, layout.owner.new_full((extra,), -1)]),
        is_positive=torch.cat([layout.is_positive, layout.is_positive.new_zeros(extra)]),
        passage_key=torch.cat([layout.passage_key, keys]),
        query_key=layout.query_key,
        query_weight=layout.query_weight,
        grade=None if grade is None else torch.cat([grade, grade.new_full((extra,), torch.nan)]),
    )
    return torch.cat([passages, older.vectors.to(passages.dtype)]), whole


def _notes(queries: Tensor, local: Tensor, batch: Batch, number: int, first: int, begin: int) -> Notes:
    mine = slice(begin, begin + len(local))
    slot = batch.slot[mine]
    negative = (slot >= 0).nonzero().squeeze(1)
    owner = batch.layout.owner[mine][negative]
    similarity = (queries[owner - first] * local[negative]).sum(1).float().cpu()
    return Notes(number, torch.tensor(batch.rows)[owner.cpu()], slot[negative].cpu(), similarity)
