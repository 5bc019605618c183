"""An event loop in a thread of its own, with the connections that live on it; there only while somebody asks."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from zhihui.teacher.config import Endpoint
from zhihui.teacher.wire import Line

T = TypeVar("T")


class Session:
    """What one stretch of asking needs and nothing outlives: loop, connections, queues."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="teacher", daemon=True)
        self._thread.start()
        self._closed = False
        atexit.register(self.close)  # an `ask` that nobody closed ends after the thread, and would wait for it
        self._lines: dict[str, Line] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._requests: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._change = asyncio.Event()
        self.sends: set[asyncio.Task[None]] = set()
        """Calls on the wire: booked and not settled."""

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work on the loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work on the loop and wait for it; once the session is closed there is nothing left to do."""
        if self._closed:
            work.close()
        else:
            self.submit(work).result()

    def close(self) -> None:
        """End all work, close the connections and end the thread."""
        if self._closed:
            return
        atexit.unregister(self.close)
        self.finish(self._hang_up())
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _hang_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for line in self._lines.values():
            await line.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    # ------------------------------------------------------------------ on the loop

    def line(self, name: str, endpoint: Endpoint) -> Line:
        """Return the connection to an endpoint, made at its first use: what is cached needs neither client nor key."""
        if name not in self._lines:
            self._lines[name] = Line(name, endpoint)
        return self._lines[name]

    def slots(self, name: str, endpoint: Endpoint) -> asyncio.Semaphore:
        """Return the endpoint's slots for calls under way; the first to ask is the first to get one."""
        return self._slots.setdefault(name, asyncio.Semaphore(endpoint.limits.concurrency))

    def turn(self, name: str) -> asyncio.Lock:
        """Return the queue before an endpoint's limits."""
        return self._turns.setdefault(name, asyncio.Lock())

    def request(self, key: str) -> asyncio.Lock:
        """Return the lock of a request, held while it is answered: who asks the same thing waits and takes the reply.

        It lives as long as somebody holds it.
        """
        return self._requests.setdefault(key, asyncio.Lock())

    def changed(self) -> None:
        """Wake all who wait for a call to be settled."""
        self._change.set()
        self._change = asyncio.Event()

    async def finished(self) -> None:
        """Wait until no call is on the wire: they are paid for, whatever ended the asking."""
        await asyncio.gather(*self.sends, return_exceptions=True)

    async def change(self) -> None:
        """Wait until a call is settled."""
        await self._change.wait()
