"""Soft targets: a query's own passages should be as alike to it, in proportion, as the teacher's grades say.

    KL( softmax(grade / T) ‖ softmax(s / τ) )   over the own positives and hard negatives that have a grade

A query with fewer than two graded passages takes no part. The mean is over all queries of the batch, as in the loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zhihui.training.loss.config import LossConfig
from zhihui.training.loss.layout import Layout, padded


class Distillation:
    """The divergence of a batch, of which each process computes its own queries' part."""

    def __init__(self, layout: Layout, config: LossConfig, dtype: torch.dtype) -> None:
        """Look up who is graded.

        Raises:
            ValueError: the layout has no grades.
        """
        if layout.grade is None:
            raise ValueError("distillation needs the teacher's grades; give the layout grade, or set distillation to 0")
        count = len(layout.query_key)
        graded = ((layout.owner >= 0) & ~layout.grade.isnan()).nonzero().squeeze(1)
        self.passages = padded(graded, layout.owner[graded], count)  # [B, G]
        target = layout.grade.to(dtype)[self.passages] / config.teacher_temperature
        self.target = target.masked_fill(self.passages < 0, -torch.inf)
        weight = torch.full((count,), config.distillation / count, dtype=dtype, device=graded.device)
        self.weight = weight if layout.query_weight is None else weight * layout.query_weight.to(dtype)
        self.takes_part = (self.passages >= 0).sum(1) >= 2

    def add(
        self, q: Tensor, p: Tensor, offset: int, temperature: float, step: int, grad_q: Tensor, grad_p: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients and return loss and derivative by τ, both scalars.

        Args:
            q: this process's queries `[b, D]`.
            p: all passages `[N, D]`.
            offset: number of the first of the queries.
            temperature: τ.
            step: similarities times D to hold at once.
            grad_q: `[b, D]`.
            grad_p: `[N, D]`.
        """
        loss, by_temperature = q.new_zeros(()), q.new_zeros(())
        for query in self._chunks(offset, offset + len(q), step // q.shape[1]):
            passages, here = self.passages[query], self.passages[query] >= 0
            anchor, against = q[query - offset], p[passages]  # [C, D], [C, G, D]
            similarity = torch.einsum("cd,cgd->cg", anchor, against)
            student = (similarity / temperature).masked_fill(~here, -torch.inf).log_softmax(1)
            teacher = self.target[query].log_softmax(1)
            share, weight = teacher.exp(), self.weight[query]
            gap = torch.where(here, teacher - student, 0.0)
            loss += ((share * gap).sum(1) * weight).sum()
            slope = (student.exp() - share) * (weight / temperature)[:, None]
            by_temperature -= (slope * similarity).sum() / temperature
            grad_q.index_add_(0, query - offset, torch.einsum("cg,cgd->cd", slope, against))
            grad_p.index_add_(0, passages[here], (slope[:, :, None] * anchor[:, None])[here])
        return loss, by_temperature

    def _chunks(self, start: int, stop: int, floats: int) -> Iterator[Tensor]:
        query = torch.arange(start, stop, device=self.passages.device)[self.takes_part[start:stop]]
        size = max(1, floats // max(1, self.passages.shape[1]))
        return iter(torch.split(query, size) if len(query) else [])
