"""A Ray cluster of two workers on loopback, started once; and a small model that its workers open."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "teacher"))  # its loopback server

import mortal as mortals
from ray_texts import TEXTS


@pytest.fixture(scope="session")
def cluster():
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    ray = pytest.importorskip("ray")
    from zhihui.distributed.cluster import Cluster

    ray.cloudpickle.register_pickle_by_value(mortals)  # workers cannot import what lies beside the tests
    options = {"log_to_driver": False, "logging_level": "ERROR", "object_store_memory": 100 * 2**20}
    ray.init(address="local", num_cpus=2, include_dashboard=False, **options)
    yield Cluster(workers=2, device="cpu")
    ray.shutdown()


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    from zhihui.encoder import build

    folder = tmp_path_factory.mktemp("model")
    encoder = build("tiny", TEXTS, seed=0)
    encoder.backbone.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def mortal(model, tmp_path) -> Callable[..., Callable[[str], object]]:
    """Return what opens the model as an encoder that logs its texts and ends where it is told to: see `mortal`."""
    return partial(partial, mortals.open_mortal, model=str(model), log=tmp_path / "log")


@pytest.fixture
def zhihui(capsys) -> Callable[..., str]:
    """Run `zhihui ARGUMENTS` in this process, which stays in the cluster that it has."""
    from zhihui.cli import app

    def run(*arguments: object) -> str:
        capsys.readouterr()
        app(list(map(str, arguments)), standalone_mode=False)
        return capsys.readouterr().out

    return run
