"""Some rows of the loss: their similarities to everything, masks, weights, and gradients, in one buffer.

Three matrix products a block: similarities, gradient of the rows, gradient of what they are compared with. The rest is
a handful of passes in place: scales are folded into the products' smaller operands, and masks are lists of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zhihui.training.loss.config import LossConfig
from zhihui.training.loss.known import Kind, Known, Masked
from zhihui.training.loss.layout import Layout, Rows, padded
from zhihui.training.loss.softmax import slopes
from zhihui.training.loss.weights import Scales, weigh

_QUERY, _POSITIVE = "query", "positive"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is the same for every chunk and prefix."""

    config: LossConfig
    layout: Layout
    rows: Rows
    """Of all queries."""
    local: Rows
    """Of this process's queries."""
    offset: int
    """Number of this process's first query."""
    known: Known
    own: Tensor
    """The own hard negatives of each query `[B, O]`, filled up with -1."""

    @classmethod
    def of(cls, layout: Layout, config: LossConfig, dtype: torch.dtype, offset: int, count: int) -> Batch:
        """Prepare the rows of `count` queries from `offset` on."""
        rows = Rows.of(layout, dtype)
        own = ((layout.owner >= 0) & ~layout.is_positive).nonzero().squeeze(1)
        return cls(
            config=config,
            layout=layout,
            rows=rows,
            local=rows.within(offset, offset + count),
            offset=offset,
            known=Known(layout, rows),
            own=padded(own, layout.owner[own], len(layout.query_key)),
        )


@dataclass(frozen=True, kw_only=True)
class Block:
    """One kind of thing that rows are compared with."""

    kind: Kind
    against: Tensor
    """`[M, D]`"""
    gradient: Tensor
    """To be added to, for the first of them, which alone get one `[≤ M, D]`."""

    @property
    def side(self) -> str:
        """What of the rows is compared: their queries or their positives."""
        return _QUERY if self.kind.startswith("query") else _POSITIVE


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Scalars summed in place over chunks."""

    loss: Tensor
    temperature: Tensor
    """The gradient by τ."""
    masked: Masked

    @classmethod
    def zero(cls, like: Tensor) -> Sums:
        """Begin at nothing, on the device of some vectors and in their dtype."""
        counts = [torch.zeros((), dtype=torch.long, device=like.device) for _ in Masked._fields]
        return cls(loss=like.new_zeros(()), temperature=like.new_zeros(()), masked=Masked(*counts))


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """The rows of one process, of one prefix."""

    batch: Batch
    temperature: float
    q: Tensor
    """This process's queries `[b, D]`."""
    p: Tensor
    """All passages `[N, D]`."""
    grad_q: Tensor
    grad_p: Tensor
    blocks: list[Block]
    sums: Sums
    """Of all chunks so far."""

    def add(self, part: slice, buffer: Tensor) -> None:
        """Add some rows' share of loss, gradients and counts.

        Args:
            part: which of this process's rows.
            buffer: for the similarities, at least `[R, sum of M]`; overwritten.
        """
        config = self.batch.config
        rows = Rows(*(each[part] for each in self.batch.local))
        query, positive = rows.query - self.batch.offset, rows.positive
        anchor, target = self.q[query], self.p[positive]  # [R, D]
        scales = Scales.of(config, self.temperature)
        logit = buffer[: len(query)]
        views = torch.split(logit, [len(block.against) for block in self.blocks], 1)
        sides = {_QUERY: anchor, _POSITIVE: target}
        scaled = {name: side * scales.others for name, side in sides.items()}
        for block, view in zip(self.blocks, views, strict=True):
            torch.mm(scaled[block.side], block.against.T, out=view)
        of_positive = logit.gather(1, positive[:, None]).squeeze(1) / scales.others
        own = self.batch.own[rows.query]
        own = torch.where(own < 0, positive[:, None], own)  # the positive, masked as an answer, fills up
        for block, view in zip(self.blocks, views, strict=True):
            self._mask_known(block.kind, view, rows)
        of_own = logit.gather(1, own) / scales.others
        if config.false_negative_margin is not None:
            of_own = self._mask_near(logit, of_positive + config.false_negative_margin, of_own, own, scales)
        shift = weigh(logit, of_own, own, scales, config)
        found = slopes(of_positive * scales.plain, logit, shift, config.debias, self.temperature)

        # By similarities and in the mean over queries. e^l stays as it is: its factors go to the smaller operands.
        by_positive = (found.positive * rows.weight * scales.plain)[:, None]
        by_negative = (found.negative * rows.weight * scales.plain)[:, None]
        gradient = {_QUERY: by_positive * target, _POSITIVE: by_positive * anchor}
        along = (by_positive.squeeze(1) * of_positive).sum()
        for block, view in zip(self.blocks, views, strict=True):
            pulled = (view @ block.against).mul_(by_negative)
            along += (pulled * sides[block.side]).sum()  # Σ (dL/ds) s, without another pass over the similarities
            gradient[block.side] += pulled
            block.gradient.addmm_(view[:, : len(block.gradient)].T, sides[block.side] * by_negative)
        self.grad_q.index_add_(0, query, gradient[_QUERY])
        self.grad_p.index_add_(0, positive, gradient[_POSITIVE])
        self.sums.loss.add_((found.loss * rows.weight).sum())
        self.sums.temperature.add_((found.temperature * rows.weight).sum() - along / self.temperature)

    def _mask_known(self, kind: Kind, view: Tensor, rows: Rows) -> None:
        pairs = self.batch.known.pairs(kind, rows)
        view[pairs.row, pairs.column] = -torch.inf
        known, own = self.batch.known.count(kind, pairs, rows)
        self.sums.masked.known.add_(known)
        self.sums.masked.curated.add_(own)

    def _mask_near(self, logit: Tensor, bound: Tensor, of_own: Tensor, own: Tensor, scales: Scales) -> Tensor:
        """Mask what is more alike than `bound` `[R]`; return the similarities of the own hard negatives after it."""
        near = logit > (bound * scales.others)[:, None]
        own_near = near.gather(1, own)
        logit.masked_fill_(near, -torch.inf)
        self.sums.masked.near.add_(near.sum())
        if self.batch.config.mask_curated:
            self.sums.masked.curated.add_(own_near.sum())
            return of_own.masked_fill(own_near, -torch.inf)
        self.sums.masked.near.sub_(own_near.sum())
        return of_own  # from which the weights set their logits again
