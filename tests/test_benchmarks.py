"""The benchmarks that this machine cannot run in earnest, run at the smallest size."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OPTIONS = Namespace(
    shape="tiny",
    tokens=32,
    query_tokens=8,
    texts=6,
    token_budget=64,
    batch=4,
    chunk_tokens=64,
    graph_tokens=64,
    checkpointing=False,
    rank=2,
    rounds=1,
    only=None,
    seed=0,
)


@pytest.mark.filterwarnings("ignore")
def test_the_gpu_benchmark_counts_what_it_computes(gpu):
    found = gpu.measure(OPTIONS, torch.device("cpu"))
    assert found["encode"]["tokens"] == 6 * 32
    assert found["encode"]["mfu"] > 0
    assert found["train"]["tokens"] == 4 * (8 + 32)
    assert found["train"]["hfu"] > found["train"]["mfu"] > 0
    assert len(found["train"]["losses"]) == 2


def test_operations_are_those_of_the_matrices(gpu):
    from zhihui.encoder import build

    encoder = build("tiny", [gpu.corpus()], seed=0)
    encoder.prunable = False
    # Two layers of width 64, inner width 128: four square matrices and three of 64 by 128.
    matrices = 4 * 64 * 64 + 3 * 64 * 128
    assert gpu.forward_flops(encoder, [3, 5]) == 2 * (2 * matrices * 8 + 4 * 64 * (9 + 25))
    encoder.prunable = True
    last = 2 * (2 * 64 * 64) * 8 + 2 * (matrices - 2 * 64 * 64) * 2 + 4 * 64 * 8
    assert gpu.forward_flops(encoder, [3, 5]) == 2 * matrices * 8 + 4 * 64 * (9 + 25) + last


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("benchmarks/gpu.py needs an NVIDIA GPU")
    assert len(done.stderr.splitlines()) == 1
