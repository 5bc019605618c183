"""A run that is killed goes on in the task it was in; another checkpoint never gets its vectors or scores."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hub_mirror import newer, older

BLOCK = 4
PASSAGES = {str(number): f"第{number}条通知，{'事项' * (number % 7)}以此为准。" for number in range(14)}
QRELS = [("5", "3", 1), ("6", "4", 1), ("7", "2", 1)]
TEXTS = 2 * (len(PASSAGES) + len(QRELS))


def run(mirror: Path, out: Path, log: Path, *, die_after: int = -1, weight: float = 0) -> int:
    process = Path(__file__).with_name("eval_process.py")
    arguments = [sys.executable, process, mirror, out, log, BLOCK, die_after, weight]
    return subprocess.run(list(map(str, arguments)), check=False, timeout=120).returncode


def results(out: Path) -> Any:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    older(tmp_path / "mirror", "CovidRetrieval", corpus=PASSAGES, qrels=QRELS)
    return newer(tmp_path / "mirror", "DuRetrieval", corpus=PASSAGES, qrels=QRELS)


@pytest.mark.slow
def test_a_killed_run_encodes_at_most_one_block_again(mirror: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    assert run(mirror, tmp_path / "whole", tmp_path / "log of the whole") == 0
    # In the corpus of the first task, then in that of the second.
    for die_after in (10, 16):
        assert run(mirror, out, log, die_after=die_after) == -signal.SIGKILL
        assert not out.exists()
    assert run(mirror, out, log) == 0
    encoded = Counter(log.read_text(encoding="utf-8").splitlines())
    whole = Counter((tmp_path / "log of the whole").read_text(encoding="utf-8").splitlines())
    assert whole.total() == TEXTS
    assert set(encoded) == set(whole)
    assert 0 < encoded.total() - whole.total() <= 2 * (BLOCK - 1)
    assert results(out) == results(tmp_path / "whole")
    assert not (out / "vectors").exists()
    log.unlink()
    assert run(mirror, out, log) == 0
    assert not log.exists()


@pytest.mark.slow
def test_one_changed_weight_gets_nothing_of_a_killed_run(mirror: Path, tmp_path: Path) -> None:
    assert run(mirror, tmp_path / "out", tmp_path / "log", die_after=TEXTS // 2 + 5) == -signal.SIGKILL
    assert run(mirror, tmp_path / "out", tmp_path / "changed", weight=3.5) == 0
    assert len((tmp_path / "changed").read_text(encoding="utf-8").splitlines()) == TEXTS
    places = {path.parent.name for path in (tmp_path / "out" / "mteb" / "results").rglob("*Retrieval.json")}
    assert places == {"logging 3.5"}
