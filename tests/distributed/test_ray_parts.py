"""What distributed work is made of, without a cluster: merged rankings, shared limits, one budget, counted tries."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import config, endpoint

from zhihui.distributed.answers import attempt, value_of
from zhihui.distributed.cluster import LOCAL, RUNNING, TRIES, join
from zhihui.distributed.ledger import Bookkeeper
from zhihui.distributed.shards import _Writer
from zhihui.distributed.teacher import parts, share_of
from zhihui.distributed.workers import best_of, merge
from zhihui.encoder.shards import WORK, ShardConfig
from zhihui.errors import InputError, MissingExtra, RunFailure
from zhihui.ranking import exact
from zhihui.records import write_rows
from zhihui.teacher import Budget, Limits
from zhihui.teacher.cache import Spending, Stored

# --------------------------------------------------------------------------- rankings


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), k=st.integers(1, 9), cuts=st.lists(st.integers(1, 39), max_size=5, unique=True))
def test_merged_shares_rank_as_one_machine(seed, k, cuts):
    draw = np.random.default_rng(seed)
    # Few directions, so that many passages tie; noise below float32's rounding, so that others nearly do.
    some = draw.standard_normal((4, 24))
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    passages = (some[draw.integers(0, 4, 40)] * (1 + 1e-7 * draw.integers(0, 3, (40, 1)))).astype(np.float32)
    queries = some.astype(np.float32) + np.float32(0.1)
    whole = exact.search(queries, passages, k)
    starts = [0, *sorted(cuts)]
    shares = zip(starts, [*starts[1:], 40], strict=True)
    merged = merge([best_of(queries, passages[start:stop], k, start=start) for start, stop in shares], k)
    np.testing.assert_array_equal(merged.indices, whole.indices)
    np.testing.assert_allclose(merged.scores, whole.scores, atol=1e-6)


def test_places_beyond_the_passages_stay_empty():
    vectors = np.eye(3, dtype=np.float32)
    second = best_of(vectors, vectors[1:], 4, start=1)
    assert (second.indices[:, 2:] == -1).all()
    merged = merge([best_of(vectors, vectors[:1], 4), second], 4)
    np.testing.assert_array_equal(merged.indices, [[0, 1, 2, -1], [1, 0, 2, -1], [2, 0, 1, -1]])
    assert np.isneginf(merged.scores[:, 3]).all()


# --------------------------------------------------------------------------- shards


def test_a_shard_at_which_workers_died_too_often_is_refused(tmp_path):
    write_rows(tmp_path / WORK / "texts-00003.jsonl", [{"id": "a", "text": "红茶", "where": "f:1"}])
    for tried in range(TRIES + 2):
        writer = _Writer(_die, "cpu", tmp_path, ShardConfig(role="document"), 8)
        answer = writer({"number": np.array([3])})
        told = "a worker failed: ZeroDivisionError" if tried <= TRIES else "shard 3: its worker died 4 times"
        assert answer["status"] == ["failed"]
        assert answer["fault"][0].startswith(told)


def _die(device):
    raise ZeroDivisionError(device)


def test_faults_keep_their_kind_and_their_words():
    def wrong():
        raise InputError("no such model")

    with pytest.raises(InputError, match=r"^no such model$"):
        value_of(attempt(wrong))
    with pytest.raises(RunFailure, match=r"^a worker failed: ZeroDivisionError: cpu$"):
        value_of(attempt(_die, "cpu"))
    assert value_of(attempt(len, "ab")) == 2


# --------------------------------------------------------------------------- teachers


def test_limits_are_shared_out_and_the_budget_is_not(tmp_path):
    limits = Limits(concurrency=7, requests_per_minute=30, tokens_per_minute=1000)
    whole = config(tmp_path, "http://127.0.0.1:9/v1", budget=Budget(calls=5), limits=limits)
    share = share_of(whole, 3)
    assert share.endpoints["e0"].limits == Limits(concurrency=2, requests_per_minute=10, tokens_per_minute=333)
    assert share.budget == Budget(calls=5)
    assert share.endpoints["e0"] == endpoint("http://127.0.0.1:9/v1", limits=share.endpoints["e0"].limits)
    assert [parts(whole, workers) for workers in (1, 5, 100)] == [1, 5, 7]


ONE = Spending(calls=1, prompt_tokens=10, answer_tokens=90)


def begin(books, worker, key, *, budget):
    given = {"run": "r", "worst": ONE, "budget": budget, "lasts": 60.0}
    return value_of(books.do(worker, "begin", (key,), given))


def settle(books, worker, key, *, tokens):
    reply = Stored(key=key, endpoint="e", model="m", status=200, body="{}", prompt_tokens=10, answer_tokens=tokens)
    spent = Spending(calls=1, prompt_tokens=10, answer_tokens=tokens)
    value_of(books.do(worker, "settle", (reply,), {"run": "r", "correction": spent - ONE}))


def others_ask(books, worker):
    return value_of(books.do(worker, "others_ask", (), {}))


def test_workers_spend_one_budget_and_ask_nothing_twice(tmp_path):
    books, budget = Bookkeeper(tmp_path / "cache.sqlite"), Budget(tokens=220)
    assert begin(books, 0, "a", budget=budget) == "open"
    assert begin(books, 1, "a", budget=budget) == "taken", "another worker is asking it"
    assert begin(books, 1, "b", budget=budget) == "open"
    assert begin(books, 1, "c", budget=budget) == "full", "three at their worst are beyond the budget"
    assert others_ask(books, 1), "the first call may turn out to cost less"
    settle(books, 0, "a", tokens=20)
    assert others_ask(books, 1), "it is worth another look, whatever happened since it was refused"
    assert begin(books, 1, "a", budget=budget) == "stored"
    assert begin(books, 1, "c", budget=budget) == "full"
    assert not others_ask(books, 1), "only its own call is left"
    settle(books, 1, "b", tokens=20)
    assert begin(books, 1, "c", budget=budget) == "open"


def test_workers_that_are_refused_do_not_wait_for_each_other(tmp_path):
    books = Bookkeeper(tmp_path / "cache.sqlite")
    for worker, key in enumerate("ab"):
        assert begin(books, worker, key, budget=Budget()) == "open"
        value_of(books.do(worker, "refund", (), {"run": "r", "worst": ONE}))
        assert begin(books, worker, key, budget=Budget(calls=0)) == "full"
    assert not others_ask(books, 0)
    assert not others_ask(books, 1)


def test_the_claims_of_a_worker_that_died_are_given_up_and_its_booking_stays(tmp_path):
    books, budget = Bookkeeper(tmp_path / "cache.sqlite"), Budget(calls=2)
    assert begin(books, 0, "a", budget=budget) == "open"
    value_of(books.enter(0))
    assert begin(books, 1, "b", budget=Budget(calls=1)) == "full"
    assert not others_ask(books, 1)
    assert begin(books, 1, "a", budget=budget) == "open"
    assert begin(books, 0, "b", budget=budget) == "full", "the lost call may have been charged"


# --------------------------------------------------------------------------- joining


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "--ray 127.0.0.1:1: nobody answers there .*refused.*; start one with `ray start --head`"),
        ("ray://127.0.0.1:10001", "run the command on a node of the cluster, with --ray auto"),
        ("somewhere", "--ray somewhere: is no address; give local, auto or HOST:PORT"),
        ("host:port", "is no address"),
        ("127.0.0.1:99999", "nobody answers there"),
    ],
)
def test_addresses_that_cannot_be_used(monkeypatch, address, message):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=message), join(address):
        pass


@pytest.fixture
def pretended(monkeypatch):
    """Return a function that lets a cluster of such resources stand in for Ray's; nothing is started."""

    def pretend(**resources):
        ray = SimpleNamespace(
            is_initialized=lambda: False,
            init=lambda **options: None,
            cluster_resources=lambda: resources,
            shutdown=lambda: None,
        )
        monkeypatch.setitem(sys.modules, "ray", ray)

    return pretend


def test_a_worker_takes_a_gpu_or_else_a_core(pretended):
    pretended(GPU=4.0, CPU=64.0)
    with join(RUNNING) as cluster:
        assert (cluster.workers, cluster.device, cluster.takes) == (4, "cuda", {"num_cpus": 0, "num_gpus": 1})
    pretended(CPU=64.0)
    with join(RUNNING) as cluster:
        assert (cluster.workers, cluster.device, cluster.takes) == (64, "cpu", {"num_cpus": 1})
    pretended(memory=1.0)
    with pytest.raises(InputError, match="have neither a GPU nor a core to give"), join(RUNNING):
        pass


def test_what_ray_prints_does_not_mix_with_a_result(pretended, capsys):
    pretended(CPU=2.0)
    with join(RUNNING):
        print("(raylet) a worker died")  # noqa: T201  # as Ray does
    assert capsys.readouterr() == ("", "(raylet) a worker died\n")


def test_without_ray_the_pip_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    told = r"--ray needs ray, which is not installed: pip install 'zhihui\[dist\]'"
    with pytest.raises(MissingExtra, match=told), join(LOCAL):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "c.jsonl", "--model", "m", "--role", "query", "--workers", 2], "leave out --device and --workers"),
        (["encode", "c.jsonl", "--model", "m", "--role", "query", "--device", "cpu"], "leave out --device"),
        (["mine", "d.jsonl"], "--ray spreads dense mining; add a miner"),
        (["mine", "d.jsonl", "--method", "dense:1-9:3", "--model", "m", "--device", "cpu"], "leave out --device"),
        (["mine", "d.jsonl", "--method", "dense:1-9:3", "--model", "m", "--index", "faiss"], "not with --index faiss"),
        (
            ["mine", "d.jsonl", "--method", "dense:1-9:3", "--model", "m", "--reranker", "r", "--cross-ratio", 0.9],
            "--ray spreads no cross-encoder",
        ),
        (["synth", "query", "d.jsonl", "--recording", "r"], "--ray spreads calls to a teacher; leave it out"),
        (["refine", "d.jsonl", "--teacher", "t", "--dry-run"], "--ray spreads calls to a teacher; leave it out"),
    ],
)
def test_options_that_a_cluster_cannot_honour(zhihui, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        zhihui(*arguments, "--out", tmp_path / "o", "--ray", "local")
    assert not (tmp_path / "o").exists()


def test_nothing_of_ray_is_imported_before_a_cluster_is_joined():
    rooms = ", ".join(f"zhihui.distributed.{room}" for room in ("cluster", "ledger", "shards", "teacher", "workers"))
    code = f"import sys, {rooms}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
