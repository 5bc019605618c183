"""Encoding on several devices: a process for each, fed with chunks of texts as it gets done with them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui import progress
from zhihui.encoder.protocol import TextEncoder, encode_as
from zhihui.encoder.settings import Role
from zhihui.errors import InputError, RunFailure

CHUNK = 512
"""Texts handed out at once: enough for full batches, few enough that the devices finish together."""
_GRACE = 5.0
"""Seconds a worker without work is given to end by itself."""


class ParallelEncoder:
    """A `TextEncoder` over several processes, each with the model on a device of its own.

    The processes are started by "spawn": a script that uses this needs `if __name__ == "__main__":`. Close it when
    done, or use it as a context manager. A worker that fails or dies ends the others too, and the call with one
    error. Not for use by several threads at once.
    """

    def __init__(
        self, open_encoder: Callable[[str], TextEncoder], devices: Sequence[str], *, chunk: int = CHUNK
    ) -> None:
        """Start the workers and wait until each has its model.

        Args:
            open_encoder: device -> encoder, called in each worker; picklable, such as a partial of `open_on`.
            devices: one worker each, such as `["cuda:0", "cuda:1"]`, or `["cpu", "cpu"]`, which share the cores.
            chunk: texts handed out at once.

        Raises:
            InputError: no devices, `chunk` is not positive, or `open_encoder` raised it.
            RunFailure: a worker failed or died.
        """
        if not devices:
            raise InputError("no device to encode on; give at least one, such as cpu")
        if chunk < 1:
            raise InputError(f"chunk {chunk} is not positive; hand out at least 1 text at a time")
        self._chunk = chunk
        self._workers: list[_Worker] = []
        threads = max(1, (os.cpu_count() or 1) // len(devices))
        try:
            for number, device in enumerate(devices):
                self._workers.append(_Worker(number, device, open_encoder, threads))
            names = [str(self._receive(worker)) for worker in self._workers]
        except BaseException:
            self._stop(at_once=True)
            raise
        self.name = names[0]

    @property
    def fingerprint(self) -> str:
        """The encoder's; the same in all workers."""
        try:
            self._running()[0].send(("fingerprint",))
            return str(self._receive(self._workers[0]))
        except BaseException:
            self._stop(at_once=True)
            raise

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return query vectors `[N, D]`, in the order given; `instruction` replaces the model's own.

        Raises:
            RunFailure: a worker failed or died.
        """
        return self._encode(texts, "query", instruction)

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return passage vectors `[N, D]`, in the order given.

        Raises:
            RunFailure: a worker failed or died.
        """
        return self._encode(texts, "document", None)

    def close(self) -> None:
        """End the workers; may be called again."""
        self._stop(at_once=False)

    def __enter__(self) -> ParallelEncoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(at_once=kind is not None)

    # ----------------------------------------------------------------------- handing out

    def _encode(self, texts: Sequence[str], role: Role, instruction: str | None) -> NDArray[np.float32]:
        if isinstance(texts, str):
            raise ValueError("texts is a single string; pass a list of strings")
        try:
            vectors = np.empty((0, 0), dtype=np.float32)
            with progress.bar(len(texts), f"Encoding on {len(self._running())} devices") as bar:
                for rows, part in self._answers(texts, role, instruction):
                    if part.ndim != 2 or len(part) != len(rows) or (vectors.size and part.shape[1] != vectors.shape[1]):
                        raise RunFailure(f"{self.name} returned vectors {list(part.shape)} for {len(rows)} texts")
                    if not vectors.size:
                        vectors = np.empty((len(texts), part.shape[1]), dtype=np.float32)
                    vectors[rows] = part
                    bar.advance(len(rows))
            return vectors
        except BaseException:
            # What is under way would answer the next call.
            self._stop(at_once=True)
            raise

    def _answers(
        self, texts: Sequence[str], role: Role, instruction: str | None
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Yield each chunk's rows and vectors as they come; a worker holds one chunk at a time.

        One, because a pipe holds little: with two, parent and worker could both be waiting to be read.
        """
        chunks = _chunks(texts, self._chunk)
        busy: dict[Any, tuple[_Worker, list[int]]] = {}

        def hand_out(worker: _Worker) -> None:
            rows = next(chunks, None)
            if rows is not None:
                worker.send(("encode", [texts[row] for row in rows], role, instruction))
                busy[worker.pipe] = worker, rows

        for worker in self._running():
            hand_out(worker)
        while busy:
            for pipe in wait(list(busy)):  # a dead worker's pipe is ready too: it is at its end
                worker, rows = busy.pop(pipe)
                vectors = self._receive(worker)
                hand_out(worker)
                yield rows, vectors

    def _running(self) -> list[_Worker]:
        if not self._workers:
            raise RunFailure("the workers have ended; open a new ParallelEncoder")
        return self._workers

    @staticmethod
    def _receive(worker: _Worker) -> Any:
        status, value = worker.receive()
        if status == "bad_input":
            raise InputError(value)
        if status == "failed":
            raise RunFailure(f"{worker.title} failed: {value}")
        return value

    def _stop(self, *, at_once: bool) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.stop(at_once=at_once)
        for worker in workers:
            worker.reap()


class _Worker:
    """The parent's end of a worker."""

    def __init__(self, number: int, device: str, open_encoder: Callable[[str], TextEncoder], threads: int) -> None:
        self.title = f"worker {number} on {device}"
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, open_encoder, device, threads), name=f"zhihui-{number}", daemon=True
        )
        try:
            self.process.start()
        finally:
            theirs.close()  # the worker's must be the only one, or its death would not end the pipe

    def send(self, message: tuple[Any, ...]) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            raise self._death() from None

    def receive(self) -> tuple[str, Any]:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None

    def stop(self, *, at_once: bool) -> None:
        self.pipe.close()  # a worker that waits for work sees this and ends
        if at_once:
            self.process.terminate()

    def reap(self) -> None:
        self.process.join(_GRACE)
        for end in (self.process.terminate, self.process.kill):
            if self.process.exitcode is None:
                end()
                self.process.join(_GRACE)

    def _death(self) -> RunFailure:
        self.process.join(_GRACE)
        code = self.process.exitcode
        if code is not None and code < 0:
            reason = f"was ended by {signal.Signals(-code).name}; if nobody did that, memory ran out: use fewer workers"
        else:
            reason = f"ended with exit code {code}; its own message is above"
        return RunFailure(f"{self.title} {reason}")


def _chunks(texts: Sequence[str], size: int) -> Iterator[list[int]]:
    """Yield the rows of each chunk: texts of like length together, the longest first.

    So batches are even, and what is handed out last, when devices run dry one after another, is short.
    """
    rows = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    # Even no text at all is asked for: the answer has the vectors' length.
    yield from (rows[start : start + size] for start in range(0, max(1, len(rows)), size))


# --------------------------------------------------------------------------- in the worker


def open_on(
    device: str | None,
    *,
    model: str,
    token_budget: int | None = None,
    max_length: int | None = None,
    dtype: str = "auto",
) -> TextEncoder:
    """Load a model onto a device; `partial(open_on, model=...)` can be sent to a worker.

    Args:
        device: cpu, cuda, cuda:1, ...; None takes a GPU if there is one.
        model: folder or hub id.
        token_budget: tokens computed together; None suits the device.
        max_length: tokens a text is cut to; None takes the model's own.
        dtype: as `zhihui.load` takes it.

    Raises:
        InputError: no such model or device, or unusable settings.
    """
    from zhihui.encoder.loading import load

    encoder = load(model, device=device, max_length=max_length, dtype=dtype)
    encoder.token_budget = token_budget
    return encoder


def check_device(device: str) -> None:
    """Check that a device is there before a model is loaded.

    Raises:
        InputError: an unknown name, or a GPU this machine has not.
    """
    import torch

    try:
        found = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r} is unknown; use cpu, cuda, cuda:1, ...") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r}: this machine has {torch.cuda.device_count()} GPUs, counted from cuda:0")


def _work(pipe: Connection, open_encoder: Callable[[str], TextEncoder], device: str, threads: int) -> None:
    """Answer the parent until it is gone: name, then vectors or fingerprint as asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    progress.quiet()

    def attempt(task: Callable[[], Any]) -> tuple[str, Any]:
        try:
            return "done", task()
        except InputError as error:
            return "bad_input", str(error)
        except Exception as error:  # whatever it is, the parent must hear of it
            return "failed", f"{type(error).__name__}: {error}"

    with suppress(EOFError, OSError):  # the parent is gone: nobody is left to tell
        status, opened = attempt(partial(open_encoder, device))
        if "torch" in sys.modules:
            # Else every worker would compute with as many threads as there are cores.
            sys.modules["torch"].set_num_threads(threads)
        pipe.send((status, opened.name if status == "done" else opened))
        while status == "done":
            task, *arguments = pipe.recv()
            if task == "fingerprint":
                status, value = attempt(lambda: opened.fingerprint)
            else:
                texts, role, instruction = arguments
                status, value = attempt(partial(encode_as, opened, texts, role=role, instruction=instruction))
            pipe.send((status, value))
