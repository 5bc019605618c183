"""Hardness-weighted InfoNCE in closed form: loss and gradients row by row, without a graph over the similarities.

For query i and its positive d⁺, with cosine s and temperature τ,

    loss = -ln( e^{s(q,d⁺)/τ} / Z ),     Z = e^{s(q,d⁺)/τ} + Σ_j w_j e^{s_j/τ}

over the negatives j that no mask removes. The negatives are other queries' passages, the query's own hard negatives
and, when asked for, the further terms of GTE's improved loss (Li et al. 2023, eq. 3). The weights w are constants (no
gradient flows through them):

    none        w = 1
    additive    w = e^{α s}                       LLaVE (Lan et al. 2025), EmbeddingGemma
    importance  w = e^{β s} / mean_k e^{β s_k}    Robinson et al. 2021, eq. 4; optionally debiased with a prior τ⁺

Everything is computed in fp32 whatever the encoder's dtype: at τ = 0.01 a bf16 similarity moves a logit by 0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from zhihui.errors import InputError

Hardness = Literal["none", "additive", "importance"]
Scope = Literal["all", "in_batch", "explicit"]
Term = Literal["query_query", "passage_query", "passage_passage"]

_CHUNK_FLOATS = 2**24
"""Similarities held at once when the rows per chunk are not given: 64 MiB."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss and its masks."""

    temperature: float = 0.02
    """τ, by which cosines are divided."""
    hardness: Hardness = "none"
    """How negatives are weighted by their similarity to the query."""
    strength: float = 5.0
    """α or β; has no meaning with hardness "none"."""
    scope: Scope = "all"
    """Which negatives are weighted: all, only those of other queries, or only the query's own hard negatives."""
    debias: float = 0.0
    """τ⁺, the share of negatives taken to be positives in truth; 0 switches debiasing off. Importance only."""
    terms: tuple[Term, ...] = ()
    """Further negatives: query against queries, positive against other queries, positive against other positives."""
    false_negative_margin: float | None = 0.1
    """A negative is dropped when its similarity exceeds the positive's by more than this; None drops none."""
    mask_curated: bool = False
    """Whether the margin applies to a query's own hard negatives too, which somebody chose."""
    rows: int | None = None
    """Rows computed at once; None suits the memory. Has no influence on the result beyond rounding."""

    def __post_init__(self) -> None:
        for name, choices in (("hardness", Hardness), ("scope", Scope)):
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"{name} {getattr(self, name)!r} is unknown; choose {', '.join(get_args(choices))}")
        for term in self.terms:
            if term not in get_args(Term):
                raise InputError(f"term {term!r} is unknown; choose {', '.join(get_args(Term))}")
        if not 0.0 < self.temperature <= 1.0:
            raise InputError(f"temperature {self.temperature} is out of range; use more than 0 and at most 1")
        if self.strength < 0:
            raise InputError(f"strength {self.strength} is negative, which would favour easy negatives; use 0 or more")
        if not 0.0 <= self.debias < 1.0:
            raise InputError(f"debias {self.debias} is no share; use 0 or more and less than 1")
        if self.debias and self.hardness != "importance":
            raise InputError("debias belongs to hardness importance; set that, or leave debias at 0")
        if self.false_negative_margin is not None and self.false_negative_margin < 0:
            raise InputError(f"false_negative_margin {self.false_negative_margin} is negative; use 0 or more, or none")
        if self.rows is not None and self.rows < 1:
            raise InputError(f"rows {self.rows} is too few; use at least 1, or none")


@dataclass(frozen=True)
class Layout:
    """Who is who among the B queries and N passages of a batch."""

    owner: Tensor
    """Which query brought a passage `[N]`; -1 for one from a memory of earlier batches."""
    is_positive: Tensor
    """Whether the passage answers its owner `[N]`; else it is the owner's own hard negative."""
    passage_key: Tensor
    """Equal for passages of equal text or id `[N]`."""
    query_key: Tensor
    """Equal for queries of equal text or id `[B]`."""

    def to(self, device: torch.device | str) -> Layout:
        """Return the same layout on a device."""
        return Layout(*(t.to(device) for t in (self.owner, self.is_positive, self.passage_key, self.query_key)))


class Gradients(NamedTuple):
    """A loss and its gradients."""

    loss: Tensor
    """Mean over queries, a scalar."""
    queries: Tensor
    """`[B, D]`."""
    passages: Tensor
    """`[N, D]`."""


def info_nce(queries: Tensor, passages: Tensor, layout: Layout, config: LossConfig) -> Gradients:
    """Return the loss and its gradients with respect to the vectors.

    Args:
        queries: `[B, D]`, of unit norm.
        passages: `[N, D]`, of unit norm, N ≥ B: each query has at least one positive.
        layout: which passage belongs to which query and how.
        config: temperature, weights, masks.

    Raises:
        ValueError: a query has no positive.
    """
    q, p = queries.detach().float(), passages.detach().float()
    rows = _Rows.of(layout, len(q))
    grad_q, grad_p = torch.zeros_like(q), torch.zeros_like(p)
    total = torch.zeros((), device=q.device)
    width = len(p) + len(config.terms) * len(rows.positive)
    step = config.rows or max(1, _CHUNK_FLOATS // width)
    for start in range(0, len(rows.positive), step):
        total += _chunk(q, p, layout, rows, slice(start, start + step), config, grad_q, grad_p)
    return Gradients(total, grad_q, grad_p)


class _Rows(NamedTuple):
    """One row of the loss per query and positive; the positives of one query share its weight."""

    query: Tensor
    """`[R]`"""
    positive: Tensor
    """Index among the passages `[R]`."""
    weight: Tensor
    """Sums to one `[R]`."""
    keys: Tensor
    """Keys of all positives of a query, padded by repetition `[B, most positives]`."""

    @classmethod
    def of(cls, layout: Layout, count: int) -> _Rows:
        positive = (layout.is_positive & (layout.owner >= 0)).nonzero().squeeze(1)
        positive = positive[layout.owner[positive].argsort(stable=True)]
        query = layout.owner[positive]
        per_query = torch.bincount(query, minlength=count)
        if int(per_query.min()) == 0:
            raise ValueError(f"query {int(per_query.argmin())} of the batch has no positive; give each at least one")
        place = torch.arange(len(query), device=query.device) - (per_query.cumsum(0) - per_query)[query]
        first = positive[per_query.cumsum(0) - per_query]
        keys = layout.passage_key[first][:, None].repeat(1, int(per_query.max()))
        keys[query, place] = layout.passage_key[positive]
        return cls(query, positive, 1.0 / (per_query[query] * count).float(), keys)


def _chunk(
    q: Tensor, p: Tensor, layout: Layout, rows: _Rows, part: slice, config: LossConfig, grad_q: Tensor, grad_p: Tensor
) -> Tensor:
    """Add the gradients of some rows and return their share of the loss."""
    query, positive, weight = rows.query[part], rows.positive[part], rows.weight[part]
    anchor, target = q[query], p[positive]  # [R, D]
    s_positive = (anchor * target).sum(-1)
    blocks = [_passages(anchor, p, layout, rows, query)]
    blocks += [_term(term, anchor, target, q, p, layout, rows, query, positive) for term in config.terms]
    similarity = torch.cat([block.similarity for block in blocks], 1)
    allowed = torch.cat([block.allowed for block in blocks], 1)
    own = pad(blocks[0].own, (0, similarity.shape[1] - len(p)))
    if config.false_negative_margin is not None:
        false = similarity > s_positive[:, None] + config.false_negative_margin
        allowed &= ~false if config.mask_curated else ~false | own
    logit = _weighted(similarity, allowed, own, config)
    loss, d_positive, d_negative = _softmax(s_positive / config.temperature, logit, allowed, config)
    d_positive = d_positive * weight / config.temperature
    d_negative = d_negative * (weight / config.temperature)[:, None]

    grad_q.index_add_(0, query, d_positive[:, None] * target)
    grad_p.index_add_(0, positive, d_positive[:, None] * anchor)
    start = 0
    for block in blocks:
        slope = d_negative[:, start : start + len(block.against)]
        start += len(block.against)
        side, index = (grad_q, query) if block.of_query else (grad_p, positive)
        side.index_add_(0, index, slope @ block.against)
        other = slope.T @ (anchor if block.of_query else target)
        (grad_q if block.against_queries else grad_p).index_add_(0, block.place, other)
    return (loss * weight).sum()


class _Block(NamedTuple):
    """Similarities of the rows to one kind of negative."""

    similarity: Tensor
    """`[R, M]`"""
    allowed: Tensor
    """Whether it is a negative of the row `[R, M]`."""
    own: Tensor
    """Whether it is the query's own hard negative `[R, M]`."""
    against: Tensor
    """Vectors of the negatives `[M, D]`."""
    place: Tensor
    """Their places among queries or passages `[M]`."""
    of_query: bool
    """Whether the row's side is its query, or else its positive."""
    against_queries: bool
    """Whether the negatives are queries, or else passages."""


def _passages(anchor: Tensor, p: Tensor, layout: Layout, rows: _Rows, query: Tensor) -> _Block:
    same_query = (layout.owner >= 0) & (layout.query_key[layout.owner] == layout.query_key[query][:, None])
    known = same_query & layout.is_positive  # positives of this query, or of an equal one
    for keys in rows.keys[query].T:  # whatever equals one of them
        known |= layout.passage_key == keys[:, None]
    own = (layout.owner == query[:, None]) & ~layout.is_positive
    index = torch.arange(len(p), device=p.device)
    return _Block(anchor @ p.T, ~known, own & ~known, p, index, True, False)


def _term(
    term: Term,
    anchor: Tensor,
    target: Tensor,
    q: Tensor,
    p: Tensor,
    layout: Layout,
    rows: _Rows,
    query: Tensor,
    positive: Tensor,
) -> _Block:
    """Return one of GTE's further terms; what answers one and the same query is never set against itself."""
    of_query = term == "query_query"
    against_queries = term != "passage_passage"
    index = torch.arange(len(q), device=q.device) if against_queries else rows.positive
    whose = index if against_queries else rows.query
    against = (q if against_queries else p)[index]
    related = layout.query_key[whose] == layout.query_key[query][:, None]
    mine = layout.passage_key[positive]
    for keys in rows.keys[whose].T:  # the row's positive answers that query too
        related |= keys == mine[:, None]
    if not of_query and not against_queries:
        related |= layout.passage_key[index] == mine[:, None]
    similarity = (anchor if of_query else target) @ against.T
    return _Block(similarity, ~related, torch.zeros_like(related), against, index, of_query, against_queries)


def _weighted(similarity: Tensor, allowed: Tensor, own: Tensor, config: LossConfig) -> Tensor:
    """Return the logits s/τ + ln w of the negatives."""
    logit = similarity / config.temperature
    if config.hardness == "none":
        return logit
    within = {"all": allowed, "explicit": allowed & own, "in_batch": allowed & ~own}[config.scope]
    boost = config.strength * similarity
    if config.hardness == "importance":
        count = within.sum(1, keepdim=True).clamp(min=1)
        mean = boost.masked_fill(~within, -torch.inf).logsumexp(1, keepdim=True) - count.log()
        boost = boost - mean.nan_to_num(neginf=0.0)
    return logit + boost.masked_fill(~within, 0.0)


def _softmax(positive: Tensor, negative: Tensor, allowed: Tensor, config: LossConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of each row `[R]` and its slopes by the logits: positive `[R]`, negatives `[R, M]`."""
    negative = negative.masked_fill(~allowed, -torch.inf)
    top = torch.maximum(positive, negative.max(1).values)
    e_positive, e_negative = (positive - top).exp(), (negative - top[:, None]).exp()
    mass = e_negative.sum(1)
    if not config.debias:
        z = e_positive + mass
        return z.log() + top - positive, e_positive / z - 1.0, e_negative / z[:, None]
    count, prior = allowed.sum(1).float(), config.debias
    free = (mass - prior * count * e_positive) / (1.0 - prior)
    floor = count * (-1.0 / config.temperature - top).exp()
    clamped = free < floor
    z = e_positive + torch.where(clamped, floor, free)
    slope = torch.where(clamped, 0.0, 1.0 / (1.0 - prior))
    d_positive = e_positive * (1.0 - slope * prior * count) / z - 1.0
    return z.log() + top - positive, d_positive, e_negative * (slope / z)[:, None]
