"""The teacher behind an API: outcomes in the order of the questions, many questions under way at once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, cast

from zhihui import progress
from zhihui.errors import RunFailure
from zhihui.runs import fingerprint
from zhihui.teacher.asking import Ask, M, Outcome
from zhihui.teacher.cache import Cache, as_counts
from zhihui.teacher.calling import Caller, Lane, Sends, Unreachable
from zhihui.teacher.config import NANO, TeacherConfig
from zhihui.teacher.ledger import Ledger
from zhihui.teacher.plan import Step, next_step
from zhihui.teacher.session import Session

_AHEAD = 4  # questions under way for each slot for calls: one that waits for its next try must not idle the others


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What asking would take, but for repairs and later endpoints of a cascade, which only some questions need."""

    asks: int
    cached: int
    """Questions that are answered, or known to have no answer, without a call."""
    calls: int
    prompt_tokens: int
    """As estimated."""
    answer_tokens: int
    """At most."""
    cost: float | None
    """At most, in the currency of the prices; None where an endpoint has no price."""


class ApiTeacher:
    """Asks the endpoints of a config, remembers every reply, and stops before the budget is exceeded.

    Nothing runs and no connection is open but while an `ask` is under way. May be used as a context manager.

    Args:
        config: endpoints, roles, budget and the cache's file.
        run: whose spending the budget bounds, over all restarts; as a rule the destination of a stage.
        ledger: what stands for the cache where another process holds its file; None opens it.

    Raises:
        InputError: the cache's file cannot be used.
    """

    def __init__(self, config: TeacherConfig, *, run: str, ledger: Ledger | None = None) -> None:
        self.config = config
        self.run = run
        self._cache = Cache(config.cache) if ledger is None else ledger
        self._caller = Caller(cache=self._cache, budget=config.budget, run=run)
        self._lanes = {name: Lane(name, endpoint) for name, endpoint in config.endpoints.items()}
        self._session: Session | None = None
        self._users = 0
        self._turn = threading.Lock()
        self._cached = 0

    def __enter__(self) -> ApiTeacher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is still asked, and close the cache."""
        if self._session is not None:
            self._session.close()
        self._cache.close()

    @property
    def cache(self) -> Ledger:
        """The replies and the spending."""
        return self._cache

    @property
    def fingerprint(self) -> str:
        """SHA-256 over models, parameters and addresses of each role."""
        return fingerprint(
            {
                role: [
                    [one.base_url, one.query, one.model, one.parameters, one.context, one.answers]
                    for _, one in self.config.cascade(role)
                ]
                for role in self.config.roles
            }
        )

    @property
    def counts(self) -> dict[str, Any]:
        """What the run has spent over all its restarts, and how many outcomes of this object took no call."""
        return {**as_counts(self._cache.spent(self.run)), "cached": self._cached}

    def next_step(self, ask: Ask[M], unreachable: dict[str, str] | None = None) -> Outcome[M] | Step[M]:
        """Return the outcome of a question where the cache knows it, else the request it waits for."""
        return next_step(ask, self.config.cascade(ask.role), self._cache.find, unreachable or {})

    def estimate(self, asks: Iterable[Ask[Any]]) -> Estimate:
        """Return what asking these questions would take, without sending anything."""
        total = cached = prompt = answer = 0
        nano: int | None = 0
        waiting: set[str] = set()
        for ask in asks:
            total += 1
            step = self.next_step(ask)
            if isinstance(step, Outcome):
                cached += 1
            elif step.request.key not in waiting:
                waiting.add(step.request.key)
                expected, most = step.request.expected_tokens, step.request.max_answer_tokens
                prompt, answer = prompt + expected, answer + most
                price = step.endpoint.price
                nano = None if nano is None or price is None else nano + price.nano(expected, most)
        return Estimate(
            asks=total,
            cached=cached,
            calls=len(waiting),
            prompt_tokens=prompt,
            answer_tokens=answer,
            cost=None if nano is None else nano / NANO,
        )

    # ------------------------------------------------------------------ asking

    def ask(self, asks: Iterable[Ask[M]], *, label: str, total: int | None = None) -> Iterator[Outcome[M]]:
        """Yield an outcome for each question, in the order of the questions; see `Teacher.ask`.

        The questions are taken in the caller's thread, where another `ask` of the same teacher may feed them.

        Raises:
            RunFailure: the budget is used up, or an endpoint cannot be asked; calls on the wire are let finish first,
                so that their answers are kept.
            InputError: a role without an endpoint, a key that is not in the environment, the client not installed.
        """
        under_way: deque[Future[Outcome[M]]] = deque()
        sends: Sends = set()
        source, more = iter(asks), True
        session = self._enter()
        try:
            with progress.bar(total, label) as bar:
                while more or under_way:
                    while more and len(under_way) < self._ahead:
                        try:
                            one = next(source)
                        except StopIteration:
                            more = False
                        else:
                            under_way.append(session.submit(self._answer(one, session, sends)))
                    if under_way:
                        outcome = under_way.popleft().result()
                        self._cached += outcome.cached
                        bar.advance(note=self._note() if progress.shown() else None)
                        yield outcome
        except RunFailure:
            _stop(under_way)
            session.finish(session.finished())
            raise
        finally:
            _stop(under_way)
            session.finish(_cancelled(sends))
            self._leave()

    @property
    def _ahead(self) -> int:
        used = {name for names in self.config.roles.values() for name in names}
        return _AHEAD * max(self.config.endpoints[name].limits.concurrency for name in used)

    async def _answer(self, ask: Ask[M], session: Session, sends: Sends) -> Outcome[M]:
        unreachable: dict[str, str] = {}
        called = False
        while True:
            step = self.next_step(ask, unreachable)
            if isinstance(step, Outcome):
                return replace(step, cached=step.cached and not called)
            lane = self._lanes[step.name]
            try:
                called |= await self._caller.reply(lane, step, session, sends)
            except Unreachable as error:
                called = True
                if lane.down and step.last:
                    raise RunFailure(
                        f"teacher {step.name}: {lane.misses} requests in a row were left unanswered, the last with "
                        f"{error}; see to {lane.endpoint.base_url} and run again: what was answered is kept"
                    ) from None
                unreachable[step.name] = str(error)

    def _note(self) -> str:
        counts = self.counts
        tokens = counts["prompt_tokens"] + counts["answer_tokens"]
        cost = f", cost {counts['cost']:.4f}" if counts["cost"] else ""
        return f"{counts['calls']:,} calls, {tokens:,} tokens{cost}, {self._cached:,} cached"

    # ------------------------------------------------------------------ the session

    def _enter(self) -> Session:
        with self._turn:
            if self._session is None:
                self._session = Session()
            self._users += 1
            return self._session

    def _leave(self) -> None:
        with self._turn:
            self._users -= 1
            if self._users == 0:
                session, self._session = cast(Session, self._session), None
                session.close()
                self._cache.release_all()


def _stop(under_way: deque[Future[Any]]) -> None:
    for waiting in under_way:
        waiting.cancel()
    under_way.clear()


async def _cancelled(sends: Sends) -> None:
    for task in sends:
        task.cancel()
    await asyncio.gather(*sends, return_exceptions=True)
