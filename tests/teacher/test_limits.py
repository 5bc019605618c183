from __future__ import annotations

import asyncio

from zhihui.teacher import Limits
from zhihui.teacher.limits import Limiter


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds


def admitted(limits, tokens, *, pause=None, real=None):
    """Return the times, from 0, at which calls of so many tokens were let through."""

    async def main():
        clock, turn = Clock(), asyncio.Lock()
        limiter = Limiter(limits, clock=clock, sleep=clock.sleep)
        if pause is not None:
            limiter.pause(pause)
        times = []
        for each in tokens:
            ticket = await limiter.admit(each, turn)
            times.append(round(clock.now - 1000))
            if real is not None:
                limiter.correct(ticket, real)
        return times

    return asyncio.run(main())


def test_without_limits_nothing_waits():
    assert admitted(Limits(), [10**9] * 5) == [0] * 5


def test_no_minute_holds_more_requests_than_allowed():
    assert admitted(Limits(requests_per_minute=2), [1] * 5) == [0, 0, 60, 60, 120]


def test_no_minute_holds_more_tokens_than_allowed():
    assert admitted(Limits(tokens_per_minute=100), [40, 60, 1, 99, 50]) == [0, 0, 60, 60, 120]


def test_a_call_above_the_limit_alone_goes_through_an_empty_minute():
    assert admitted(Limits(tokens_per_minute=100), [10, 500, 10]) == [0, 60, 120]


def test_what_a_call_really_took_makes_room():
    assert admitted(Limits(tokens_per_minute=100), [90] * 4, real=5) == [0, 0, 0, 60]


def test_a_pause_stops_every_call():
    assert admitted(Limits(), [1, 1], pause=30) == [30, 30]


def test_who_came_first_goes_first_though_a_later_one_would_fit():
    async def main():
        clock, turn, order = Clock(), asyncio.Lock(), []
        limiter = Limiter(Limits(tokens_per_minute=100), clock=clock, sleep=clock.sleep)

        async def one(number, tokens):
            await limiter.admit(tokens, turn)
            order.append(number)

        await asyncio.gather(*(one(number, tokens) for number, tokens in enumerate([60, 60, 10, 90])))
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3]
