"""Running: listening, and ending in order. Calls under way are answered, new ones sent elsewhere."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from zhihui.errors import InputError, RunFailure
from zhihui.serving.app import build_app
from zhihui.serving.gate import Gate
from zhihui.serving.keys import Keys
from zhihui.serving.service import Service

logger = logging.getLogger("zhihui.serving")
_LINGER = 0.1
"""Seconds for which new calls are still told that the server ends, after the last answer."""


def bind(host: str, port: int) -> socket.socket:
    """Take the address before a model is loaded for it; nobody can connect yet.

    Raises:
        InputError: the address is taken, or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{host}:{port} cannot be listened at ({reason}); choose another --host or --port") from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the URL of a bound address."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A uvicorn server that drains: uvicorn's own stops listening at once, and callers meet a closed door."""

    def __init__(self, service: Service, keys: Keys | None = None) -> None:
        """Make a server for a service that is not started yet."""
        gate = build_app(service, keys)
        # A call waits by itself in the queue, so many connections cost little; headers are bounded by h11.
        super().__init__(
            uvicorn.Config(
                gate,
                http="h11",
                loop="asyncio",
                lifespan="on",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=5,
            )
        )
        self._service, self._gate = service, gate
        self._draining: asyncio.Task[None] | None = None
        self.unanswered = 0
        """Calls that were cut off because draining took too long."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the service and listen."""
        await super().startup(sockets)
        if self.started:
            urls = [url_of(bound) for bound in sockets or []]
            facts = {
                "urls": urls,
                "models": [*self._service.models.by_name],
                "indexes": [*self._service.indexes.by_name],
            }
            logger.info("ready", extra={"facts": facts})

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on SIGTERM and SIGINT; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def drain(self) -> None:
        """Refuse new calls, answer those under way, then end; called again, end at once. For the loop's own thread."""
        if self._draining is None:
            self._service.draining = True
            logger.info("draining", extra={"facts": {"open": self._gate.open}})
            self._draining = asyncio.get_running_loop().create_task(self._drained(self._gate))
        else:
            self.should_exit = self.force_exit = True

    async def _drained(self, gate: Gate) -> None:
        deadline = asyncio.get_running_loop().time() + self._service.config.drain_seconds
        while gate.open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        self.unanswered = gate.open
        await asyncio.sleep(_LINGER)
        self.should_exit = True


def run(service: Service, keys: Keys, bound: socket.socket) -> None:
    """Serve until a signal ends it.

    Raises:
        RunFailure: it could not start, or calls were cut off at its end.
    """
    server = Server(service, keys)
    try:
        server.run(sockets=[bound])
    except SystemExit:
        raise RunFailure("the server could not start; its log says why") from None
    if server.unanswered:
        seconds = service.config.drain_seconds
        raise RunFailure(f"ended with {server.unanswered} calls unanswered after {seconds:g} s; raise --drain-seconds")


def serve_in_thread(service: Service, keys: Keys | None = None) -> tuple[str, Any]:
    """Serve on a free loopback port in a thread, for tests and benchmarks.

    Returns:
        The URL, and a function that drains and ends the server.
    """
    bound = bind("127.0.0.1", 0)
    server = Server(service, keys)
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets=[bound])

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        if not thread.is_alive():
            raise RunFailure("the server could not start")

    def end() -> None:
        loops[0].call_soon_threadsafe(server.drain)
        thread.join()

    return url_of(bound), end
