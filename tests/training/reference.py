"""A naive loss in plain Python loops over fp64 autograd: slow, and simple enough to be believed."""

from __future__ import annotations

import torch
from torch import Tensor


def naive_loss(q: Tensor, p: Tensor, layout, config) -> Tensor:  # type: ignore[no-untyped-def]
    owner, positive = layout.owner.tolist(), layout.is_positive.tolist()
    pkey, qkey = layout.passage_key.tolist(), layout.query_key.tolist()
    positives = {i: [j for j, o in enumerate(owner) if o == i and positive[j]] for i in range(len(q))}
    keys = {i: {pkey[j] for j in js} for i, js in positives.items()}
    total = q.new_zeros(())
    for i in range(len(q)):
        for d in positives[i]:
            s_pos = q[i] @ p[d]
            negatives = []  # (similarity, own)
            for j in range(len(p)):
                mine = owner[j] >= 0 and qkey[owner[j]] == qkey[i] and positive[j]
                if not mine and pkey[j] not in keys[i]:
                    negatives.append((q[i] @ p[j], owner[j] == i))
            for term in config.terms:
                if term == "query_query":
                    for k in range(len(q)):
                        if qkey[k] != qkey[i] and pkey[d] not in keys[k]:
                            negatives.append((q[i] @ q[k], False))
                if term == "passage_query":
                    for k in range(len(q)):
                        if qkey[k] != qkey[i] and pkey[d] not in keys[k]:
                            negatives.append((p[d] @ q[k], False))
                if term == "passage_passage":
                    for k in range(len(q)):
                        for e in positives[k]:
                            if qkey[k] != qkey[i] and pkey[d] not in keys[k] and pkey[e] != pkey[d]:
                                negatives.append((p[d] @ p[e], False))
            margin = config.false_negative_margin
            if margin is not None:
                negatives = [
                    (s, own)
                    for s, own in negatives
                    if float(s.detach()) <= float(s_pos.detach()) + margin or (own and not config.mask_curated)
                ]
            inside = [n for n in negatives if config.scope == "all" or n[1] == (config.scope == "explicit")]
            mean = sum(float((config.strength * s.detach()).exp()) for s, _ in inside) / max(1, len(inside))
            mass = q.new_zeros(())
            for s, own in negatives:
                weight = 1.0
                if config.scope == "all" or own == (config.scope == "explicit"):
                    if config.hardness == "additive":
                        weight = float((config.strength * s.detach()).exp())
                    if config.hardness == "importance":
                        weight = float((config.strength * s.detach()).exp()) / mean
                mass = mass + weight * (s / config.temperature).exp()
            e_pos = (s_pos / config.temperature).exp()
            if config.debias:
                n = len(negatives)
                mass = (mass - config.debias * n * e_pos) / (1 - config.debias)
                mass = mass.clamp(min=n * float(torch.tensor(-1 / config.temperature).exp()))
            total = total + ((e_pos + mass).log() - s_pos / config.temperature) / len(positives[i])
    return total / len(q)
