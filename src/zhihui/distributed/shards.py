"""Vectors of a file of texts by Ray Data: each actor holds one encoder and writes whole shards.

The texts of every shard lie in a file of their own, made once from the source; a row of the data set is a shard's
number. So a worker holds one shard however long the source, the files are those of a run on one machine, and
nothing but numbers passes through the head. Within a shard vectors are kept block by block as they are made
(`CachedEncoder`): killed at any moment and run again, only texts without a kept vector are encoded, and every id is
there once. Ray Data has checkpoints of rows too; they leave files in the order of their completion, and hold the ids of
all rows written in memory.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zhihui.distributed.answers import Answer, attempt, lost, value_of
from zhihui.distributed.cluster import TRIES, Cluster
from zhihui.encoder.cache import BLOCK, CachedEncoder
from zhihui.encoder.protocol import TextEncoder
from zhihui.encoder.shards import WORK, Finished, ShardConfig, finish_shard, finished_shard
from zhihui.encoder.texts import Text
from zhihui.errors import RunFailure, require
from zhihui.records import read_rows, write_rows


class RayShards:
    """A `ShardEncoder` over the workers of a cluster; the folder it writes to must be the same one on every node.

    Args:
        cluster: whose workers encode.
        open_encoder: device -> encoder, called in each worker; picklable, such as a partial of `open_on`.
        block: texts of a shard encoded and kept together.

    Raises:
        InputError: `open_encoder` raised it.
        RunFailure: a worker failed.
        MissingExtra: Ray Data is not installed.
    """

    def __init__(self, cluster: Cluster, open_encoder: Callable[[str], TextEncoder], *, block: int = BLOCK) -> None:
        self._data: Any = require("ray.data", extra="dist", purpose="encoding over Ray")
        self._cluster, self._open_encoder, self._block = cluster, open_encoder, block
        self.fingerprint = self._ask_for_fingerprint()
        """Of the model, as a worker sees it: the head may be too small for it."""

    def encode_shards(self, folder: Path, shards: Iterable[Sequence[Text]], config: ShardConfig) -> Iterator[Finished]:
        """Write the shards in a folder; yield each as it is done, in any order.

        Raises:
            RunFailure: a worker failed, or died each time it tried.
        """
        unfinished = []
        for number, texts in enumerate(shards):
            done = finished_shard(folder, number, len(texts), config)
            if done is not None:
                yield done
                continue
            unfinished.append(number)
            path = _texts_path(folder, number)
            _tries_path(folder, number).unlink(missing_ok=True)
            if not path.exists():
                write_rows(path, (text._asdict() for text in texts))
        if unfinished:
            yield from self._run(folder, unfinished, config)

    def _run(self, folder: Path, numbers: Sequence[int], config: ShardConfig) -> Iterator[Finished]:
        from ray.exceptions import RayError

        self._data.DataContext.get_current().enable_progress_bars = False  # there is one around this
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        workers = min(self._cluster.workers, len(numbers))
        written = self._data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
        written = written.map_batches(
            _Writer,
            fn_constructor_args=(self._open_encoder, self._cluster.device, folder.resolve(), config, self._block),
            batch_size=1,
            compute=self._data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            **self._cluster.takes,
        )
        try:
            for row in written.iter_rows():
                value_of(Answer(row["status"], row["fault"]))
                yield Finished(row["texts"], row["dimension"])
        except RayError as error:
            raise lost(error) from None

    def _ask_for_fingerprint(self) -> str:
        import ray
        from ray.exceptions import RayError

        look: Any = ray.remote(attempt)
        try:
            return str(
                value_of(
                    ray.get(
                        look.options(**self._cluster.takes).remote(
                            _fingerprint, self._open_encoder, self._cluster.device
                        )
                    )
                )
            )
        except RayError as error:
            raise lost(error) from None


def _texts_path(folder: Path, number: int) -> Path:
    return folder / WORK / f"texts-{number:05d}.jsonl"


def _tries_path(folder: Path, number: int) -> Path:
    return folder / WORK / f"tries-{number:05d}"


# --------------------------------------------------------------------------- in the workers


class _Writer:
    """An actor: opens its encoder at its first shard and writes one shard after another."""

    def __init__(
        self,
        open_encoder: Callable[[str], TextEncoder],
        device: str,
        folder: Path,
        config: ShardConfig,
        block: int,
    ) -> None:
        self._open_encoder, self._device = open_encoder, device
        self._folder, self._config, self._block = folder, config, block
        self._encoder: TextEncoder | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (number,) = batch["number"].tolist()
        status, value = attempt(self._write, number)
        done, fault = (value, "") if status == "done" else (Finished(0, 0), value)
        columns = {"status": status, "fault": fault, **done._asdict()}
        return {name: np.array([column]) for name, column in columns.items()}

    def _write(self, number: int) -> Finished:
        self._count_try(number)
        if self._encoder is None:
            self._encoder = open_quietly(self._open_encoder, self._device)
        texts = [Text(**row.data) for row in read_rows(_texts_path(self._folder, number))]
        blocks = self._folder / WORK / f"blocks-{number:05d}"
        keeping = CachedEncoder(self._encoder, blocks, block=self._block)
        done = finish_shard(self._folder, number, texts, keeping, self._config)
        shutil.rmtree(blocks, ignore_errors=True)
        return done

    def _count_try(self, number: int) -> None:
        """Refuse a shard at which workers die again and again; Ray Data would try it for ever.

        Raises:
            RunFailure: it was tried too often in this run.
        """
        with _tries_path(self._folder, number).open("a") as stream:
            if stream.tell() > TRIES:
                raise RunFailure(
                    f"shard {number}: its worker died {stream.tell()} times; if nobody ended it, memory ran out: use "
                    "smaller shards or a smaller token budget, or give Ray fewer cores on a node"
                )
            stream.write(".")


def open_quietly(open_encoder: Callable[[str], TextEncoder], device: str) -> TextEncoder:
    """Open an encoder in a worker; on a CPU it computes on the one core that the worker has."""
    encoder = open_encoder(device)
    if device == "cpu":
        import torch

        torch.set_num_threads(1)
    return encoder


def _fingerprint(open_encoder: Callable[[str], TextEncoder], device: str) -> str:
    return open_quietly(open_encoder, device).fingerprint
