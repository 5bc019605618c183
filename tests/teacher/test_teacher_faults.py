"""The showpiece: whatever goes wrong on the way, no question is lost, none is paid twice, the budget holds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from asking_process import write_answers
from faults import Faulty
from loopback import Loopback
from questions import SETTINGS, ask, teacher

from zhihui.errors import RunFailure
from zhihui.teacher import Budget
from zhihui.teacher.wire import Line, PassingFault

PROCESS = Path(__file__).with_name("asking_process.py")
FAILURES = {"refused", "content_filter", "cut_off", "wrong_schema", "not_json", None}


@pytest.fixture
def given_up(monkeypatch) -> list[str]:
    """Calls that the client took for lost, by what it saw: cut off, or no answer in time."""
    seen, send = [], Line.send

    async def watched(self, body):
        try:
            return await send(self, body)
        except PassingFault as fault:
            if fault.perhaps_charged:
                seen.append(fault.detail)
            raise

    monkeypatch.setattr(Line, "send", watched)
    return seen


def reached(folder, questions, *, seed=0, **of_the_endpoint):
    """Ask everything of a faulty endpoint; return what came back, the endpoint's books, and ours."""
    faulty = Faulty(seed=seed, **of_the_endpoint)
    with Loopback(faulty) as server, teacher(folder, server.url, **SETTINGS) as asked:
        found = list(asked.ask((ask(number) for number in range(questions)), label="t"))
        return [(one.ask.id, one.failure, one.value) for one in found], faulty, asked.counts


@pytest.mark.parametrize("questions", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_question_ends_once_and_is_paid_once(tmp_path, given_up, questions):
    found, books, counts = reached(tmp_path, questions, stalls=0.1)
    assert [name for name, _, _ in found] == [f"q{number}" for number in range(questions)]
    kinds = Counter(failure for _, failure, _ in found)
    assert set(kinds) == FAILURES, "a kind of fault did not happen, or got another name"
    assert all((value is None) == (failure is not None) for _, failure, value in found)
    assert kinds[None] > 0.85 * questions
    assert sum(books.tries.values()) > 1.15 * questions, "too few faults for the test to mean anything"
    assert books.lost.total() > 0.02 * questions
    # On a busy machine an answer that went out whole may be too late, too; nothing else is ever paid twice.
    answered = len(books.charged)
    assert books.charged.total() - answered <= len(given_up)
    assert len(books.arrived_twice) <= len(given_up) - books.lost.total()
    assert counts["prompt_tokens"] + counts["answer_tokens"] >= books.tokens
    assert counts["calls"] == answered + len(given_up)


def test_the_outcome_does_not_depend_on_what_went_wrong_on_the_way(tmp_path):
    smooth, *_ = reached(tmp_path / "smooth", 80, faults=0)
    rough, books, _ = reached(tmp_path / "rough", 80, faults=0.5, seed=3)
    assert rough == smooth
    assert sum(books.tries.values()) > 100


def test_a_budget_is_never_exceeded_and_more_of_it_goes_on_from_there(tmp_path, given_up):
    faulty, questions = Faulty(), [ask(number) for number in range(80)]
    with Loopback(faulty) as server:
        stops: list[str] = []
        for tokens in (0, 5_000, 10_000, 40_000, 1_000_000):
            with teacher(tmp_path, server.url, budget=Budget(tokens=tokens), **SETTINGS) as asked:
                got = []
                try:
                    for outcome in asked.ask(questions, label="t"):
                        got.append(outcome)
                        assert faulty.tokens <= tokens
                except RunFailure as stopped:
                    stops.append(str(stopped))
                assert faulty.tokens <= asked.counts["prompt_tokens"] + asked.counts["answer_tokens"] <= tokens
            assert len(faulty.arrived_twice) <= len(given_up) - faulty.lost.total()
        assert 2 <= len(stops) <= 4
        assert all("raise the budget and run again: what was answered is kept" in stop for stop in stops)
        assert len(got) == len(questions)


@pytest.mark.parametrize(
    ("kills", "questions"), [(1, 60), pytest.param(20, 4_000, marks=pytest.mark.slow)], ids=["1", "20"]
)
def test_killed_at_any_moment_and_run_again_it_ends_the_same(tmp_path, kills, questions):
    smooth, killed = tmp_path / "smooth", tmp_path / "killed"
    with Loopback(Faulty(faults=0)) as server:
        write_answers(server.url, smooth, questions)
    dice, happened = random.Random(5), 0
    faulty = Faulty()
    tokens = 10**9
    with Loopback(faulty) as server:
        for _ in range(kills):
            server.came.clear()
            process = run(server.url, killed, questions, tokens)
            assert server.came.wait(60) or process.poll() is not None
            time.sleep(dice.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
            happened += process.wait() == -signal.SIGKILL
        assert run(server.url, killed, questions, tokens).wait() == 0
        with teacher(killed, server.url, **SETTINGS) as asked:
            spent = asked.counts
    assert happened >= kills / 2, "it was done before it could be killed"
    assert (killed / "answers.jsonl").read_bytes() == (smooth / "answers.jsonl").read_bytes()
    # What was on the wire at a kill is asked again, and nothing else.
    twice = sum(faulty.charged[one] - faulty.lost[one] - 1 for one in faulty.arrived_twice)
    assert twice <= happened * SETTINGS["limits"].concurrency
    assert faulty.tokens <= spent["prompt_tokens"] + spent["answer_tokens"] <= tokens


def test_processes_that_ask_the_same_at_once_pay_once(tmp_path):
    faulty, questions = Faulty(faults=0.1), 50
    with Loopback(faulty) as server:
        processes = [run(server.url, tmp_path, questions) for _ in range(2)]
        for process in processes:
            assert process.wait() == 0
    assert not faulty.arrived_twice
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == questions


def test_an_interrupt_ends_it_at_once(tmp_path):
    with Loopback(Faulty(faults=1.0, stalls=1.0)) as server:
        process = run(server.url, tmp_path, 50)
        assert server.came.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) not in (0, None), "its retries alone would last longer"
    assert not (tmp_path / "answers.jsonl").exists()


def run(url, folder, questions, *more):
    command = [sys.executable, str(PROCESS), url, str(folder), str(questions), *map(str, more)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
