"""Cross-batch memory: passages of earlier batches as further negatives, first in, first out (Wang et al. 2020, XBM).

Each data set has its own, for a batch is of one data set. What is remembered are vectors as they were then: they get no
gradient, and grow stale as the model moves on. Every process holds the same memory, without a word being sent, because
it remembers the gathered passages of all in the order of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from zhihui.errors import InputError

_FILE = "memory.safetensors"


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """How much of earlier batches is remembered."""

    size: int = 0
    """Passages remembered of each data set; 0 remembers nothing."""
    warmup: int = 0
    """Steps before anything is remembered: at first vectors change too fast to be of use."""
    staleness: int | None = None
    """Steps, of all data sets, after which a vector is forgotten; None keeps it until newer ones need its place."""

    def __post_init__(self) -> None:
        if self.size < 0 or self.warmup < 0:
            raise InputError(f"size {self.size} and warmup {self.warmup} must be 0 or more")
        if self.staleness is not None and self.staleness < 1:
            raise InputError(f"staleness {self.staleness} forgets all at once; use 1 step or more, or none")
        if not self.size and (self.warmup or self.staleness is not None):
            raise InputError("warmup and staleness belong to a memory; give it a size")


class Remembered(NamedTuple):
    """Passages of one data set, oldest first."""

    vectors: Tensor
    """`[M, D]`"""
    keys: Tensor
    """Of their texts `[M]`."""
    steps: Tensor
    """When they were computed `[M]`."""

    def where(self, chosen: Tensor) -> Remembered:
        """Return some of them."""
        return Remembered(*(each[chosen] for each in self))


class Memory:
    """The memories of all data sets."""

    def __init__(self, config: MemoryConfig) -> None:
        """Begin with nothing remembered."""
        self.config = config
        self._of: dict[str, Remembered] = {}

    def recall(self, source: str, step: int, present: Tensor) -> Remembered | None:
        """Return what is remembered of a data set at a step, less the texts that are in the batch themselves.

        Args:
            source: the data set.
            step: that begins, counted from 1.
            present: keys of the batch's passages `[N]`.
        """
        found = self._of.get(source)
        if found is None:
            return None
        fresh = ~torch.isin(found.keys, present)
        if self.config.staleness is not None:
            fresh &= step - found.steps <= self.config.staleness
        return found.where(fresh) if bool(fresh.any()) else None

    def remember(self, source: str, step: int, vectors: Tensor, keys: Tensor) -> None:
        """Add the passages of a step; of equal texts only the newest stays.

        Args:
            source: the data set.
            step: that ends, counted from 1.
            vectors: `[N, D]`.
            keys: of their texts `[N]`.
        """
        if step <= self.config.warmup:
            return
        last = _last_of_each(keys)
        new = Remembered(vectors.detach()[last].clone(), keys[last], torch.full_like(keys[last], step))
        old = self._of.get(source)
        if old is not None:
            old = old.where(~torch.isin(old.keys, new.keys))
            new = Remembered(*(torch.cat(pair) for pair in zip(old, new, strict=True)))
        self._of[source] = Remembered(*(each[-self.config.size :] for each in new))

    def write(self, folder: Path) -> None:
        """Write all memories into a folder."""
        tensors = {
            f"{number}.{name}": value.contiguous()
            for number, found in enumerate(self._of.values())
            for name, value in found._asdict().items()
        }
        # The names are free text, and a tensor's name is not.
        names = {str(number): source for number, source in enumerate(self._of)}
        save_file(tensors or {"nothing": torch.zeros(0)}, folder / _FILE, metadata=names)

    def read(self, folder: Path, device: torch.device) -> None:
        """Take over what `write` wrote."""
        with safe_open(folder / _FILE, "pt") as stored:
            self._of = {
                source: Remembered(*(stored.get_tensor(f"{number}.{name}").to(device) for name in Remembered._fields))
                for number, source in sorted((stored.metadata() or {}).items(), key=lambda item: int(item[0]))
            }


def _last_of_each(keys: Tensor) -> Tensor:
    """Return the places of the last of equal keys, ascending."""
    distinct, group = torch.unique(keys, return_inverse=True)
    places = torch.arange(len(keys), device=keys.device)
    last = torch.zeros_like(distinct).scatter_reduce(0, group, places, "amax", include_self=False)
    return last.sort().values
