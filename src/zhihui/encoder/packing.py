"""Packing: texts of any length side by side in one row, so that no padding is ever computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """B token sequences end to end: T tokens in all."""

    ids: Tensor
    """Token ids `[T]`."""
    lengths: tuple[int, ...]
    """Tokens of each sequence; their sum is T. Python numbers, so that slicing never waits for a device."""

    @cached_property
    def lengths_tensor(self) -> Tensor:
        """Tokens of each sequence `[B]`, on the device."""
        return torch.tensor(self.lengths).to(self.ids.device)

    @cached_property
    def ends(self) -> Tensor:
        """Index one past each sequence's last token `[B]`."""
        return self.lengths_tensor.cumsum(0)

    @cached_property
    def starts(self) -> Tensor:
        """Index of each sequence's first token `[B]`."""
        return self.ends - self.lengths_tensor

    @cached_property
    def sequence_of_token(self) -> Tensor:
        """Which sequence each token belongs to `[T]`."""
        return torch.arange(len(self.lengths), device=self.ids.device).repeat_interleave(
            self.lengths_tensor, output_size=len(self.ids)
        )

    @cached_property
    def positions(self) -> Tensor:
        """Position of each token in its own sequence `[T]`."""
        return torch.arange(len(self.ids), device=self.ids.device) - self.starts[self.sequence_of_token]

    def to(self, device: torch.device | str) -> Packed:
        """Return the same sequences on a device."""
        return Packed(self.ids.to(device, non_blocking=True), self.lengths)

    def padded(self, pad_id: int) -> tuple[Tensor, Tensor]:
        """Return the sequences padded on the right: ids `[B, L]` and mask `[B, L]`."""
        if len(self.lengths) == 1:
            return self.ids[None], torch.ones_like(self.ids)[None]
        columns = torch.arange(max(self.lengths), device=self.ids.device)
        mask = columns < self.lengths_tensor[:, None]
        ids = torch.full(mask.shape, pad_id, device=self.ids.device).masked_scatter(mask, self.ids)
        return ids, mask.long()


def pack(sequences: Sequence[Sequence[int]]) -> Packed:
    """Lay token sequences end to end.

    Raises:
        ValueError: a sequence is empty (it would have no state to pool).
    """
    lengths = tuple(len(s) for s in sequences)
    if not lengths or min(lengths) == 0:
        raise ValueError("cannot pack an empty sequence: every text needs at least one token, such as EOS")
    return Packed(torch.tensor([i for s in sequences for i in s], dtype=torch.long), lengths)


def plan_batches(lengths: Sequence[int], token_budget: int, *, padded: bool = False) -> list[list[int]]:
    """Group sequences, longest first, into batches of at most `token_budget` tokens (one longer sequence goes alone).

    Longest first, so that memory peaks at the start and runs of equal length, which attention takes in one call, lie
    together. Ties keep their order: the plan depends on nothing but the lengths.

    Args:
        lengths: tokens of each sequence.
        token_budget: most tokens a batch.
        padded: count each sequence as long as the longest of its batch, which padding makes it.
    """
    batches: list[list[int]] = []
    cost = room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (cost if padded else lengths[index]) > room:
            batches.append([])
            room = token_budget
            cost = lengths[index]
        batches[-1].append(index)
        room -= cost if padded else lengths[index]
    return batches
