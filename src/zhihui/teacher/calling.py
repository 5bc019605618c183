"""From a request to its reply in the cache: tries, waits, limits, budget and the claim, for one endpoint."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zhihui.errors import RunFailure
from zhihui.teacher.cache import Begun, Spending, Stored
from zhihui.teacher.config import Budget, Endpoint, Form
from zhihui.teacher.ledger import Ledger
from zhihui.teacher.limits import Limiter, Ticket
from zhihui.teacher.plan import Step
from zhihui.teacher.reply import read_reply
from zhihui.teacher.request import Request, body_of
from zhihui.teacher.session import Session
from zhihui.teacher.wire import BodyRefused, PassingFault

_GIVE_UP_AFTER = 20  # requests in a row that an endpoint did not answer
_GRACE = 60  # seconds that a claim outlasts what may happen to its call
_JITTER = random.Random()  # its own: waits must not move the draws of others
_POLL = 0.1  # seconds between looks at another process's claim
Sends = set["asyncio.Task[None]"]
"""Calls on the wire for one `ask`: they are let finish where only the budget ended, since they are paid for."""


class Unreachable(Exception):
    """The endpoint did not answer a request to the last try; the message is one line."""


@dataclass
class Lane:
    """What is known of an endpoint as long as the teacher lives."""

    name: str
    endpoint: Endpoint
    limiter: Limiter = field(init=False)
    form: Form = field(init=False)
    """The first way of asking for an answer's shape that it has not refused."""
    misses: int = 0
    """Requests in a row that it did not answer."""

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.endpoint.limits)
        self.form = self.endpoint.forms[0]

    fault: str = ""
    """How the last of them ended."""

    @property
    def down(self) -> bool:
        """Whether it is not worth asking any more."""
        return self.misses >= _GIVE_UP_AFTER


@dataclass(kw_only=True)
class Caller:
    """Brings replies into the cache.

    Args:
        cache: where they go.
        budget: of the run.
        run: under which name is spent.
    """

    cache: Ledger
    budget: Budget
    run: str
    closed: str | None = None
    """Why nothing more is sent; the words alone, since an exception would keep alive all that it passed through."""

    async def reply(self, lane: Lane, step: Step[Any], session: Session, sends: Sends) -> bool:
        """See that the cache holds a final reply to a request; return whether a call was made for it.

        Raises:
            Unreachable: the endpoint did not answer to the last try.
            RunFailure: the budget does not allow the call, or the endpoint allows none.
        """
        key = step.request.key
        async with session.request(key):
            if self.cache.find(key) is not None:
                return False
            made = None
            try:
                made = await self._try(lane, step.request, session, sends)
            except Unreachable as error:
                if not lane.down:
                    lane.misses, lane.fault = lane.misses + 1, str(error)
                raise
            except RunFailure as failure:
                self.closed = str(failure)
                raise
            finally:
                on_the_wire = any(task.get_name() == key for task in sends)  # one let finish still needs the claim
                if made is None and not on_the_wire:
                    self.cache.release(key)
            lane.misses = 0
            return made

    async def _try(self, lane: Lane, request: Request, session: Session, sends: Sends) -> bool:
        endpoint, form, tries = lane.endpoint, lane.form, 0
        while True:
            while self.cache.taken(request.key):
                await asyncio.sleep(_POLL)
            try:
                begun = await self._once(lane, request, form, session, sends)
            except BodyRefused as refused:
                later = endpoint.forms[endpoint.forms.index(form) + 1 :]
                if not later:
                    raise Unreachable(str(refused)) from None
                form = later[0]
            except PassingFault as fault:
                tries += 1
                wait = _wait(endpoint, tries) if fault.wait is None else fault.wait
                if tries > endpoint.retries or wait > endpoint.longest_wait:
                    asks = f", asks to wait {wait:.0f} s" if wait > endpoint.longest_wait else ""
                    raise Unreachable(f"{fault.detail}{asks} (try {tries} of {endpoint.retries + 1})") from None
                if fault.wait is not None:
                    lane.limiter.pause(wait)
                await asyncio.sleep(wait)
            else:
                if begun == "open":
                    lane.form = form
                if begun != "taken":
                    return begun == "open"

    async def _once(self, lane: Lane, request: Request, form: Form, session: Session, sends: Sends) -> Begun:
        """Send a request as soon as limits and budget allow; "stored" and "taken" tell that another one did."""
        endpoint = lane.endpoint
        line = session.line(lane.name, endpoint)
        prompt, answer = request.most_tokens, request.max_answer_tokens
        worst = Spending(calls=1, prompt_tokens=prompt, answer_tokens=answer, nano=_nano(endpoint, prompt, answer))
        lasts = endpoint.timeout + endpoint.longest_wait + _GRACE
        async with session.slots(lane.name, endpoint):
            if lane.down:
                raise Unreachable(lane.fault)
            ticket = await lane.limiter.admit(request.expected_tokens + answer, session.turn(lane.name))
            while True:
                if self.closed is not None:
                    raise RunFailure(self.closed)
                begun = self.cache.begin(request.key, run=self.run, worst=worst, budget=self.budget, lasts=lasts)
                if begun != "full":
                    break
                # A call on the wire may cost less than its worst case.
                if session.sends:
                    await session.change()
                elif self.cache.others_ask():
                    await asyncio.sleep(_POLL)
                else:
                    raise self._used_up(worst)
            if begun != "open":  # waiting with a slot in hand could block the one who is waited for
                lane.limiter.correct(ticket, 0)
                return begun

            async def send() -> None:
                try:
                    status, text = await line.send(body_of(endpoint, request, form))
                except PassingFault as fault:
                    if not fault.perhaps_charged:
                        self.cache.refund(run=self.run, worst=worst)
                    raise
                except (BodyRefused, RunFailure):
                    self.cache.refund(run=self.run, worst=worst)
                    raise
                self._settle(lane, request, worst, ticket, status, text)

            task = asyncio.create_task(send(), name=request.key)
            for group in (sends, session.sends):
                group.add(task)
                task.add_done_callback(group.discard)
            task.add_done_callback(lambda _: session.changed())
            await asyncio.shield(task)
            return "open"

    def _settle(self, lane: Lane, request: Request, worst: Spending, ticket: Ticket, status: int, text: str) -> None:
        endpoint, reply = lane.endpoint, read_reply(status, text)
        spent = Spending()
        if status == 200:
            # Who does not say what it took is taken at the worst.
            prompt = worst.prompt_tokens if reply.prompt_tokens is None else reply.prompt_tokens
            answer = worst.answer_tokens if reply.answer_tokens is None else reply.answer_tokens
            nano = _nano(endpoint, prompt, answer)
            spent = Spending(calls=1, prompt_tokens=prompt, answer_tokens=answer, nano=nano)
            lane.limiter.correct(ticket, spent.tokens)
        stored = Stored(
            key=request.key,
            endpoint=endpoint.base_url,
            model=reply.model or endpoint.model,
            status=status,
            body=text,
            prompt_tokens=reply.prompt_tokens,
            answer_tokens=reply.answer_tokens,
        )
        self.cache.settle(stored, run=self.run, correction=spent - worst)

    def _used_up(self, worst: Spending) -> RunFailure:
        spent, budget = self.cache.spent(self.run), self.budget
        parts: list[tuple[str, float, float | None, float, Callable[[float], str]]] = [
            ("calls", spent.calls, budget.calls, worst.calls, lambda value: f"{value:,.0f}"),
            ("tokens", spent.tokens, budget.tokens, worst.tokens, lambda value: f"{value:,.0f}"),
            ("cost", spent.cost, budget.cost, worst.cost, lambda value: f"{value:.4f}"),
        ]
        used = ", ".join(
            f"{name} {show(value)}" + ("" if bound is None else f" of {show(bound)}")
            for name, value, bound, _, show in parts
        )
        over = next(
            f"the next call may take {show(more)} {name}"
            for name, value, bound, more, show in parts
            if bound is not None and value + more > bound
        )
        mend = "raise the budget and run again: what was answered is kept and not paid twice"
        return RunFailure(f"the teacher's budget is used up: {used}; {over}; {mend}")


def _nano(endpoint: Endpoint, prompt_tokens: int, answer_tokens: int) -> int:
    return 0 if endpoint.price is None else endpoint.price.nano(prompt_tokens, answer_tokens)


def _wait(endpoint: Endpoint, tries: int) -> float:
    """Return seconds before the next try: exponential, with jitter so that those who failed together part."""
    longest = min(endpoint.backoff * 2 ** (tries - 1), endpoint.longest_wait)
    return longest * _JITTER.uniform(0.5, 1.0)
