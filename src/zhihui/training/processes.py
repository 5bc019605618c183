"""Processes: those of one run, started by torchrun, and the few things they say to one another.

A run of one process takes the same way through the code; nothing is sent then.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from zhihui.errors import RunFailure

_PATIENCE = timedelta(hours=6)
"""How long processes wait for one another: the first may be measuring or exporting."""


@dataclass(frozen=True)
class _Failed:
    why: str


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them."""

    rank: int = 0
    """Which of them this is."""
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files, measures and speaks."""
        return self.rank == 0

    @classmethod
    def join(cls, *, cpu: bool = False) -> Processes:
        """Join the processes that torchrun started; alone without torchrun. A second call joins nothing anew.

        Each process takes the GPU of its local rank, unless `cpu` says that the model stays on the CPU.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_available():
            return cls()
        if not dist.is_initialized():
            on_gpu = torch.cuda.is_available() and not cpu
            if on_gpu:
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
            atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size())

    def gather(self, local: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes `[sum of counts, D]` by rank, in one collective.

        Args:
            local: this process's rows `[counts[rank], D]`.
            counts: rows of each process.
        """
        if self.size == 1:
            return local
        width = max(counts)
        mine = local.new_zeros(width, *local.shape[1:])
        mine[: len(local)] = local
        whole = local.new_empty(self.size * width, *local.shape[1:])
        _all_gather(whole, mine)
        return torch.cat([whole[rank * width : rank * width + count] for rank, count in enumerate(counts)])

    def sum_back(self, whole: Tensor, counts: Sequence[int]) -> Tensor:
        """Return this process's rows of the sum over processes `[counts[rank], D]`: what `gather` is in reverse."""
        if self.size == 1:
            return whole
        width = max(counts)
        padded = whole.new_zeros(self.size * width, *whole.shape[1:])
        for rank, part in enumerate(torch.split(whole, list(counts))):
            padded[rank * width : rank * width + len(part)] = part
        mine = whole.new_empty(width, *whole.shape[1:])
        _reduce_scatter(mine, padded)
        return mine[: counts[self.rank]]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def extremes(self, most: int, least: int) -> tuple[int, int]:
        """Return the greatest of one number and the least of another over processes."""
        if self.size == 1:
            return most, least
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        both = torch.tensor([most, -least], device=device)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        return int(both[0]), -int(both[1])

    def from_first(self, value: Any = None) -> Any:
        """Return what the first process gives; the others wait for it.

        Raises:
            RunFailure: what it gave is that it failed.
        """
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        if isinstance(box[0], _Failed) and not self.first:
            raise RunFailure(box[0].why)
        return box[0]

    def fail(self, why: str) -> None:
        """Let the others, which wait for a word of the first process, know that it failed."""
        self.from_first(_Failed(why))

    def collect(self, value: Any) -> list[Any]:
        """Return what each process gives, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def _all_gather(whole: Tensor, mine: Tensor) -> None:
    # torch 2.13 gave these two new names and warns at the old ones.
    call = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    cast("Any", call)(whole, mine)


def _reduce_scatter(mine: Tensor, whole: Tensor) -> None:
    call = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    cast("Any", call)(mine, whole)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
