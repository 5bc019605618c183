from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from zhihui.encoder.devices import ParallelEncoder, check_device, open_on
from zhihui.errors import InputError, RunFailure

TEXTS = [f"{number}" + "字" * (number * 37 % 50) for number in range(40)]


class Scripted:
    """A light encoder for workers; some texts make it fail. A vector is the text's number and length, and its place."""

    name = "scripted"

    def __init__(self, device: str, log: Path | None = None) -> None:
        self.device = device
        self.log = log
        if device == "missing":
            raise InputError("missing: no such model folder")
        if device == "broken":
            raise OSError("disk on fire")
        if device == "deadly":
            os._exit(7)

    @property
    def fingerprint(self) -> str:
        return "scripted-1"

    def encode_queries(self, texts, *, instruction=None):
        return self.encode_documents(texts) + np.float32(len(instruction or ""))

    def encode_documents(self, texts):
        if self.log is not None:
            with self.log.open("a") as stream:
                stream.write(f"{os.getpid()} {len(texts)} {max(map(len, texts), default=0)}\n")
            time.sleep(0.02)  # so that no worker takes all
        if "fail" in texts:
            raise ZeroDivisionError("a vector of no length")
        if "refuse" in texts:
            raise InputError("this text is not for me")
        if "die" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        if "lose" in texts:
            return np.zeros((len(texts) - 1, 2), np.float32)
        return np.array([[int(t.rstrip("字")), len(t)] for t in texts], np.float32).reshape(-1, 2)


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


def expected(texts):
    return Scripted("cpu").encode_documents(texts)


def test_workers_give_every_row_once_and_in_order(tmp_path):
    log = tmp_path / "log"
    with ParallelEncoder(partial(Scripted, log=log), ["cpu", "cpu"], chunk=3) as encoder:
        np.testing.assert_array_equal(encoder.encode_documents(TEXTS), expected(TEXTS))
        lines = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
        assert sum(count for _, count, _ in lines) == len(TEXTS)
        assert len({pid for pid, _, _ in lines}) == 2
        for pid in {pid for pid, _, _ in lines}:
            longest = [length for worker, _, length in lines if worker == pid]
            assert longest == sorted(longest, reverse=True)
        np.testing.assert_array_equal(encoder.encode_queries(TEXTS, instruction="问题"), expected(TEXTS) + 2)
        assert encoder.encode_documents(TEXTS[:1]).tolist() == expected(TEXTS[:1]).tolist()
        assert encoder.encode_documents([]).shape == (0, 2)
        assert (encoder.name, encoder.fingerprint) == ("scripted", "scripted-1")
        with pytest.raises(ValueError, match="single string"):
            encoder.encode_documents("一句")
    with pytest.raises(RunFailure, match="the workers have ended"):
        encoder.encode_documents(TEXTS)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("fail", RunFailure, r"worker \d on cpu failed: ZeroDivisionError: a vector of no length"),
        ("refuse", InputError, "this text is not for me"),
        ("die", RunFailure, r"worker \d on cpu was ended by SIGKILL; .*memory ran out"),
        ("lose", RunFailure, r"scripted returned vectors \[2, 2\] for 3 texts"),
    ],
)
def test_a_worker_in_trouble_is_one_error_and_the_end_of_all(text, kind, message):
    encoder = ParallelEncoder(Scripted, ["cpu", "cpu"], chunk=3)
    with pytest.raises(kind, match=message):
        encoder.encode_documents([*TEXTS[:20], text, *TEXTS[20:]])
    assert multiprocessing.active_children() == []
    with pytest.raises(RunFailure, match="the workers have ended"):
        encoder.encode_documents(TEXTS)
    encoder.close()


@pytest.mark.parametrize(
    ("device", "kind", "message"),
    [
        ("missing", InputError, "missing: no such model folder"),
        ("broken", RunFailure, "worker 1 on broken failed: OSError: disk on fire"),
        ("deadly", RunFailure, "worker 1 on deadly ended with exit code 7"),
    ],
)
def test_a_worker_that_cannot_start_is_one_error_and_the_end_of_all(device, kind, message):
    with pytest.raises(kind, match=message):
        ParallelEncoder(Scripted, ["cpu", device])


def test_a_worker_that_died_between_two_calls_is_told():
    with ParallelEncoder(Scripted, ["cpu"]) as encoder:
        process = encoder._workers[0].process
        process.kill()
        process.join()
        with pytest.raises(RunFailure, match="worker 0 on cpu was ended by SIGKILL"):
            encoder.encode_documents(TEXTS)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_devices import Scripted
        from zhihui.encoder.devices import ParallelEncoder
        if __name__ == "__main__":
            encoder = ParallelEncoder(Scripted, ["cpu", "cpu"])
            print(*[worker.process.pid for worker in encoder._workers], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 20
    while (alive := [pid for pid in pids if _is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive == []


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # an orphan may stay a zombie where nobody waits for it
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_bad_settings_are_refused_before_anything_starts():
    with pytest.raises(InputError, match="no device to encode on"):
        ParallelEncoder(Scripted, [])
    with pytest.raises(InputError, match="chunk 0 is not positive"):
        ParallelEncoder(Scripted, ["cpu"], chunk=0)


def test_devices_that_are_not_there_are_told(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        check_device(device)
    with pytest.raises(InputError, match="'cuda:2': this machine has 2 GPUs"):
        check_device("cuda:2")
    with pytest.raises(InputError, match="'gpu' is unknown; use cpu, cuda"):
        check_device("gpu")


@pytest.mark.slow  # each of the two imports torch and transformers
def test_two_processes_with_a_model_give_what_one_gives(tmp_path, tiny):
    tiny.backbone.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    texts = [f"第{number}句，" + "红茶绿茶，" * (number % 7) for number in range(30)]
    alone = open_on("cpu", model=str(tmp_path), token_budget=64, max_length=16)
    with ParallelEncoder(partial(open_on, model=str(tmp_path), max_length=16), ["cpu", "cpu"], chunk=4) as encoder:
        np.testing.assert_allclose(encoder.encode_documents(texts), alone.encode_documents(texts), atol=1e-6)
        asked = encoder.encode_queries(texts[:3], instruction="找茶")
        np.testing.assert_allclose(asked, alone.encode_queries(texts[:3], instruction="找茶"), atol=1e-6)
        assert encoder.fingerprint == alone.fingerprint
    assert (
        np.abs(alone.encode_documents(texts) - open_on("cpu", model=str(tmp_path)).encode_documents(texts)).max() > 0.01
    )
