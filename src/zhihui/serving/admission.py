"""Admission: how many tokens wait or are computed, and when no more are taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from zhihui.serving.refusals import Refusal

_LONGEST_WAIT = 30.0
"""Most seconds a client is told to wait."""
_RECENT = 10.0
"""Seconds that the measured speed looks back, about."""


class Place:
    """What one call takes up."""

    def __init__(self, admission: Admission, tokens: int) -> None:
        self._admission, self.tokens = admission, tokens

    def correct(self, tokens: int) -> None:
        """Replace the estimate by what was counted."""
        self._admission.waiting += tokens - self.tokens
        self.tokens = tokens


class Admission:
    """The bound on what waits; used by the event loop alone."""

    def __init__(self, limit: int) -> None:
        """Set the bound.

        Args:
            limit: tokens. A call is taken while fewer than these wait, so the most there can be is the limit and one
                call more: even a call larger than the limit is served, when nothing else waits.
        """
        self._limit = limit
        self.waiting = 0
        """Tokens of calls taken and not yet answered."""
        self._speed = 0.0
        self._counted, self._since = 0, time.monotonic()

    @contextmanager
    def place(self, tokens: int, *, small: bool) -> Iterator[Place]:
        """Hold a place for a call while the block lasts.

        Args:
            tokens: an estimate, to be corrected once they are counted.
            small: whether it may use the last tenth, which large calls leave free.

        Raises:
            Refusal: 429, too many tokens wait.
        """
        if self.waiting >= (self._limit if small else 0.9 * self._limit):
            wait = min(_LONGEST_WAIT, self.waiting / self._speed if self._speed else 1.0)
            raise Refusal(429, "the server is busy; try again later", code="overloaded", retry_after=wait)
        place = Place(self, tokens)
        self.waiting += tokens
        try:
            yield place
        finally:
            self.waiting -= place.tokens
            self._count(place.tokens)

    def _count(self, tokens: int) -> None:
        """Measure how many tokens a second are done."""
        self._counted += tokens
        spent = time.monotonic() - self._since
        if spent >= 1.0:
            share = min(1.0, spent / _RECENT) if self._speed else 1.0
            self._speed += share * (self._counted / spent - self._speed)
            self._counted, self._since = 0, time.monotonic()
