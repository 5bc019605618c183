"""One cache and one budget for all workers that ask: an actor on the head holds the file, the workers call it.

The file is SQLite, which several machines cannot share, and a budget shared out in advance would end a run while some
workers still had money. So every question, booking and reply goes through the head: some thousand small calls a second,
where an endpoint answers some tens. A booking is one transaction of one file, as on one machine: the budget is never
exceeded, and what was answered is not asked again, whoever asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zhihui.distributed.answers import Answer, attempt, lost, value_of
from zhihui.teacher.cache import Begun, Cache, Spending, Stored
from zhihui.teacher.config import Budget
from zhihui.teacher.reply import Reply


class Bookkeeper:
    """The actor: a `Cache` for each worker, all of one file, so that one's claims are not another's.

    Args:
        path: of the file, on the head.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._caches: dict[int, Cache] = {}
        self._open: dict[int, set[str]] = {}
        """Requests of a worker that are on the wire, or may be sent again."""
        self._hopes: dict[int, bool] = {}
        """Whether others had some when a worker was last refused; a moment later they may be settled."""

    def enter(self, worker: int) -> Answer:
        """Note that a worker begins, perhaps in the place of one that died: its claims are given up.

        What was booked for the calls it had under way stays booked, since they may have been charged.
        """
        return attempt(self._renew, worker)

    def do(self, worker: int, what: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Answer:
        """Do what a method of `Cache` does, for a worker."""
        return attempt(self._do, worker, what, arguments, named)

    def _renew(self, worker: int) -> None:
        old = self._caches.pop(worker, None)
        self._open.pop(worker, None)
        if old is not None:
            old.release_all()
            old.close()

    def _do(self, worker: int, what: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if what == "others_ask":
            return self._hopes.get(worker, False)
        if worker not in self._caches:
            self._caches[worker] = Cache(self._path)
        done = getattr(self._caches[worker], what)(*arguments, **named)
        mine = self._open.setdefault(worker, set())
        if what == "begin" and done == "open":
            mine.add(arguments[0])
        elif what in ("begin", "release"):
            mine.discard(arguments[0])  # what is refused waits for others, who must not wait for it
            self._hopes[worker] = any(keys for other, keys in self._open.items() if other != worker)
        elif what == "settle":
            mine.discard(arguments[0].key)
        elif what == "release_all":
            mine.clear()
        return done


class RemoteLedger:
    """A worker's `Ledger`: the cache that the bookkeeper holds.

    Args:
        bookkeeper: the actor.
        worker: its number.
    """

    def __init__(self, bookkeeper: Any, worker: int) -> None:
        self._bookkeeper, self._worker = bookkeeper, worker
        self._get(bookkeeper.enter.remote(worker))

    def find(self, key: str) -> Reply | None:
        """As `Cache`, here and below."""
        return self._do("find", key)

    def add(self, replies: list[Stored]) -> int:
        """Keep replies that came another way."""
        return self._do("add", replies)

    def begin(self, key: str, *, run: str, worst: Spending, budget: Budget, lasts: float) -> Begun:
        """Book a call."""
        return self._do("begin", key, run=run, worst=worst, budget=budget, lasts=lasts)

    def settle(self, reply: Stored, *, run: str, correction: Spending) -> None:
        """Keep a reply."""
        self._do("settle", reply, run=run, correction=correction)

    def refund(self, *, run: str, worst: Spending) -> None:
        """Take back a booking."""
        self._do("refund", run=run, worst=worst)

    def release(self, key: str) -> None:
        """Give up a claim."""
        self._do("release", key)

    def release_all(self) -> None:
        """Give up all claims of this worker."""
        self._do("release_all")

    def taken(self, key: str) -> bool:
        """Whether somebody else is asking this."""
        return self._do("taken", key)

    def others_ask(self) -> bool:
        """Whether another worker had calls under way when this one was last refused."""
        return self._do("others_ask")

    def spent(self, run: str) -> Spending:
        """Return what a run has spent."""
        return self._do("spent", run)

    def close(self) -> None:
        """Leave the file to the others."""

    def _do(self, what: str, *arguments: Any, **named: Any) -> Any:
        return self._get(self._bookkeeper.do.remote(self._worker, what, arguments, named))

    @staticmethod
    def _get(task: Any) -> Any:
        import ray
        from ray.exceptions import RayError

        try:
            return value_of(ray.get(task))
        except RayError as error:
            raise lost(error) from None
