"""A naive loss: fp64, one pair at a time in Python loops, gradients by autograd. Slow, and simple enough to believe.

It shares nothing with the implementation but the classes of its arguments, and says in a `Witness` what it met on its
way, so that a test can tell a comparison from a vacuous one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Witness:
    """What happened in a batch; counts are of the longest prefix."""

    known: int = 0
    near: int = 0
    curated: int = 0
    spared: int = 0
    """Own hard negatives beyond the margin that were kept."""
    memory: int = 0
    """Negatives from the memory."""
    memory_masked: int = 0
    weights: list[float] = field(default_factory=list)
    """Of all negatives with one that could differ from 1."""
    bounded: int = 0
    """Rows whose debiased mass fell to its bound."""
    lifted: int = 0
    """Those of them where it was above zero."""
    divergence: float = 0.0
    negatives: dict[str, int] = field(default_factory=dict)
    """How many of each kind."""


@dataclass
class Reference:
    """Loss and gradients by autograd."""

    loss: Tensor
    queries: Tensor
    passages: Tensor
    temperature: Tensor
    witness: Witness


def reference(q: Tensor, p: Tensor, layout, config, temperature: float | None = None) -> Reference:
    """The loss of all queries at once, in fp64."""
    q = q.detach().double().clone().requires_grad_()
    p = p.detach().double().clone().requires_grad_()
    tau = torch.tensor(temperature or config.temperature, dtype=torch.float64, requires_grad=True)
    memory = (layout.owner < 0)[:, None]
    seen = torch.where(memory, p.detach(), p)
    total = q.new_zeros(())
    lengths = config.matryoshka or [q.shape[1]]
    weights = config.matryoshka_weights or [1.0] * len(lengths)
    for length, weight in zip(lengths, weights, strict=True):
        part = Witness()
        total = total + weight * _loss(_cut(q, length), _cut(seen, length), layout, config, tau, part)
        if length == max(lengths):
            witness = part
    total.backward()
    grad_p = torch.zeros_like(p) if p.grad is None else p.grad
    return Reference(total.detach(), q.grad, grad_p, tau.grad, witness)


def _cut(x: Tensor, length: int) -> Tensor:
    if length == x.shape[1]:
        return x
    return torch.stack([row[:length] / (row[:length] ** 2).sum().sqrt() for row in x])


def _loss(q: Tensor, p: Tensor, layout, config, tau: Tensor, witness: Witness) -> Tensor:
    owner, positive = layout.owner.tolist(), layout.is_positive.tolist()
    qkey = layout.query_key.tolist()
    pkeys = [set(keys) for keys in layout.passage_key.reshape(len(owner), -1).tolist()]
    count = len(qkey)
    factor = [1.0] * count if layout.query_weight is None else layout.query_weight.tolist()
    mine = {i: [j for j in range(len(owner)) if owner[j] == i and positive[j]] for i in range(count)}

    def answers(j: int, i: int) -> bool:
        """Whether passage j is known to answer query i."""
        return any(qkey[k] == qkey[i] and any(pkeys[j] & pkeys[d] for d in mine[k]) for k in range(count))

    known = [[answers(j, i) for i in range(count)] for j in range(len(owner))]
    total = q.new_zeros(())
    for i in range(count):
        for d in mine[i]:
            row = _row(i, d, q, p, owner, positive, qkey, mine, known, config, tau, witness)
            total = total + factor[i] / count / len(mine[i]) * row
        if config.distillation:
            divergence = _divergence(i, q, p, owner, layout.grade.tolist(), config, tau)
            witness.divergence += _value(divergence)
            total = total + config.distillation * factor[i] / count * divergence
    return total


def _row(i, d, q, p, owner, positive, qkey, mine, known, config, tau, witness) -> Tensor:
    count, s_pos = len(q), q[i] @ p[d]
    candidates = []  # (similarity, kind, own, from memory, is it known, is it the row itself)
    for j in range(len(p)):
        itself, own = j in mine[i], owner[j] == i and not positive[j]
        candidates.append((q[i] @ p[j], "passages", own, owner[j] < 0, known[j][i], itself))
    for k in range(count):
        if "query_query" in config.terms:
            shared = any(known[j][i] for m in range(count) if qkey[m] == qkey[k] for j in mine[m])
            candidates.append((q[i] @ q[k], "query_query", False, False, shared, k == i))
        if "passage_query" in config.terms:
            candidates.append((p[d] @ q[k], "passage_query", False, False, known[d][k], k == i))
        if "passage_passage" in config.terms:
            for e in mine[k]:
                shared = any(known[d][m] and known[e][m] for m in range(count))
                candidates.append((p[d] @ p[e], "passage_passage", False, False, shared, k == i))
    negatives = []  # (similarity, own)
    for s, kind, own, memory, is_known, itself in candidates:
        if itself:
            continue
        if is_known:
            witness.known += 1
            witness.curated += own
            witness.memory_masked += memory
            continue
        if config.false_negative_margin is not None and _value(s - s_pos) > config.false_negative_margin:
            if not own or config.mask_curated:
                witness.near += 1
                witness.curated += own
                witness.memory_masked += memory
                continue
            witness.spared += 1
        witness.memory += memory
        witness.negatives[kind] = witness.negatives.get(kind, 0) + 1
        negatives.append((s, own))
    weighted = _weights(negatives, config, witness)
    mass = q.new_zeros(())
    for (s, _), weight in zip(negatives, weighted, strict=True):
        mass = mass + weight * torch.exp(s / tau)
    e_pos = torch.exp(s_pos / tau)
    if config.debias:
        n = len(negatives)
        free = (mass - config.debias * n * e_pos) / (1 - config.debias)
        bound = n * torch.exp(-1 / tau)
        witness.bounded += bool(free < bound)
        witness.lifted += bool(0 < free < bound)
        mass = bound if free < bound else free
    return torch.log(e_pos + mass) - s_pos / tau


def _weights(negatives, config, witness) -> list[float]:
    if config.hardness == "none":
        return [1.0] * len(negatives)
    inside = [config.scope == "all" or own == (config.scope == "explicit") for _, own in negatives]
    raw = [math.exp(config.strength * _value(s)) for s, _ in negatives]
    if config.hardness == "importance" and any(inside):
        mean = sum(w for w, ok in zip(raw, inside, strict=True) if ok) / sum(inside)
        raw = [w / mean for w in raw]
    witness.weights += [w for w, ok in zip(raw, inside, strict=True) if ok]
    return [w if ok else 1.0 for w, ok in zip(raw, inside, strict=True)]


def _divergence(i, q, p, owner, grade, config, tau) -> Tensor:
    graded = [j for j in range(len(p)) if owner[j] == i and not math.isnan(grade[j])]
    if not graded:
        return q.new_zeros(())
    raw = [math.exp(grade[j] / config.teacher_temperature) for j in graded]
    teacher = [w / sum(raw) for w in raw]
    z = sum(torch.exp(q[i] @ p[j] / tau) for j in graded)
    total = q.new_zeros(())
    for j, share in zip(graded, teacher, strict=True):
        total = total + share * (math.log(share) - (q[i] @ p[j] / tau - torch.log(z)))
    return total


def _value(x: Tensor) -> float:
    return float(x.detach())
