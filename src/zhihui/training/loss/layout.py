"""Layout: which passage of a batch belongs to which query, what equals what, and what weighs how much."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Who is who among the B queries and N passages of a batch, over all processes.

    Raises:
        ValueError: the tensors' shapes do not agree.
    """

    owner: Tensor
    """Which query brought a passage `[N]`; -1 for one from a memory of earlier batches, which gets no gradient."""
    is_positive: Tensor
    """Whether the passage answers its owner `[N]`; else it is the owner's own hard negative."""
    passage_key: Tensor
    """Passages are the same where a key is equal `[N]`, or any of several (text, id) `[N, K]`; see `equality_keys`."""
    query_key: Tensor
    """Equal for queries of equal text `[B]`."""
    query_weight: Tensor | None = None
    """Factor on a query's loss, for instance its data set's `[B]`; None for 1. The mean is over B all the same."""
    grade: Tensor | None = None
    """The teacher's grade of a passage for its owner `[N]`, NaN where it gave none; None when there are no grades."""

    def __post_init__(self) -> None:
        count = len(self.owner)
        for name, tensor in (
            ("is_positive", self.is_positive),
            ("passage_key", self.passage_key),
            ("grade", self.grade),
        ):
            if tensor is not None and len(tensor) != count:
                raise ValueError(f"{name} is for {len(tensor)} passages and owner for {count}; give one entry each")
        if self.query_weight is not None and len(self.query_weight) != len(self.query_key):
            given, wanted = len(self.query_weight), len(self.query_key)
            raise ValueError(f"query_weight is for {given} queries and query_key for {wanted}; give one entry each")

    def to(self, device: torch.device | str) -> Layout:
        """Return the same layout on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Layout(**{name: tensor.to(device) for name, tensor in moved.items() if tensor is not None})


def equality_keys(texts: Sequence[str], ids: Sequence[str | None] | None = None) -> Tensor:
    """Return keys that are equal where texts (or ids) are, whatever the batch, the process and the step.

    Args:
        texts: compared with runs of white space as one space.
        ids: compared as they are; None stands for no id, which equals no other.

    Returns:
        `[N]`, or `[N, 2]` with ids.
    """
    by_text = [_hashed("text", " ".join(text.split())) for text in texts]
    if ids is None:
        return torch.tensor(by_text, dtype=torch.long)
    by_id = [key if name is None else _hashed("id", name) for key, name in zip(by_text, ids, strict=True)]
    return torch.tensor([*zip(by_text, by_id, strict=True)], dtype=torch.long).reshape(-1, 2)


def _hashed(kind: str, text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=kind.encode()).digest()
    return int.from_bytes(digest, "big", signed=True)


class Rows(NamedTuple):
    """One row of the loss per query and positive, by query; the positives of one query share its weight."""

    query: Tensor
    """`[R]`"""
    positive: Tensor
    """Index among the passages `[R]`."""
    weight: Tensor
    """Of the row in the mean over all queries `[R]`."""

    @classmethod
    def of(cls, layout: Layout, dtype: torch.dtype) -> Rows:
        """Lay out the rows of all queries.

        Raises:
            ValueError: a query has no positive, or a passage an owner that is not there.
        """
        count = len(layout.query_key)
        positive = (layout.is_positive & (layout.owner >= 0)).nonzero().squeeze(1)
        positive = positive[layout.owner[positive].argsort(stable=True)]
        query = layout.owner[positive]
        per_query = torch.bincount(query, minlength=count)
        if len(per_query) > count or int(layout.owner.max()) >= count:
            raise ValueError(f"a passage belongs to query {int(layout.owner.max())}, and there are {count} queries")
        if int(per_query.min()) == 0:
            raise ValueError(f"query {int(per_query.argmin())} of the batch has no positive; give each at least one")
        weight = 1.0 / (per_query[query] * count).to(dtype)
        if layout.query_weight is not None:
            weight = weight * layout.query_weight.to(dtype)[query]
        return cls(query, positive, weight)

    def within(self, start: int, stop: int) -> Rows:
        """Return the rows of the queries from `start` to before `stop`."""
        bounds = torch.searchsorted(self.query, torch.tensor([start, stop], device=self.query.device))
        part = slice(int(bounds[0]), int(bounds[1]))
        return Rows(self.query[part], self.positive[part], self.weight[part])


def padded(members: Tensor, group: Tensor, count: int) -> Tensor:
    """Return the members of each of `count` groups `[count, most members]`, filled up with -1."""
    order = group.argsort(stable=True)
    members, group = members[order], group[order]
    sizes = torch.bincount(group, minlength=count)
    table = members.new_full((count, int(sizes.max()) if len(members) else 0), -1)
    table[group, torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[group]] = members
    return table
