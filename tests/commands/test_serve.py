from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from zhihui.encoder import build
from zhihui.encoder.export import export
from zhihui.serving.config import ServeConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "model"
    export(build("tiny", ["租房押金不退怎么办？", "高铁从北京到上海最快只要四个多小时。"], seed=7), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such model folder"),
        (["=x"], "cannot be read; write NAME=FOLDER"),
        (["x", "--port", "70000"], "port 70000 does not exist"),
        (["x", "--host", "no.such.host.invalid"], "cannot be listened at"),
        (["x", "--api-key-file", "none"], "none: cannot be read"),
        (["x", "--timeout", "0"], "must be above 0"),
        (["x", "--queue-tokens", "0"], "queue_tokens 0 is too few"),
        (["x", "--port", "0", "--device", "abacus"], "device 'abacus' is unknown"),
        (["x", "--index", "none"], "none: no such index; write one with zhihui index"),
        (["x", "--index", "=none"], "index '=none' cannot be read; write NAME=FOLDER"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_mistakes_are_one_line(zhihui, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = zhihui("serve", *arguments, *([] if "--port" in arguments else ["--port", "0"]))
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(zhihui):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = zhihui("serve", "none", "--port", str(taken.getsockname()[1]))
    assert done.status == 2
    assert "cannot be listened at (Address already in use)" in done.err


def test_two_models_of_one_name_are_refused(zhihui, folder):
    done = zhihui("serve", folder, folder, "--port", "0")
    assert done.status == 2
    assert "two models are called 'model'" in done.err


def test_an_index_of_another_model_is_refused_in_one_line(zhihui, folder, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "rent.md").write_text("# 租房\n\n租房合同到期后，房东应当在七日内退还押金。\n")
    assert zhihui("index", tmp_path / "docs", "--model", folder, "--out", tmp_path / "index").status == 0
    done = zhihui("serve", folder, "--max-length", "64", "--index", tmp_path / "index", "--port", "0")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "was made by another model (max_length 512 became 64); search with the model it was made by" in done.err


def test_loopback_is_told_from_the_rest():
    for host, inside in (("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)):
        assert ServeConfig(host=host).is_loopback == inside


def started(folder: Path, *arguments: str):
    """Start `zhihui serve` and wait until it is ready; gives the process, its URL and what it said before."""
    command = [sys.executable, "-m", "zhihui.cli", "serve", str(folder), "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = []
    for line in process.stderr:
        said.append(line)
        if '"event":"ready"' in line:
            return process, json.loads(line)["urls"][0], said
    pytest.fail("".join(said))


def embed(url: str, texts: list[str]) -> int:
    body = json.dumps({"inputs": texts}).encode()
    request = urllib.request.Request(f"{url}/embed", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return len(json.loads(answer.read()))


@pytest.mark.slow
def test_sigterm_answers_what_is_under_way_and_ends_with_0(folder):
    process, url, _ = started(folder, "--verify")
    answered = []
    texts = [f"租房押金不退怎么办{n}？" * 20 for n in range(1500)]
    call = threading.Thread(target=lambda: answered.append(embed(url, texts)))
    call.start()
    wait_for_work(url)
    process.send_signal(signal.SIGTERM)
    call.join()
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert answered == [1500]
    assert '"event":"draining","open":1' in rest
    assert "租房" not in rest


def wait_for_work(url: str) -> None:
    for _ in range(2000):
        with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        if float(next(line for line in lines if line.startswith("te_queue_tokens ")).split()[1]) > 0:
            return
        time.sleep(0.01)
    pytest.fail("the call never came in")


@pytest.mark.slow
def test_what_cannot_be_answered_in_time_at_the_end_is_told(folder):
    process, url, _ = started(folder, "--drain-seconds", "0.01")
    texts = [f"租房押金不退怎么办{n}？" * 60 for n in range(4000)]

    def cut_off():
        with pytest.raises(OSError):  # noqa: PT011 -- however the connection ends
            embed(url, texts)

    call = threading.Thread(target=cut_off)
    call.start()
    wait_for_work(url)
    process.send_signal(signal.SIGTERM)
    call.join()
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ended with 1 calls unanswered after 0.01 s; raise --drain-seconds" in rest


@pytest.mark.slow
def test_an_open_address_without_a_key_warns_in_one_line(folder, tmp_path):
    process, _, said = started(folder, "--host", "0.0.0.0")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "0.0.0.0 is open to other machines without an API key" in said[0]
    keys = tmp_path / "keys"
    keys.write_text("a-long-enough-key\n")
    process, _, said = started(folder, "--host", "0.0.0.0", "--api-key-file", str(keys))
    process.terminate()
    process.communicate(timeout=60)
    assert len(said) == 1


@pytest.mark.slow
def test_verify_refuses_a_model_that_others_read_otherwise(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for name in ("modules.json", "config_sentence_transformers.json"):
        (other / name).unlink()  # now sentence-transformers takes the mean of all tokens
    command = [sys.executable, "-m", "zhihui.cli", "serve", str(other), "--port", "0", "--verify"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "have a cosine of only" in done.stderr
    assert "ready" not in done.stderr
