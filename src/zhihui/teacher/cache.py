"""Every reply that was paid for, and what was spent, in one SQLite file that many processes may use at once.

What a call may cost is booked in the transaction that allows it, and set right in the one that stores its reply. So a
process killed between the two leaves the worst case booked: the sum is never below what was charged.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Literal

from zhihui.errors import InputError, RunFailure
from zhihui.teacher.config import NANO, Budget
from zhihui.teacher.reply import NoReply, Reply, read_reply

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    prompt_tokens INTEGER, answer_tokens INTEGER, time REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS spending (
    run TEXT PRIMARY KEY, calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL,
    nano INTEGER NOT NULL
);
"""
_PATIENCE = 60.0  # seconds that a transaction waits for those of other processes
Begun = Literal["open", "stored", "taken", "full"]


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What calls cost."""

    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    nano: int = 0
    """Billionths of the currency."""

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def cost(self) -> float:
        """In the currency of the prices."""
        return self.nano / NANO

    def __add__(self, other: Spending) -> Spending:
        return Spending(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def __sub__(self, other: Spending) -> Spending:
        return Spending(**{name: value - getattr(other, name) for name, value in asdict(self).items()})

    def within(self, budget: Budget) -> bool:
        """Whether a budget allows it."""
        return (
            (budget.calls is None or self.calls <= budget.calls)
            and (budget.tokens is None or self.tokens <= budget.tokens)
            and (budget.cost is None or self.nano <= budget.cost * NANO)
        )


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A reply as it is kept."""

    key: str
    endpoint: str
    """Its address."""
    model: str
    status: int
    """Of HTTP: 200, or that of an error that is final for the prompt."""
    body: str
    prompt_tokens: int | None
    answer_tokens: int | None


class Cache:
    """The replies, the claims of those who are asking, and the spending by run.

    Raises:
        InputError: the file is no cache, or of a later release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._turn = threading.RLock()
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")  # outlives the process at any point, and costs no fsync
            with self._transaction():
                version = self._base.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, _VERSION):
                    raise InputError(f"{path}: a cache of version {version}, {_VERSION} expected; name another file")
                for statement in _SCHEMA.split(";"):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA user_version = {_VERSION}")
        except (sqlite3.DatabaseError, OSError) as error:
            raise InputError(f"{path}: cannot be used as a teacher's cache ({error}); name another file") from None

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._base.close()
            self._closed = True

    # ------------------------------------------------------------------ replies

    def find(self, key: str) -> Reply | None:
        """Return the reply to a request, read anew, or None."""
        with self._turn:
            row = self._base.execute("SELECT status, body FROM replies WHERE key = ?", (key,)).fetchone()
        try:
            return None if row is None else read_reply(*row)
        except NoReply:  # it was one to the release that stored it; asking again would pay twice
            return Reply()

    def add(self, replies: list[Stored]) -> int:
        """Keep replies that came another way; return how many were not there."""
        with self._transaction():
            return sum(self._keep(reply) for reply in replies)

    def _keep(self, reply: Stored) -> int:
        keep = "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
        return self._base.execute(keep, (*astuple(reply), time.time())).rowcount

    # ------------------------------------------------------------------ calls

    def begin(self, key: str, *, run: str, worst: Spending, budget: Budget, lasts: float) -> Begun:
        """Book a call at its worst case and claim its request, if nothing speaks against it.

        Args:
            key: of the request.
            run: who spends.
            worst: the most that it can cost.
            budget: of the run.
            lasts: seconds after which others take the claim for abandoned.

        Returns:
            open: send it. stored: the reply is there. taken: another one is asking. full: it may exceed the budget.
        """
        with self._transaction():
            if self._base.execute("SELECT 1 FROM replies WHERE key = ?", (key,)).fetchone():
                return "stored"
            if self._taken(key):
                return "taken"
            if not (self.spent(run) + worst).within(budget):
                return "full"
            claim = "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET owner = ?2, expires = ?3"
            self._base.execute(claim, (key, self._owner, time.time() + lasts))
            self._book(run, worst)
            return "open"

    def settle(self, reply: Stored, *, run: str, correction: Spending) -> None:
        """Keep the reply of a call that `begin` opened and set right what was booked for it."""
        with self._transaction():
            self._keep(reply)
            self._book(run, correction)
            self._release(reply.key)

    def refund(self, *, run: str, worst: Spending) -> None:
        """Take back what was booked for a call that was surely not charged."""
        with self._transaction():
            self._book(run, Spending() - worst)

    def release(self, key: str) -> None:
        """Give up a claim."""
        with self._transaction():
            self._release(key)

    def release_all(self) -> None:
        """Give up all claims, unless the file is closed; nobody is asking any more."""
        with self._turn:
            if self._closed:
                return
        with self._transaction():
            self._base.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))

    def taken(self, key: str) -> bool:
        """Whether somebody else is asking this."""
        with self._turn:
            return self._taken(key)

    def others_ask(self) -> bool:
        """Whether others of the same run have calls under way: a run on one machine is one process."""
        return False

    def spent(self, run: str) -> Spending:
        """Return what a run has spent, calls under way or lost at their worst case."""
        names = ", ".join(asdict(Spending()))
        with self._turn:
            row = self._base.execute(f"SELECT {names} FROM spending WHERE run = ?", (run,)).fetchone()
        return Spending() if row is None else Spending(**dict(zip(asdict(Spending()), row, strict=True)))

    def _book(self, run: str, change: Spending) -> None:
        spend = """INSERT INTO spending VALUES (?, ?, ?, ?, ?) ON CONFLICT (run) DO UPDATE SET calls = calls + ?2,
            prompt_tokens = prompt_tokens + ?3, answer_tokens = answer_tokens + ?4, nano = nano + ?5"""
        self._base.execute(spend, (run, *astuple(change)))

    def _release(self, key: str) -> None:
        self._base.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._owner))

    def _taken(self, key: str) -> bool:
        row = self._base.execute("SELECT owner, expires FROM claims WHERE key = ?", (key,)).fetchone()
        return row is not None and row[0] != self._owner and time.time() < row[1] and not _is_gone(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._turn:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._base.execute("ROLLBACK")
                    raise
                self._base.execute("COMMIT")
            except sqlite3.OperationalError as error:  # locked for too long, or a full disk
                raise RunFailure(f"{self.path}: the teacher's cache cannot be written: {error}") from None


def _is_gone(owner: str) -> bool:
    """Whether the process of a claim is known to have ended; of another machine's one, nothing is known."""
    host, pid, _ = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def as_counts(spending: Spending) -> dict[str, Any]:
    """Return spending as counts for a manifest."""
    return {
        "calls": spending.calls,
        "prompt_tokens": spending.prompt_tokens,
        "answer_tokens": spending.answer_tokens,
        "cost": round(spending.cost, 6),
    }
