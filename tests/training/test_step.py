"""One training step over several processes against a naive one, in fp64, to the last digits."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from toy import BATCHES, PLAN, Run, spawned

from zhihui.encoder.packing import pack
from zhihui.training.batches import SetConfig
from zhihui.training.gradient_cache import CacheConfig
from zhihui.training.loss import LossConfig
from zhihui.training.memory import MemoryConfig
from zhihui.training.processes import Processes
from zhihui.training.step import step_gradients

# Python 3.12 warns at forking a process with threads, as a test runner's may be.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

TERMS = ("query_query", "passage_query", "passage_passage")
FEW, MANY = range(5), range(24)


def case(number: int) -> dict[str, Any]:
    """Draw the settings of a run; each of them varies independently of the others."""
    draw = random.Random(number)
    hardness = draw.choice(["none", "additive", "importance"])
    loss = LossConfig(
        temperature=draw.choice([0.1, 0.3]),
        hardness=hardness,
        strength=draw.choice([1.0, 4.0]),
        scope=draw.choice(["all", "in_batch", "explicit"]),
        debias=draw.choice([0.0, 0.05]) if hardness == "importance" else 0.0,
        terms=draw.choice([(), TERMS, ("query_query",), ("passage_passage",)]),
        false_negative_margin=draw.choice([None, 0.1, 0.4]),
        distillation=draw.choice([0.0, 0.7]),
        matryoshka=draw.choice([(), (4, 12)]),
        matryoshka_weights=(),
        rows=draw.choice([None, 1, 3]),
    )
    chunk = draw.choice([8, 30, 1000])
    memory = draw.choice([None, MemoryConfig(size=24), MemoryConfig(size=60, staleness=2), MemoryConfig(size=60)])
    sets = {"甲": SetConfig(loss_weight=2.5), "乙": SetConfig(negatives=1)} if draw.random() < 0.5 else {}
    return {
        "loss": loss,
        "batches": replace(BATCHES, sets=sets),
        "cache": CacheConfig(chunk_tokens=chunk, graph_tokens=chunk * draw.choice([1, 2, 100])),
        "memory": memory,
        "rate": draw.choice([0.0, 0.3]),
        "temperature": draw.choice([None, 0.17]),
    }


def compare(processes: Processes, cases: range) -> Counter[str]:
    """Hold all steps of all cases against the reference; returns what there was to be compared."""
    met: Counter[str] = Counter()
    for number in cases:
        run = Run(processes, **case(number))
        for step in range(1, len(PLAN) + 1):
            before = run.synchronised
            found, gradients = run.step(step)
            assert run.synchronised - before == (processes.size > 1), "gradients are synchronised once a step"
            masks = processes.collect(dict(run.toy.masks))
            everywhere = processes.collect(gradients)
            if not processes.first:
                run.move()
                continue
            for other in everywhere[1:]:
                assert all(torch.equal(other[name], gradient) for name, gradient in gradients.items())
            replayed, forwards = run.toy.replayed, run.toy.forwards
            expected, wanted = run.reference.step(step, masks)
            where = f"case {number}, step {step}, {processes.size} processes: "
            assert found.loss == pytest.approx(float(expected.loss), rel=1e-9), where
            assert found.temperature == pytest.approx(float(expected.temperature), rel=1e-7, abs=1e-10), where
            witness = expected.witness
            assert found.masked == (witness.known, witness.near, witness.curated), where
            for name, gradient in wanted.items():
                assert float(gradient.abs().max()) > 1e-4, "zero gradients would prove nothing"
                torch.testing.assert_close(gradients[name], gradient, rtol=1e-7, atol=1e-10, msg=where + name)
            # Both ways leave their gradients in the same place: what was compared must be put back.
            for name, parameter in run.toy.named_parameters():
                parameter.grad = gradients[name]
            run.move()
            met["steps"] += 1
            met["chunks"] += forwards > 3
            met["replayed"] += replayed
            met["remembered"] += found.remembered
            met["memory"] += witness.memory
            met["memory_masked"] += witness.memory_masked
            met["known"] += witness.known
            met["near"] += witness.near
            met["curated"] += witness.curated
            met["divergence"] += witness.divergence > 0.01
            met["weights"] += any(abs(w - 1) > 0.1 for w in witness.weights)
            met["dropout"] += any(bool((mask != 1).any()) for rank in masks for mask in rank.values())
            for kind, count in witness.negatives.items():
                met[kind] += count
    return met


@pytest.mark.parametrize(
    ("world", "cases"),
    [
        (1, FEW),
        (2, FEW),
        pytest.param(1, MANY, marks=pytest.mark.slow),
        pytest.param(2, MANY, marks=pytest.mark.slow),
        pytest.param(4, MANY, marks=pytest.mark.slow),
    ],
)
def test_loss_and_gradients_are_those_of_one_naive_process(world, cases, tmp_path):
    torch.set_num_threads(1)
    work = partial(compare, cases=cases)
    met = work(Processes()) if world == 1 else spawned(world, work, tmp_path)[0]
    assert met["steps"] == len(cases) * len(PLAN)
    names = "chunks replayed remembered memory memory_masked known near curated divergence weights dropout passages"
    for name in [*names.split(), *TERMS]:
        assert met[name] > 0, f"{name} was never at work: nothing was proven about it"


def count_calls(processes: Processes) -> tuple[Counter[str], int]:
    """Take two steps with all terms and a memory; returns calls of collectives, and the chunks encoded."""
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        call = getattr(dist, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return call(*arguments, **options)

        setattr(dist, name, counting)

    loss = LossConfig(temperature=0.1, terms=TERMS)
    cache = CacheConfig(chunk_tokens=20, graph_tokens=20)
    run = Run(processes, loss, cache=cache, memory=MemoryConfig(size=60))
    for name in ("all_gather_single", "reduce_scatter_single", "all_reduce", "broadcast", "all_gather", "barrier"):
        counted(name)
    for step in (1, 2):
        run.step(step)
    calls["synchronised"] = run.synchronised
    return calls, run.toy.forwards


@pytest.mark.skipif(not hasattr(dist, "all_gather_single"), reason="torch before 2.13 has other names")
def test_there_is_one_collective_a_tensor_and_one_synchronisation_a_step(tmp_path):
    for calls, forwards in spawned(2, count_calls, tmp_path):
        assert forwards > 10, "few chunks prove little"
        # A step: passages and queries go out and come back; loss, slope and counts are one sum, gradients another.
        expected = {"all_gather_single": 4, "reduce_scatter_single": 4, "all_reduce": 4, "synchronised": 2}
        assert calls == expected


def gradient_sizes(processes: Processes) -> dict[str, float]:
    """The gradient of one and the same batch, of the contrastive loss alone and of distillation on top."""
    found = {}
    for name, distillation in (("contrastive", 0.0), ("both", 0.7)):
        run = Run(processes, LossConfig(temperature=0.2, distillation=distillation, false_negative_margin=None))
        _, gradients = run.step(1)
        found[name] = float(gradients["layer"].norm())
    return found


def test_neither_the_contrastive_nor_the_distillation_gradient_depends_on_the_number_of_processes(tmp_path):
    alone = gradient_sizes(Processes())
    for found in spawned(2, gradient_sizes, tmp_path):
        assert found == pytest.approx(alone, rel=1e-9)
    assert abs(alone["both"] - alone["contrastive"]) > 1e-3


def passage_gradients(processes: Processes) -> torch.Tensor:
    """The gradients of this process's hard negatives in the first step."""
    run = Run(processes, LossConfig(temperature=0.2, false_negative_margin=None))
    batch = run.data[0]
    with torch.no_grad():
        encoded = run.toy(pack(batch.sequences))
    step = step_gradients(encoded, batch, run.loss, number=1, temperature=0.2, processes=processes)
    begin = sum(batch.passages[: processes.rank])
    slot = batch.slot[begin : begin + batch.passages[processes.rank]]
    return step.gradient[batch.queries[processes.rank] :][slot >= 0]


def test_gathered_hard_negatives_get_the_gradient_of_all_processes(tmp_path):
    alone = passage_gradients(Processes())
    there = torch.cat(spawned(2, passage_gradients, tmp_path))
    assert len(there) == len(alone) > 5
    assert (alone.norm(dim=1) > 1e-6).sum() > 5
    assert there.norm(dim=1).sort().values == pytest.approx(alone.norm(dim=1).sort().values, rel=1e-9)


def test_every_chunk_adds_to_the_gradients():
    """No chunk's gradient is thrown away by the next one's."""
    loss = LossConfig(temperature=0.2, false_negative_margin=None)
    found = []
    for chunk in (10, 1000):
        run = Run(Processes(), loss, cache=CacheConfig(chunk_tokens=chunk, graph_tokens=chunk))
        _, gradients = run.step(1)
        found.append((gradients, run.toy.forwards))
    (small, forwards), (whole, one) = found
    assert forwards > 10
    assert one == 1
    for name in whole:
        torch.testing.assert_close(small[name], whole[name], rtol=1e-9, atol=1e-12)
