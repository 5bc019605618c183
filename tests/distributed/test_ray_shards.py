"""`zhihui encode` over Ray: the files of one machine, whatever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ray_texts import TEXTS

from zhihui.distributed.shards import RayShards
from zhihui.encoder.devices import open_on
from zhihui.encoder.shards import ShardConfig, encode_file, read_shards
from zhihui.errors import InputError, RunFailure
from zhihui.records import write_rows
from zhihui.runs import read_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # it sets what it deprecates
]
CONFIG = ShardConfig(role="document", form="parquet", size=8)


@pytest.fixture
def corpus(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": text} for n, text in enumerate(TEXTS)])
    return tmp_path / "corpus.jsonl"


@pytest.fixture(scope="module")
def expected(model):
    return open_on("cpu", model=str(model)).encode_documents(TEXTS)


def check(folder, expected):
    """See that the folder has every id once, in the order of the file, with the vectors of one machine."""
    shards = list(read_shards(folder))
    assert [key for ids, _ in shards for key in ids] == [f"d{n}" for n in range(len(TEXTS))]
    np.testing.assert_allclose(np.concatenate([part for _, part in shards]), expected, atol=1e-6, rtol=0)


def encoded(log):
    return sorted(text for file in log.glob("call-*") for text in json.loads(file.read_text(encoding="utf-8")))


def test_the_files_are_those_of_one_machine(cluster, zhihui, model, corpus, tmp_path, expected):
    common = ["encode", corpus, "--model", model, "--role", "document", "--format", "parquet", "--shard-size", 8]
    zhihui(*common, "--out", tmp_path / "here")
    shown = json.loads(zhihui(*common, "--out", tmp_path / "there", "--ray", "local", "--json"))
    assert shown["manifest"]["counts"] == {"texts": 30, "shards": 4, "dimension": 64, "rejected": {}}
    names = [sorted(file.name for file in (tmp_path / place).iterdir()) for place in ("here", "there")]
    assert names[0] == names[1]
    keys = [read_manifest(tmp_path / place).key for place in ("here", "there")]
    assert keys[0] == keys[1], "one run is as good as the other"
    check(tmp_path / "there", expected)


def test_a_failed_run_goes_on_with_the_texts_that_have_no_vector(cluster, mortal, corpus, tmp_path, expected):
    failing = RayShards(cluster, mortal(fails=True, at="第13句"), block=2)
    with pytest.raises(RunFailure, match="ArithmeticError: told to fail"):
        encode_file(corpus, tmp_path / "out", failing, CONFIG)
    first = encoded(tmp_path / "log")
    assert set(TEXTS[8:12]) <= set(first), "the shard that failed had come so far"
    encode_file(corpus, tmp_path / "out", RayShards(cluster, mortal(), block=2), CONFIG)
    assert encoded(tmp_path / "log") == sorted(TEXTS), "each text was encoded once in both runs together"
    check(tmp_path / "out", expected)
    assert not (tmp_path / "out" / "work").exists()


def test_a_worker_that_dies_is_replaced(cluster, mortal, corpus, tmp_path, expected):
    dying = RayShards(cluster, mortal(dies=1, at="第13句"), block=2)
    encode_file(corpus, tmp_path / "out", dying, CONFIG)
    assert (tmp_path / "log" / "died-0").exists()
    assert encoded(tmp_path / "log") == sorted(TEXTS), "what it had kept is not encoded again"
    check(tmp_path / "out", expected)


def test_a_model_that_cannot_be_opened_is_the_users_mistake(cluster, zhihui, corpus, tmp_path):
    with pytest.raises(InputError, match="none"):
        zhihui(
            "encode", corpus, "--model", tmp_path / "none", "--out", tmp_path / "o", "--role", "query", "--ray", "auto"
        )
    assert not (tmp_path / "o").exists()


def test_killed_at_any_moment_and_run_again_it_ends_the_same(cluster, model, corpus, tmp_path, expected):
    import ray

    command = [sys.executable, "-m", "zhihui.cli", "encode", str(corpus), "--model", str(model), "--role", "document"]
    command += ["--out", str(tmp_path / "out"), "--format", "parquet", "--shard-size", "2", "--ray"]
    command += [ray.get_runtime_context().gcs_address]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not list(tmp_path.glob(".out.partial/vectors-*.parquet")):
            assert time.monotonic() < until, "no shard was written"
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "out", expected)
