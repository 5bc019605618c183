from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from test_trainer import CONFIG

from zhihui.errors import InputError
from zhihui.training.batches import BatchConfig, SetConfig
from zhihui.training.checks import check
from zhihui.training.config import TrainConfig
from zhihui.training.loss import LossConfig
from zhihui.training.memory import MemoryConfig
from zhihui.training.processes import Processes
from zhihui.training.refresh import RefreshConfig
from zhihui.training.trainer import train

BATCHES = BatchConfig(size=8, negatives=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_steps": 1, "patience": 3}, "patience 3 needs an evaluation; give a set to measure on"),
        ({"metric": "ndcg"}, "metric ndcg needs an evaluation"),
        ({"keep": "best"}, "keep best needs an evaluation"),
        ({"report_to": ("nowhere",)}, "report_to 'nowhere' is not installed; there are: "),
        ({"loss": LossConfig(matryoshka=(32, 128))}, "loss.matryoshka 128 exceeds the 64 dimensions"),
        ({"loss": LossConfig(distillation=0.5)}, "loss.distillation 0.5 needs grades, and no example has two"),
        ({"loss": LossConfig(temperature=0.005, learn_temperature=True)}, "temperature 0.005 is too low to be learned"),
        ({"memory": MemoryConfig(size=20)}, "memory.size 20 does not hold the 24 passages of one batch"),
        ({"memory": MemoryConfig(size=24, warmup=18)}, "memory.warmup 18 leaves none of the 18 steps"),
        (
            {"memory": MemoryConfig(size=24, staleness=1), "epochs": 1, "seed": 4},
            "memory.staleness 1 forgets all before it is used: batches of one data set are 2 steps apart",
        ),
        ({"refresh": RefreshConfig(every=18)}, "refresh.every 18 is never reached before the last of 18 steps"),
        (
            {"refresh": RefreshConfig(every=4), "batches": BatchConfig(size=8, negatives=3)},
            "refresh.every 4 needs a reserve, and no example has more than batches.negatives 3",
        ),
        ({"batches": BatchConfig(size=64)}, "give no batch of 64"),
        ({"batches": BatchConfig(size=8, sets={"用途": SetConfig(size=4)})}, "sets names '用途'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(shared_model, examples, tmp_path, settings, message):
    config = replace(CONFIG, **settings)
    if settings.get("memory") and settings["memory"].staleness:
        # A plan in which the data sets take turns.
        plan = [[0], [2], [4], [6]]
        with pytest.raises(InputError, match=message):
            check(config, examples, plan, dimension=64, measured=False, processes=Processes())
        return
    with pytest.raises(InputError, match=message):
        train(copy.deepcopy(shared_model), examples, config, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("batches", "size", "message"),
    [
        (BATCHES, 3, "batches.size 8 is not a multiple of the 3 processes; use 6 or 9"),
        (BATCHES, 16, "batches.size 8 is not a multiple of the 16 processes; use 16"),
        (replace(BATCHES, sets={"购买": SetConfig(size=6)}), 4, "batches.sets.购买.size 6 .* use 4 or 8"),
    ],
)
def test_a_size_that_the_processes_do_not_divide_is_refused_with_the_nearest(examples, batches, size, message):
    config = replace(CONFIG, batches=batches)
    plan = [[0], [2]]
    with pytest.raises(InputError, match=message):
        check(config, examples, plan, dimension=64, measured=False, processes=Processes(0, size))
    check(config, examples, plan, dimension=64, measured=False, processes=Processes(0, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 2}, "patience 2 counts evaluations on the way; set eval_steps too"),
        ({"patience": -1}, "patience -1"),
        ({"workers": -1}, "workers -1"),
        ({"keep": "first"}, "keep 'first' is unknown; choose last, best"),
        ({"ema": 1.0}, "ema 1.0 is no decay"),
        ({"log_steps": 0}, "log_steps 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharding_by_others_is_refused(examples, monkeypatch, name):
    check(CONFIG, examples, [[0], [2]], dimension=64, measured=False, processes=Processes())
    monkeypatch.setenv(name, "true")
    with pytest.raises(InputError, match=f"{name} is set; start with torchrun in place of accelerate"):
        check(CONFIG, examples, [[0], [2]], dimension=64, measured=False, processes=Processes())


def test_settings_of_a_data_set_are_checked_and_named():
    with pytest.raises(InputError, match=r"sets\.a: batch size 1 has no in-batch negatives"):
        BatchConfig(sets={"a": SetConfig(size=1)})
    with pytest.raises(InputError, match=r"loss_weight 0\.0 is not above 0"):
        SetConfig(loss_weight=0.0)
