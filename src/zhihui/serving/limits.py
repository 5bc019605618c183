"""Limits of one key: calls and tokens a minute, by a bucket that fills steadily and may go into debt once."""

from __future__ import annotations

import time
from collections.abc import Callable

from zhihui.serving.refusals import Refusal


class Bucket:
    """So much a minute: full at the start, empty when used up, refilled by the second."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._level = float(per_minute), float(per_minute)
        self._clock, self._seen = clock, clock()

    def wait(self) -> float:
        """Return the seconds until something may be taken again; 0 when now."""
        self._refill()
        needed = min(1.0, self._size)
        return 0.0 if self._level >= needed - 1e-9 else (needed - self._level) * 60 / self._size

    def take(self, amount: float) -> None:
        """Use some; a call larger than what is left is taken once, and paid back by waiting."""
        self._refill()
        self._level -= amount

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._seen) * self._size / 60)
        self._seen = now


class Limits:
    """The limits of all keys; as many buckets as there are keys, however many calls come."""

    def __init__(
        self,
        keys: int,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Give each key its own buckets; without keys all callers share one pair.

        Args:
            keys: how many there are.
            requests_per_minute: None sets no limit.
            tokens_per_minute: None sets no limit.
            clock: seconds.
        """

        def buckets(per_minute: int | None) -> list[Bucket] | None:
            return None if per_minute is None else [Bucket(per_minute, clock) for _ in range(keys + 1)]

        self._requests, self._tokens = buckets(requests_per_minute), buckets(tokens_per_minute)

    def enter(self, key: int) -> None:
        """Count one call of a key.

        Raises:
            Refusal: 429, the key has used up its calls or tokens.
        """
        for buckets, what in ((self._requests, "requests"), (self._tokens, "tokens")):
            if buckets is not None and (wait := buckets[key].wait()) > 0:
                message = f"this key has used up its {what} a minute; try again in {max(1, round(wait))} s"
                raise Refusal(429, message, code="rate_limit_exceeded", retry_after=wait + 0.5)
        if self._requests is not None:
            self._requests[key].take(1)

    def spend(self, key: int, tokens: int) -> None:
        """Count tokens of a call that was let in."""
        if self._tokens is not None:
            self._tokens[key].take(tokens)
