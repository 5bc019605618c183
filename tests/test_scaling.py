"""The arithmetic of docs/scaling.md, by hand, and that the page holds what the script prints."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import scaling  # noqa: E402  # scripts are no package

USUAL = scaling.Assumptions()


def test_a_pass_over_a_million_pairs_by_hand():
    # 1e6 pairs × (40 + 5 × 300) tokens × 10 FLOPs × 7.07e9 parameters, at half of 989 TFLOP/s
    hours = scaling.training_hours(USUAL, "full", pairs=1e6, negatives=4)
    assert hours == pytest.approx(1e6 * 1540 * 10 * 7.07e9 / 494.5e12 / 3600)
    assert hours == pytest.approx(61.16, abs=0.01)
    assert scaling.training_hours(replace(USUAL, utilisation=0.25), "full", pairs=1e6, negatives=4) == 2 * hours


@pytest.mark.parametrize(
    ("method", "replay", "recompute", "passes"),
    [("full", False, False, 6), ("full", True, False, 8), ("full", True, True, 10), ("LoRA", True, True, 8)],
)
def test_passes(method, replay, recompute, passes):
    found = scaling.flops_per_token(USUAL, method, replay=replay, recompute=recompute)
    assert found == passes * USUAL.parameters


def test_memory_by_hand():
    assert scaling.state_bytes(USUAL, "full", gpus=8) == 2 * 7.07e9
    # rank 16: q, k, v, o and gate, up, down of each of 28 layers
    adapters = 16 * 28 * (2 * 7168 + 2 * 4096 + 3 * (3584 + 18944))
    assert scaling.adapter_parameters(USUAL) == adapters
    assert scaling.state_bytes(USUAL, "LoRA", gpus=512) == 4 * 7.07e9 + 16 * adapters
    # 2,048 × 5 passages and 256 queries of 3,584 fp32 numbers, and a gradient of each
    assert scaling.vector_bytes(USUAL, batch=2048, gpus=8, negatives=4) == (10_240 + 256) * 3584 * 4 * 2


def test_an_index_by_hand():
    # 1e8 passages: 2 × 3,584 bytes; 1,024 and 64 links of 4; a code of 64 and 8 of an id, 1,024 on disk
    assert scaling.index_bytes(USUAL, "exact", passages=1e8) == (716.8e9, 0)
    assert scaling.index_bytes(USUAL, "graph", passages=1e8) == (128e9, 0)
    assert scaling.index_bytes(USUAL, "codes", passages=1e8) == (7.2e9, 102.4e9)
    assert scaling.servers(USUAL, "exact", passages=1e8) == 4  # 716.8 / (0.8 × 256)
    assert [scaling.best_index(USUAL, passages=n) for n in (1e6, 1e8, 1e10)] == ["exact", "graph", "codes"]
    # 0.1 s at 100 GB/s are 10 GB: 1,395,089 vectors of 7,168 bytes
    assert scaling.best_index(USUAL, passages=1_395_089) == "exact"
    assert scaling.best_index(USUAL, passages=1_395_090) == "graph"


def test_the_page_holds_what_the_script_prints():
    printed = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "scaling.py")], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    dearer = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "scaling.py"), "--price", "5"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "| 305,803 |" in dearer, "twice 152,901, but for rounding"
