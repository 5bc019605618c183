"""The batches of a run in the shape of a data loader, drawn ahead by worker processes if wanted.

Drawing has no state but the reserves of negatives, which change at a refresh. So workers are started anew after each,
and never draw beyond the next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader, Subset

from zhihui.training.collate import Batch, Batches


class Loader:
    """Yields `{"batch": Batch}` for each step from where the run is."""

    def __init__(self, dataset: Batches, *, workers: int, every: int, done: Callable[[], int]) -> None:
        """Keep what to load.

        Args:
            dataset: all batches.
            workers: processes that draw ahead; 0 for none.
            every: steps between changes of the data; 0 for none.
            done: tells, when loading begins, how many steps are done.
        """
        self.dataset, self.workers, self.every, self.done = dataset, workers, every, done

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        start, last = self.done(), len(self.dataset)
        while start < last:
            stop = min(last, start - start % self.every + self.every) if self.every else last
            yield from self._part(start, stop)
            start = stop

    def _part(self, start: int, stop: int) -> DataLoader[Batch]:
        return DataLoader(
            Subset(self.dataset, range(start, stop)),
            batch_size=1,  # one item of the data is a whole batch
            collate_fn=_only,
            num_workers=self.workers,
            worker_init_fn=_alone if self.workers else None,
            # Its own generator: a loader seeds its workers, and the run's generators must not move.
            generator=torch.Generator(),
        )


def _only(items: list[Batch]) -> dict[str, Batch]:
    return {"batch": items[0]}  # HF's loop looks into a batch for labels


def _alone(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
