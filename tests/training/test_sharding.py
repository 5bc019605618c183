"""Runs whose weights, gradients and moments are shared out over processes (FSDP2)."""

from __future__ import annotations

import copy
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_processes import CONFIG, evaluate
from torch.distributed.tensor import DTensor
from toy import spawned

from zhihui.encoder import Encoder
from zhihui.errors import InputError
from zhihui.records import write_examples
from zhihui.training.config import TrainConfig
from zhihui.training.gradient_cache import CacheConfig
from zhihui.training.history import last_checkpoint
from zhihui.training.lora import LoraSettings
from zhihui.training.processes import Processes
from zhihui.training.sharding import Sharded, sharded
from zhihui.training.stage import train_files
from zhihui.training.trainer import train
from zhihui.training.watch import Watch

# Python 3.12 warns at forking a process with threads, as a test runner's may be.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

SHARDED = replace(CONFIG, shard=True, keep="last")


class Killed(Exception):
    pass


def run(processes: Processes, *, model: Encoder, examples: list[Any], config: TrainConfig, folder: Path) -> Any:
    """Train whole, or be killed after a checkpoint and train on."""
    found = []
    for config_ in (config, replace(config, shard=False)):
        encoder = copy.deepcopy(model)
        history = train(encoder, examples, config_, folder / f"shard-{config_.shard}", evaluate=evaluate)
        weights = {n: t.clone() for n, t in encoder.state_dict().items()} if encoder.device.type == "cpu" else None
        found.append((history, weights))
    return found


def flat(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in weights.values()])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_sharded_processes_train_as_whole_ones(shared_model, examples, tmp_path, checkpointing):
    config = replace(SHARDED, gradient_checkpointing=checkpointing)
    work = partial(run, model=shared_model, examples=examples, config=config, folder=tmp_path)
    (split, whole), ((others, nothing), _) = spawned(2, work, tmp_path)
    assert nothing is None, "only the first process has the weights"
    assert others == split[0]
    assert len(split[0].loss) > 5
    for name in ("loss", "temperature", "gradient_norm"):
        found, expected = (dict(getattr(each[0], name)) for each in (split, whole))
        assert found == pytest.approx(expected, rel=1e-2, abs=1e-3), name
    assert [found for _, found in split[0].evaluations[1:]] != [found for _, found in split[0].evaluations[:-1]]
    start = flat(shared_model.state_dict())
    assert (flat(split[1]) - flat(whole[1])).norm() < 0.05 * (flat(whole[1]) - start).norm()


def interrupted(processes: Processes, *, model: Encoder, examples: list[Any], folder: Path) -> Any:
    """Train to the end; train again, stop between two checkpoints, and go on."""
    config = replace(SHARDED, keep="best")
    weights = []
    for name, stop in (("whole", None), ("cut", 5), ("cut", None)):
        encoder = copy.deepcopy(model)
        with killing_at(stop), suppress(Killed):
            train(encoder, examples, config, folder / name, evaluate=evaluate)
        if stop is not None:
            assert last_checkpoint(folder / name).name == "checkpoint-4"
        elif processes.first:
            weights.append({n: t.clone() for n, t in encoder.state_dict().items()})
    return weights


@contextmanager
def killing_at(stop: int | None):
    real = Watch.on_step_end

    def dying(self, args, state, control, **rest):
        if state.global_step == stop:
            raise Killed
        real(self, args, state, control, **rest)

    Watch.on_step_end = dying
    yield
    Watch.on_step_end = real


def test_a_sharded_run_goes_on_from_its_checkpoint_to_the_same_weights(shared_model, examples, tmp_path):
    work = partial(interrupted, model=shared_model, examples=examples, folder=tmp_path)
    (whole, resumed), _ = spawned(2, work, tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def lora_stage(processes: Processes, *, model: Encoder, data: Path, folder: Path) -> Any:
    config = replace(SHARDED, lora=LoraSettings(rank=4, targets=("q_proj", "down_proj")), ema=0.0, eval_steps=0)
    return train_files(data, copy.deepcopy(model), folder / "run", config)


def test_adapters_are_trained_sharded_and_merged(shared_model, examples, tmp_path):
    data = tmp_path / "train.jsonl"
    write_examples(data, examples)
    model = copy.deepcopy(shared_model)
    with torch.no_grad():  # a fresh model's zeros would keep gradients from some adapters
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)), alpha=0.02)
    made, _ = spawned(2, partial(lora_stage, model=model, data=data, folder=tmp_path), tmp_path)
    assert made.counts["steps"] > 5
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def parts(processes: Processes, *, model: Encoder) -> Any:
    twin = sharded(copy.deepcopy(model), processes, bf16=False)
    held = sum(p.to_local().numel() for p in twin.parameters())
    assert all(isinstance(p, DTensor) for p in twin.parameters())
    assert isinstance(Sharded(twin), torch.nn.Module)
    return held


def test_each_process_holds_a_part(shared_model, tmp_path):
    held = spawned(2, partial(parts, model=shared_model), tmp_path)
    total = sum(p.numel() for p in shared_model.parameters())
    assert sum(held) == total
    assert max(held) < 0.6 * total


def uneven(processes: Processes, *, model: Encoder, examples: list[Any], folder: Path) -> Any:
    """Chunks of one text, so that processes have as many as they have distinct texts: not equally many."""
    config = replace(SHARDED, cache=CacheConfig(chunk_tokens=1, graph_tokens=40), epochs=1)
    return train(copy.deepcopy(model), examples, config, folder / "uneven").loss


def test_processes_with_different_numbers_of_chunks_wait_for_none_in_vain(shared_model, examples, tmp_path):
    rows = [*examples]
    rows[0] = replace(rows[0], neg=[rows[0].neg[0]] * 3)  # fewer distinct texts here than there
    work = partial(uneven, model=shared_model, examples=rows, folder=tmp_path)
    first, second = spawned(2, work, tmp_path)
    assert first == second


def test_sharding_alone_is_refused(model, examples, tmp_path):
    with pytest.raises(InputError, match="shard needs several processes; start with torchrun"):
        train(model, examples, SHARDED, tmp_path)


def test_sharding_with_quantized_layers_is_refused():
    with pytest.raises(InputError, match="layers of 4 bits cannot be shared out"):
        TrainConfig(shard=True, lora=LoraSettings(quantize=True))
