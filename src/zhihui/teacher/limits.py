"""How fast an endpoint may be asked: requests and tokens a minute, first come first served, and pauses it asks for."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from zhihui.teacher.config import Limits

_WINDOW = 60.0  # seconds


@dataclass
class Ticket:
    """One call's share of the window."""

    time: float
    tokens: int


class Limiter:
    """Lets calls through so that no window of a minute holds more than the limits.

    It outlives the event loops it is used on: what it knows is times and counts.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._window: deque[Ticket] = deque()
        self._tokens = 0
        self._paused_until = 0.0

    def pause(self, seconds: float) -> None:
        """Let no call through for so long; the endpoint said so."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    async def admit(self, tokens: int, turn: asyncio.Lock) -> Ticket:
        """Wait for room for a call.

        Args:
            tokens: prompt and answer at their worst case. A call above the limit alone waits for an empty window.
            turn: the queue of this event loop; its lock is fair.
        """
        async with turn:
            while (wait := self._wait(tokens)) > 0:
                await self._sleep(wait)
            ticket = Ticket(self._clock(), tokens)
            self._window.append(ticket)
            self._tokens += tokens
            return ticket

    def correct(self, ticket: Ticket, tokens: int) -> None:
        """Set a call's tokens to what it really took."""
        if ticket in self._window:
            self._tokens += tokens - ticket.tokens
            ticket.tokens = tokens

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        while self._window and self._window[0].time <= now - _WINDOW:
            self._tokens -= self._window.popleft().tokens
        if now < self._paused_until:
            return self._paused_until - now
        calls, most = self._limits.requests_per_minute, self._limits.tokens_per_minute
        full = calls is not None and len(self._window) >= calls
        full |= most is not None and bool(self._window) and self._tokens + tokens > most
        return self._window[0].time + _WINDOW - now if full else 0.0
