"""Whole runs over several processes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import spawned

from zhihui.encoder import Encoder
from zhihui.errors import InputError, RunFailure
from zhihui.records import write_examples
from zhihui.training.batches import BatchConfig, SetConfig
from zhihui.training.config import TrainConfig
from zhihui.training.gradient_cache import CacheConfig
from zhihui.training.loss import LossConfig
from zhihui.training.memory import MemoryConfig
from zhihui.training.processes import Processes
from zhihui.training.refresh import RefreshConfig
from zhihui.training.stage import train_files
from zhihui.training.trainer import train

# Python 3.12 warns at forking a process with threads, as a test runner's may be.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CONFIG = TrainConfig(
    loss=LossConfig(temperature=0.05, learn_temperature=True, hardness="importance", strength=1.0),
    batches=BatchConfig(size=8, negatives=2, sets={"购买": SetConfig(size=6, loss_weight=2.0)}),
    cache=CacheConfig(chunk_tokens=64, graph_tokens=128),
    memory=MemoryConfig(size=64),
    refresh=RefreshConfig(every=3, easing=1.0, bound=1.0),
    learning_rate=3e-3,
    epochs=2,
    eval_steps=2,
    save_steps=2,
    keep="best",
    ema=0.5,
)


def evaluate(encoder: Encoder) -> dict[str, float]:
    return {"norm": float(encoder.backbone.embed_tokens.weight.detach().norm())}


def whole_run(processes: Processes, *, model: Encoder, examples: list[Any], config: TrainConfig, folder: Path) -> Any:
    model = copy.deepcopy(model)
    history = train(model, examples, config, folder / f"of-{processes.size}", evaluate=evaluate)
    return history, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_two_processes_train_as_one_and_end_with_the_same_weights(shared_model, examples, tmp_path):
    work = partial(whole_run, model=shared_model, examples=examples, config=CONFIG, folder=tmp_path)
    alone, weights = work(Processes())
    assert len(alone.loss) > 5
    assert any(count for _, count in alone.refreshed)
    assert any(count for _, count in alone.remembered)
    (history, first), (other_history, second) = spawned(2, work, tmp_path)
    assert other_history == history
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("loss", "temperature", "gradient_norm"):
        found, expected = (dict(getattr(each, name)) for each in (history, alone))
        assert found == pytest.approx(expected, rel=1e-2, abs=1e-3), name
    for name in ("masked", "remembered", "refreshed"):
        assert getattr(history, name) == getattr(alone, name), name
    assert [step for step, _ in history.evaluations] == [step for step, _ in alone.evaluations]
    # Adam makes steps of one size of gradients that are zero but for rounding: single weights say little, all say much.
    start = _flat(shared_model.state_dict())
    assert (_flat(first) - _flat(weights)).norm() < 0.05 * (_flat(weights) - start).norm()


def _flat(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in weights.values()])


def stage_runs(processes: Processes, *, model: Encoder, data: Path, folder: Path) -> list[Any]:
    """Run the stage, run it again, run it with a size that does not suit, and into a folder that is taken."""
    config = replace(CONFIG, eval_steps=0, keep="last")
    found: list[Any] = []
    for out, settings in (
        ("run", config),
        ("run", config),
        ("odd", replace(config, batches=replace(config.batches, size=7))),
        ("taken", config),
        ("nan", replace(config, learning_rate=1e30)),
    ):
        try:
            found.append(train_files(data, copy.deepcopy(model), folder / out, settings))
        except (InputError, RunFailure) as error:
            found.append(str(error))
    return found


def test_the_stage_is_run_by_the_first_process_and_told_to_the_others(shared_model, examples, tmp_path):
    data = tmp_path / "train.jsonl"
    write_examples(data, examples)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    work = partial(stage_runs, model=shared_model, data=data, folder=tmp_path)
    (made, again, odd, taken, nan), others = spawned(2, work, tmp_path)
    assert others[0] == made
    assert not made.reused
    assert again.reused
    assert made.counts["temperature"] != 0.05
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["counts"] == made.counts
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert odd == others[2] == "batches.size 7 is not a multiple of the 2 processes; use 6 or 8"
    assert not list(tmp_path.glob(".odd*"))
    assert "was not made by zhihui" in taken
    assert others[3] == taken
    assert "became" in nan
    assert "became" in others[4]
