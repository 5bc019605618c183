"""A toy model, its data and a naive training step, for proofs over several processes.

The model is in fp64 and records its dropout, so that one process can compute, a text at a time and by autograd, what
many computed in chunks, and nothing is left to rounding.
"""

from __future__ import annotations

import math
import os
import socket
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import reference as naive
import torch
import torch.multiprocessing as multiprocessing
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.functional import normalize

from zhihui.encoder.packing import Packed
from zhihui.encoder.settings import EncoderSettings
from zhihui.records import Example
from zhihui.training.batches import BatchConfig
from zhihui.training.collate import Batches
from zhihui.training.gradient_cache import CacheConfig, cached_backward
from zhihui.training.loss import Layout, LossConfig
from zhihui.training.memory import Memory, MemoryConfig
from zhihui.training.processes import Processes
from zhihui.training.step import Step, step_gradients

CPU = torch.device("cpu")
VOCABULARY, DIMENSIONS = 97, 12


class Toy(nn.Module):
    """The mean of a text's token vectors through a layer, with dropout that is recorded and checked on replay."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(VOCABULARY, 8, generator=g, dtype=torch.float64))
        self.layer = nn.Parameter(torch.randn(8, DIMENSIONS, generator=g, dtype=torch.float64))
        self.rate = rate
        self.masks: dict[tuple[int, ...], Tensor] = {}
        self.forwards = 0
        self.replayed = 0

    def forward(self, packed: Packed) -> Tensor:
        self.forwards += 1
        kept = (torch.rand(len(packed.ids), 8, dtype=torch.float64) >= self.rate).double() / (1 - self.rate)
        start = 0
        vectors = []
        for length in packed.lengths:
            ids, mask = packed.ids[start : start + length], kept[start : start + length]
            before = self.masks.setdefault(tuple(ids.tolist()), mask)
            assert torch.equal(before, mask), "a replay drew other dropout"
            self.replayed += before is not mask
            vectors.append(self.alone(ids, mask))
            start += length
        return torch.stack(vectors)

    def alone(self, ids: Tensor, mask: Tensor) -> Tensor:
        return normalize(torch.tanh((self.table[ids] * mask).mean(0)) @ self.layer, dim=-1)


def tokenizer(texts: list[str], *, max_length: int, **_: Any) -> dict[str, list[list[int]]]:
    """A token a character, and EOS."""
    return {"input_ids": [[*(ord(c) % (VOCABULARY - 1) for c in text[: max_length - 1]), 96] for text in texts]}


ENCODER: Any = SimpleNamespace(tokenizer=tokenizer, settings=EncoderSettings(prompts={}, max_length=64))


def data() -> list[Example]:
    """Two data sets of eight rows and more, in which each mask, grade and weight has something to do."""
    g = torch.Generator().manual_seed(5)

    def text(tag: str) -> str:
        length = int(torch.randint(2, 20, (1,), generator=g))
        return tag + "".join(chr(0x4E00 + int(i)) for i in torch.randint(0, 3000, (length,), generator=g))

    found = []
    for source in ("甲", "乙"):
        for number in range(16 if source == "甲" else 8):
            pos = [text("答") for _ in range(1 + number % 2)]
            neg = [text("错") for _ in range(number % 4)]
            grades = number % 3 != 0
            found.append(
                Example(
                    query=text("问"),
                    pos=pos,
                    neg=neg,
                    pos_scores=[2.0 + 0.3 * i for i in range(len(pos))] if grades else None,
                    neg_scores=[1.0 - 0.7 * i for i in range(len(neg))] if grades and neg else None,
                    source=source,
                )
            )
    for row in (1, 9, 17):
        found[row].neg.append(found[row].pos[0])  # the positive drawn again as a negative
        found[row].neg.append(found[row + 1].pos[0])  # another query's positive
        if found[row].neg_scores or found[row].pos_scores:
            found[row].neg_scores = [*(found[row].neg_scores or []), 0.5, -0.5]
    # Rows of the second visit to a set meet passages of the first, in the memory: known answers among them.
    found[8].pos.append(found[0].pos[0])
    found[8].pos_scores = None
    found[11].neg.append(found[2].pos[0])
    found[11].neg_scores = None
    return found


PLAN = [list(range(8)), list(range(16, 24)), list(range(8, 16)), list(range(8))]
SOURCES = ["甲", "乙", "甲", "甲"]
BATCHES = BatchConfig(size=8, negatives=3, positives=2)


class Run:
    """Some steps of training, in one process of several."""

    def __init__(
        self,
        processes: Processes,
        loss: LossConfig,
        *,
        batches: BatchConfig = BATCHES,
        cache: CacheConfig | None = None,
        memory: MemoryConfig | None = None,
        rate: float = 0.0,
        temperature: float | None = None,
    ) -> None:
        self.processes, self.loss, self.batches = processes, loss, batches
        self.cache = cache or CacheConfig(chunk_tokens=30, graph_tokens=60)
        self.memory = None if memory is None else Memory(memory)
        self.temperature = temperature or loss.temperature
        self.toy = Toy(rate)
        self.module: nn.Module = self.toy
        self.synchronised = 0
        if processes.size > 1:
            self.module = nn.parallel.DistributedDataParallel(self.toy)

            def synchronise(state, bucket):
                self.synchronised += 1
                return allreduce_hook(None, bucket)

            self.module.register_comm_hook(None, synchronise)
        self.data = self.batches_of(processes)
        self.reference = Reference(self)
        torch.manual_seed(100 + processes.rank)

    def batches_of(self, processes: Processes) -> Batches:
        graded = self.loss.distillation > 0
        return Batches(ENCODER, data(), PLAN, self.batches, seed=3, processes=processes, graded=graded)

    def step(self, number: int) -> tuple[Step, dict[str, Tensor]]:
        """Take step `number` (from 1) up to the gradients."""
        self.module.zero_grad()
        self.toy.masks.clear()
        batch = self.data[number - 1]
        found: list[Step] = []

        def gradients(vectors: Tensor) -> tuple[Tensor, Tensor]:
            found.append(
                step_gradients(
                    vectors,
                    batch,
                    self.loss,
                    number=number,
                    temperature=self.temperature,
                    processes=self.processes,
                    memory=self.memory,
                )
            )
            return torch.tensor(found[0].loss), found[0].gradient

        cached_backward(
            self.module,
            batch.sequences,
            gradients,
            self.cache,
            device=CPU,
            no_sync=getattr(self.module, "no_sync", nullcontext),
            scale=float(self.processes.size),
        )
        return found[0], {name: p.grad.clone() for name, p in self.toy.named_parameters()}

    def move(self) -> None:
        """Change the weights, so that what is remembered grows stale."""
        with torch.no_grad():
            for p in self.toy.parameters():
                p -= 0.3 * p.grad / p.grad.norm()


class Reference:
    """The same steps by the naive loss and autograd, each text encoded alone, all in one process."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.whole = run.batches_of(Processes())
        self.memory: dict[str, list[tuple[int, Tensor, int]]] = {}  # key, vector, step; oldest first

    def step(self, number: int, masks: list[dict[tuple[int, ...], Tensor]]) -> tuple[Any, dict[str, Tensor]]:
        """Return loss, gradients and witness of step `number`, given the dropout of each process."""
        run, batch = self.run, self.whole[number - 1]
        count = len(batch.rows)
        # The plan's order here; which process had a row is told by its own batch.
        share = count // run.processes.size
        dealt = run.data[number - 1].rows
        rank = {row: place // share for place, row in enumerate(dealt)}
        ranks = [rank[row] for row in batch.rows]
        owners = [*range(count), *batch.layout.owner.tolist()]
        vectors = torch.stack(
            [
                run.toy.alone(torch.tensor(ids), masks[ranks[owner]][tuple(ids)])
                for ids, owner in zip(batch.sequences, owners, strict=True)
            ]
        )
        q, p = vectors[:count], vectors[count:]
        layout, older = self._recall(number, batch)
        against = torch.cat([p, *[vector[None] for vector in older]])
        found = naive.reference(q, against, layout, run.loss, run.temperature)
        run.toy.zero_grad()
        torch.autograd.backward([q, p], [found.queries, found.passages[: len(p)]])
        gradients = {name: parameter.grad.clone() for name, parameter in run.toy.named_parameters()}
        self._remember(number, batch, p.detach())
        return found, gradients

    def _recall(self, number: int, batch: Any) -> tuple[Layout, list[Tensor]]:
        layout, config = batch.layout, self.run.memory and self.run.memory.config
        here = set(batch.own_keys.tolist())
        kept = [
            (key, vector)
            for key, vector, step in self.memory.get(batch.source, [])
            if key not in here and (config.staleness is None or number - step <= config.staleness)
        ]
        width = layout.passage_key.shape[1]
        more = torch.tensor([[key] * width for key, _ in kept], dtype=torch.long).reshape(-1, width)
        extra = Layout(
            owner=torch.cat([layout.owner, torch.full((len(kept),), -1)]),
            is_positive=torch.cat([layout.is_positive, torch.zeros(len(kept), dtype=torch.bool)]),
            passage_key=torch.cat([layout.passage_key, more]),
            query_key=layout.query_key,
            query_weight=layout.query_weight,
            grade=None if layout.grade is None else torch.cat([layout.grade, torch.full((len(kept),), math.nan)]),
        )
        return extra, [vector for _, vector in kept]

    def _remember(self, number: int, batch: Any, p: Tensor) -> None:
        config = self.run.memory and self.run.memory.config
        if config is None or number <= config.warmup:
            return
        bank = self.memory.setdefault(batch.source, [])
        for key, vector in zip(batch.own_keys.tolist(), p, strict=True):
            bank[:] = [entry for entry in bank if entry[0] != key]
            bank.append((key, vector, number))
        del bank[: -config.size]


def spawned(world: int, work: Callable[[Processes], Any], folder: Any) -> list[Any]:
    """Run a function in some processes that speak to one another, and return what each returns, by rank."""
    started = start(world, work, folder)
    for process in started:
        process.join(300)
    for process in started:
        if process.is_alive():
            process.kill()
    errors = [path.read_text() for path in sorted(folder.glob("error-*.txt"))]
    assert not errors, errors[0]
    assert all(process.exitcode == 0 for process in started)
    return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(world)]


def start(world: int, work: Callable[[Processes], Any], folder: Any) -> list[Any]:
    """Start processes that speak to one another; each leaves what `work` returns, or its error, in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked, so that nothing is imported again.
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_enter, args=(rank, world, port, work, folder)) for rank in range(world)]
    for process in started:
        process.start()
    return started


def _enter(rank: int, world: int, port: int, work: Callable[[Processes], Any], folder: Any) -> None:
    try:
        torch.set_num_threads(1)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(world)}
        # What accelerate found out in the parent, that it is alone, does not hold here.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        torch.save(work(Processes.join(cpu=True)), folder / f"result-{rank}.pt")
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os._exit(0)
    except BaseException:
        (folder / f"error-{rank}.txt").write_text(traceback.format_exc())
        os._exit(1)
