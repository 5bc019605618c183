"""A small OpenAI-compatible server on loopback: real sockets, answers made by a function of the test's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """A request as it came in."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str

    @property
    def user(self) -> str:
        """The last thing said."""
        return self.body["messages"][-1]["content"]

    @property
    def form(self) -> str:
        return self.body.get("response_format", {}).get("type", "text")


@dataclass(frozen=True)
class Answer:
    """What goes back, and how: whole, after a wait, or cut off at some byte."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    """Seconds."""
    cut: float | None = None
    """Share of the bytes after which the connection is cut."""

    @property
    def usage(self) -> dict[str, int]:
        return self.body.get("usage", {}) if self.status == 200 and isinstance(self.body, dict) else {}


Answering = Callable[[Call], Answer]


def completion(
    text: str | None, *, finish: str = "stop", refusal: str | None = None, prompt: int = 10, answer: int = 5
) -> Answer:
    """Return the body of a chat completion."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    return Answer({"id": "c", "object": "chat.completion", "model": "m-1", "choices": [choice], "usage": usage})


def error(status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return Answer(body, status=status, headers=headers or {})


GOOD = completion('{"grade": 3, "reason": "答了"}')


def always(answer: Answer) -> Answering:
    return lambda call: answer


def in_turn(*answers: Answer) -> Answering:
    """Answer with the first, then the second, ...; the last one stays."""
    left = list(answers)
    return lambda call: left.pop(0) if len(left) > 1 else left[0]


class Loopback:
    """Serves in a thread as long as the block lasts."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.calls: list[Call] = []
        self.open = 0
        """Calls under way."""
        self.most_open = 0
        self.came = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Loopback:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, "127.0.0.1", 0), self._loop
        ).result()
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        call = Call(body, headers, first.split()[1])
        self.calls.append(call)
        self.came.set()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            answer = self.answering(call)
            if answer.wait:
                await asyncio.sleep(answer.wait)
        finally:
            self.open -= 1
        raw = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        start = f"HTTP/1.1 {answer.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n{extra}"
        sent = start.encode() + b"\r\n" + raw
        if answer.cut is not None:
            sent = sent[: int(len(sent) * answer.cut)]
        writer.write(sent)
        await writer.drain()
        return answer.cut is None
