"""Runs that are killed and go on: two data sets of different sizes, a memory, dropout, refreshed negatives and all."""

from __future__ import annotations

import copy
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_processes
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file
from toy import start

import zhihui.training.loop as loop_module
from zhihui.encoder import Encoder
from zhihui.records import Example
from zhihui.training.collate import Batches
from zhihui.training.config import TrainConfig
from zhihui.training.history import History
from zhihui.training.processes import Processes
from zhihui.training.refresh import Reserves
from zhihui.training.trainer import train

# Python 3.12 warns at forking a process with threads, as a test runner's may be.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CONFIG = replace(test_processes.CONFIG, workers=0)


def run_to_the_end(folder: Path, model: Encoder, examples: list[Example], config: TrainConfig, die_at: int = 0) -> None:
    """Train, dying in the course of step `die_at`; leaves the weights and which rows each step had."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        torch.set_num_threads(1)
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.2
    gradients = loop_module.step_gradients
    first = os.environ.get("RANK", "0") == "0"

    def dying(vectors: Any, batch: Any, *arguments: Any, **options: Any) -> Any:
        if first:
            with (folder / "rows.txt").open("a") as stream:
                stream.write(f"{options['number']} {sorted(batch.rows)}\n")
        if options["number"] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return gradients(vectors, batch, *arguments, **options)

    loop_module.step_gradients = dying
    folder.mkdir(exist_ok=True)
    history = train(model, examples, config, folder, evaluate=test_processes.evaluate)
    if first:
        torch.save((model.state_dict(), history), folder / "end.pt")


def forked(work: Callable[..., None], *arguments: Any) -> int:
    """Call a function in a process of its own and return how that ended."""
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


def two_forked(folder: Path, *arguments: Any) -> list[int]:
    """Run to the end, or not, on two processes; returns how these ended."""
    started = start(2, lambda processes: run_to_the_end(folder, *arguments), folder)
    for process in started:
        process.join(300)
    return [process.exitcode for process in started]


def end(folder: Path) -> tuple[dict[str, torch.Tensor], History]:
    return torch.load(folder / "end.pt", weights_only=False)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(shared_model, examples, tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert forked(run_to_the_end, folder, shared_model, examples, CONFIG) == 0
    _, history = end(folder)
    assert len({len(rows.split()) for rows in (folder / "rows.txt").read_text().splitlines()}) == 2, "of two sizes"
    assert any(count for _, count in history.remembered)
    assert any(count for _, count in history.refreshed)
    assert len({tau for _, tau in history.temperature}) > 5
    return folder


def check_killed(whole: Path, folder: Path, model: Encoder, examples: list[Example], kills: list[int]) -> None:
    for die_at in kills:
        assert forked(run_to_the_end, folder, model, examples, CONFIG, die_at) == -signal.SIGKILL
    assert forked(run_to_the_end, folder, model, examples, CONFIG) == 0
    (weights, history), (again, found) = end(whole), end(folder)
    assert same(weights, again)
    assert found == history


def test_killed_in_a_step_it_ends_with_the_same_weights_to_the_bit(whole, shared_model, examples, tmp_path):
    check_killed(whole, tmp_path, shared_model, examples, [8])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_twice_at_random_it_ends_with_the_same_weights_to_the_bit(whole, shared_model, examples, tmp_path, seed):
    steps = len(end(whole)[1].loss)
    check_killed(whole, tmp_path, shared_model, examples, sorted(random.Random(seed).sample(range(1, steps + 1), 2)))


@pytest.mark.slow
def test_two_processes_that_are_killed_end_with_the_same_weights_to_the_bit(shared_model, examples, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert two_forked(whole, shared_model, examples, CONFIG) == [0, 0]
    assert two_forked(cut, shared_model, examples, CONFIG, 7) == [-signal.SIGKILL] * 2
    assert two_forked(cut, shared_model, examples, CONFIG) == [0, 0]
    (weights, history), (again, found) = end(whole), end(cut)
    assert same(weights, again)
    assert found == history


def test_going_on_replays_no_batch(whole, shared_model, examples, tmp_path):
    assert forked(run_to_the_end, tmp_path, shared_model, examples, CONFIG, 6) == -signal.SIGKILL
    first = len((tmp_path / "rows.txt").read_text().splitlines())
    assert forked(run_to_the_end, tmp_path, shared_model, examples, CONFIG) == 0
    lines = (tmp_path / "rows.txt").read_text().splitlines()
    wanted = (whole / "rows.txt").read_text().splitlines()
    assert first == 6
    assert lines[first].startswith("5 "), "the last checkpoint is that of step 4"
    assert lines[first:] == wanted[4:]


def test_what_a_checkpoint_holds_comes_back_to_the_bit(shared_model, examples, tmp_path):
    """The memory, the average and the reserves, in the middle of a run."""
    config = replace(CONFIG, save_steps=3, keep="last", eval_steps=0)
    forked(run_to_the_end, tmp_path, shared_model, examples, config, 5)
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    data = Batches(shared_model, examples, [[0, 4]] * 8, config.batches, seed=0)
    trainee = loop_module.Trainee(copy.deepcopy(shared_model), config.loss)
    data.reserves = Reserves(examples, config.batches, config.refresh)
    history = History.read(checkpoint)
    trainer = loop_module.Loop(
        trainee, trainee.encoder, config, tmp_path, data, history, Processes(), torch.device("cpu")
    )
    trainer.restore(checkpoint)
    again = tmp_path / "again"
    again.mkdir()
    trainer.memory.write(again)
    trainer.average.write(again, first=True)
    trainer.reserves.write(again)
    for name in ("memory", "average", "reserves"):
        before, after = (load_file(folder / f"{name}.safetensors") for folder in (checkpoint, again))
        assert len(before) > 2
        assert all(tensor.numel() for tensor in before.values())
        torch.testing.assert_close(before, after, rtol=0, atol=0, equal_nan=True, msg=name)


def test_workers_give_the_same_run(whole, shared_model, examples, tmp_path):
    assert forked(run_to_the_end, tmp_path, shared_model, examples, replace(CONFIG, workers=2)) == 0
    assert same(end(whole)[0], end(tmp_path)[0])
    assert (tmp_path / "rows.txt").read_text() == (whole / "rows.txt").read_text()
