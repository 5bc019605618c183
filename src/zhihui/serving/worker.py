"""Worker: the thread that computes batches on one device, and outlives whatever a batch does to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import RunFailure
from zhihui.serving.queue import Queue, Unit

logger = logging.getLogger("zhihui.serving")


class Worker(threading.Thread):
    """Takes batches from the queue until it is closed."""

    def __init__(
        self, number: int, queue: Queue, budget: int, watch: Callable[[Sequence[Unit]], None] = lambda batch: None
    ) -> None:
        """Make a worker; `start` lets it work.

        Args:
            number: which device's copy of a model it computes with.
            queue: where the work comes from.
            budget: tokens of a batch.
            watch: told of each batch before it is computed.
        """
        super().__init__(name=f"zhihui-worker-{number}", daemon=True)
        self._number, self._queue, self._budget, self._watch = number, queue, budget, watch

    def run(self) -> None:
        """Work."""
        while batch := self._queue.take(self._budget):
            # Whoever waits no longer gets nothing; another call's texts in the same batch do.
            wanted = [unit for unit in batch if not unit.job.done.done()]
            if wanted:
                self._watch(wanted)
                self._compute(wanted)

    def _compute(self, batch: Sequence[Unit]) -> None:
        """Compute a batch; if it fails, each text alone, so that one bad text costs nobody else an answer."""
        try:
            rows = self._rows(batch)
        except Exception as error:  # whatever a batch does, the next one must be served
            log_failure("a batch failed", error, texts=len(batch))
            if len(batch) > 1:
                for unit in batch:
                    self._compute([unit])
            else:
                batch[0].job.fail(RunFailure("the model failed on this input"))
            return
        for unit, row in zip(batch, rows, strict=True):
            if np.isfinite(row).all():
                unit.job.put(unit.index, row)
            else:
                self._repair(unit)

    def _repair(self, unit: Unit) -> None:
        """Compute one text again in fp32: half precision overflows where fp32 does not."""
        try:
            (row,) = self._rows([unit], exact=True)
        except Exception as error:
            log_failure("fp32 failed", error, texts=1)
            row = np.full(1, np.nan, dtype=np.float32)
        if np.isfinite(row).all():
            unit.job.put(unit.index, row)
        else:
            unit.job.fail(RunFailure("the model gives numbers that are not finite for this input, also in fp32"))

    def _rows(self, batch: Sequence[Unit], *, exact: bool = False) -> NDArray[np.float32]:
        target = batch[0].job.target
        rows = target.compute([unit.content for unit in batch], self._number, exact=exact)
        if len(rows) != len(batch):
            raise RuntimeError(f"{target.name} gave {len(rows)} rows for {len(batch)} texts")
        return rows


def log_failure(event: str, error: BaseException, **facts: object) -> None:
    """Log an error by its kind and place; its message may hold a text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = None if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    logger.error(event, extra={"facts": {"error": type(error).__name__, "where": where, **facts}})
