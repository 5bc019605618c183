from __future__ import annotations

import multiprocessing
import os
import sqlite3

import pytest

from zhihui.errors import InputError, RunFailure
from zhihui.teacher import Budget
from zhihui.teacher.cache import Cache, Spending, Stored

BODY = '{"choices": [{"message": {"content": "好"}, "finish_reason": "stop"}]}'
WORST = Spending(calls=1, prompt_tokens=100, answer_tokens=50, nano=1000)
REAL = Spending(calls=1, prompt_tokens=10, answer_tokens=5, nano=100)
FREE = Budget()


def stored(key="k"):
    return Stored(key=key, endpoint="http://e", model="m", status=200, body=BODY, prompt_tokens=10, answer_tokens=5)


def begin(cache, key="k", *, run="run", budget=FREE, lasts=60.0):
    return cache.begin(key, run=run, worst=WORST, budget=budget, lasts=lasts)


@pytest.fixture
def caches(tmp_path):
    """Two users of one file, as two processes would be."""
    both = Cache(tmp_path / "c.sqlite"), Cache(tmp_path / "c.sqlite")
    yield both
    for cache in both:
        cache.close()


def test_a_reply_is_kept_and_its_call_set_right(caches):
    ours, theirs = caches
    assert ours.find("k") is None
    assert begin(ours) == "open"
    assert theirs.spent("run") == WORST
    ours.settle(stored(), run="run", correction=REAL - WORST)
    assert theirs.find("k").text == "好"
    assert theirs.spent("run") == REAL
    assert begin(theirs) == "stored"
    assert theirs.spent("other") == Spending()


def test_who_asks_second_is_told_so_until_the_first_gives_up_or_is_gone(caches):
    ours, theirs = caches
    assert begin(ours) == "open"
    assert theirs.taken("k")
    assert begin(theirs) == "taken"
    assert not ours.taken("k"), "one's own claim stops nobody"
    theirs.release("k")
    assert theirs.taken("k"), "it is not theirs to give up"
    ours.release("k")
    assert begin(theirs) == "open"
    theirs.release_all()
    assert begin(ours, lasts=-1) == "open"
    assert begin(theirs) == "open", "an abandoned claim is taken over"


def test_the_claim_of_a_process_that_ended_stops_nobody(caches):
    _, theirs = caches
    child = multiprocessing.get_context("spawn").Process(target=_begin_and_die, args=(theirs.path,))
    child.start()
    child.join()
    assert child.exitcode == 9
    assert theirs._base.execute("SELECT COUNT(*) FROM claims").fetchone() == (1,)
    assert not theirs.taken("k")
    assert begin(theirs) == "open"
    assert theirs.spent("run") == WORST + WORST, "what the dead one had booked may have been charged"


def _begin_and_die(path):
    begin(Cache(path))
    os._exit(9)


@pytest.mark.parametrize(
    ("budget", "calls"),
    [
        (Budget(calls=3), 3),
        (Budget(tokens=299), 1),
        (Budget(tokens=300), 2),
        (Budget(cost=2e-6), 2),
        (Budget(cost=0.0), 0),
        (Budget(calls=9, tokens=150), 1),
    ],
    ids=str,
)
def test_calls_under_way_count_at_their_worst(caches, budget, calls):
    ours, theirs = caches
    begun = [begin(ours if number % 2 else theirs, f"k{number}", budget=budget) for number in range(5)]
    assert begun == ["open"] * calls + ["full"] * (5 - calls)
    assert begin(ours, "other", run="other run", budget=FREE) == "open"


def test_a_refund_makes_room(caches):
    ours, theirs = caches
    assert begin(ours, budget=Budget(calls=1)) == "open"
    assert begin(theirs, "l", budget=Budget(calls=1)) == "full"
    ours.refund(run="run", worst=WORST)
    assert begin(theirs, "l", budget=Budget(calls=1)) == "open"


def test_the_first_of_two_replies_stays(caches):
    ours, theirs = caches
    other = Stored(**{**stored().__dict__, "body": BODY.replace("好", "坏")})
    assert ours.add([stored(), other]) == 1
    assert theirs.add([other, stored("l")]) == 1
    assert theirs.find("k").text == "好"


def test_a_reply_that_can_no_longer_be_read_is_not_paid_for_again(caches):
    ours, _ = caches
    ours.add([Stored(**{**stored().__dict__, "body": "{}"})])
    assert ours.find("k").text == ""


def test_a_file_that_is_no_cache_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine, and long enough to be taken for a header of a data base\n" * 50)
    before = path.read_bytes()
    with pytest.raises(InputError, match="cannot be used as a teacher's cache"):
        Cache(path)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used as a teacher's cache"):
        Cache(tmp_path / "file" / "c.sqlite")


def test_a_file_that_somebody_keeps_locked_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("zhihui.teacher.cache._PATIENCE", 0.05)
    cache = Cache(tmp_path / "c.sqlite")
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RunFailure, match="the teacher's cache cannot be written: database is locked"):
        begin(cache)
    other.close()
    assert begin(cache) == "open"
    cache.close()


def test_a_cache_of_a_later_release_is_refused(tmp_path):
    path = tmp_path / "c.sqlite"
    Cache(path).close()
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 9")
    base.close()
    with pytest.raises(InputError, match="a cache of version 9, 1 expected"):
        Cache(path)
