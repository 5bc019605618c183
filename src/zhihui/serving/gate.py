"""Gate: what every call passes before a route sees it. Draining, key, limits, size; and what is told of it after."""

from __future__ import annotations

import asyncio
import math
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhihui.serving.call import Call
from zhihui.serving.keys import Keys
from zhihui.serving.logs import log_call
from zhihui.serving.page_routes import PAGE_ROUTES
from zhihui.serving.refusals import Refusal, bad_input
from zhihui.serving.service import Service
from zhihui.serving.worker import log_failure

OPEN_ROUTES = ("/health", "/ready", "/metrics", *PAGE_ROUTES)
"""Need no key, are not limited, and answer while the server drains."""
GONE = 499
"""The status that is logged where the client has gone; of no standard, but nginx logs the same."""
_DISCARD_SECONDS = 10.0
_READ_SECONDS = 60.0
"""Within which a client must take a part of its answer."""
_DISCARDED = 4
"""Largest bodies that a refused call may send in vain before it is cut off."""


class Gate:
    """Wraps the routes."""

    def __init__(self, app: ASGIApp, service: Service, keys: Keys, known: frozenset[str]) -> None:
        """Set it before the routes.

        Args:
            app: the routes.
            service: whose settings and limits count.
            keys: who may call.
            known: the paths there are; all others are one in the metrics.
        """
        self._app, self._service, self._keys, self._known = app, service, keys, known
        self._held = 0
        self.open = 0
        """Calls under way; those of the open routes do not count."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        route = path if path in self._known else "other"
        call = Call(route=route, timeout=self._service.config.timeout)
        scope["zhihui.call"] = call
        answer = _Answer(send, call)
        counted = path not in OPEN_ROUTES
        self.open += counted
        body = _Body(receive)
        try:
            self._enter(call, Headers(scope=scope), path)
            await self._read(body, call, Headers(scope=scope))
            await self._app(scope, body.replay, answer)
        except Refusal as refusal:
            if not body.is_late:
                await body.discard(_DISCARDED * self._service.config.max_body_bytes)
            await refusal.response(path)(scope, receive, answer)
        except (ClientDisconnect, TimeoutError):
            answer.status = answer.status or GONE
        except Exception as error:  # its own handler has answered; what is left is to tell of it, without its texts
            log_failure("a route failed", error, id=call.id)
        finally:
            self._held -= body.held
            self.open -= counted
            self._service.metrics.answered(call, answer.status or GONE)
            if counted:
                log_call(call, scope["method"], answer.status or GONE, texts=self._service.config.log_texts)

    def _enter(self, call: Call, headers: Headers, path: str) -> None:
        if path in OPEN_ROUTES:
            return
        if self._service.draining:
            raise Refusal(503, "the server is ending; ask another", code="draining", retry_after=5)
        if self.open > self._service.config.max_calls:
            raise Refusal(429, "too many calls at once; try again later", code="overloaded", retry_after=2)
        key = self._keys.number(headers.get("authorization"))
        if key is None:
            message = "no valid API key; send it as Authorization: Bearer KEY"
            raise Refusal(401, message, code="invalid_api_key")
        call.key = key
        self._service.limits.enter(key)
        if (wanted := headers.get("x-request-timeout")) is not None:
            call.timeout = min(call.timeout, _seconds(wanted))

    async def _read(self, body: _Body, call: Call, headers: Headers) -> None:
        """Read the whole body, as long as it and all others under way are within bounds.

        Raises:
            Refusal: 413, too large; 429, too much is held; 503, it comes too slowly.
        """
        most = self._service.config.max_body_bytes
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(call.remaining):
                async for chunk in body:
                    if body.size > most:
                        raise _too_large(most)
                    self._held += len(chunk)
                    body.held += len(chunk)
                    if self._held > self._service.config.max_held_bytes:
                        raise Refusal(429, "the server holds too many bodies; try again", retry_after=2)
        except TimeoutError:
            body.is_late = True
            raise Refusal(503, "the body came too slowly", code="timeout", retry_after=2) from None


class _Body:
    """A request's body: read once, handed on as one message."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._chunks: list[bytes] = []
        self._whole = False
        self._replayed = False
        self.size = 0
        """Bytes read."""
        self.is_late = False
        """Whether it came too slowly, so that the rest is not waited for."""
        self.held = 0
        """Bytes that count among those of all calls."""

    async def __aiter__(self) -> Any:
        while not self._whole:
            chunk = await self._next()
            self.size += len(chunk)
            self._chunks.append(chunk)
            yield chunk

    async def replay(self) -> Message:
        """Give the body once, then what the client does next."""
        if self._replayed:
            return await self._receive()
        self._replayed = True
        content = b"".join(self._chunks)
        self._chunks = []
        return {"type": "http.request", "body": content, "more_body": False}

    async def discard(self, most: int) -> None:
        """Read on and forget, so that the client gets to read the answer instead of a broken pipe."""
        seen = 0
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._whole and seen < most:
                    seen += len(await self._next())
        except (TimeoutError, ClientDisconnect):
            return

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._whole = True
            raise ClientDisconnect
        self._whole = not message.get("more_body", False)
        content: bytes = message.get("body", b"")
        return content


class _Answer:
    """Sends, and remembers the status."""

    def __init__(self, send: Send, call: Call) -> None:
        self._send, self._call = send, call
        self.status = 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._call.id
        # A client that does not read its answer is cut off: it would hold the answer's memory for ever.
        async with asyncio.timeout(_READ_SECONDS):
            await self._send(message)


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"the body is larger than {most} bytes; send fewer texts a call", code="body_too_large")


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise bad_input("X-Request-Timeout must be seconds above 0, such as 2.5")
    return seconds
