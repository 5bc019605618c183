"""A bare HTTP client: what it sends is what the test says, byte for byte."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving_models import WaitingModel

from zhihui.serving.config import ServeConfig
from zhihui.serving.indexes import Indexes
from zhihui.serving.keys import Keys
from zhihui.serving.models import Models
from zhihui.serving.running import serve_in_thread
from zhihui.serving.service import Service


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def message(self) -> str:
        error = self.json["error"]
        return error if isinstance(error, str) else error["message"]


def call(
    url: str, path: str, body: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
) -> Reply:
    """Send a JSON object, or bytes as they are; GET where there is no body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    try:
        connection.request(method, path, raw, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@contextmanager
def serving(
    *models: Any,
    keys: tuple[str, ...] = (),
    reranker: Any = None,
    indexes: Mapping[str, Path] | None = None,
    **settings: Any,
):
    """Serve models on loopback; gives the URL and the service."""
    served = Models(models)
    searched = Indexes(indexes or {}, served)
    service = Service(served, ServeConfig(**settings), reranker=reranker, indexes=searched, keys=len(keys))
    waiting = [model for model in models if isinstance(model, WaitingModel)]
    for model in waiting:
        model.gate.set()  # for the warm-up
    url, end = serve_in_thread(service, Keys([*keys]))
    for model in waiting:
        model.gate.clear()
        model.began.clear()
        model.batches.clear()
    try:
        yield url, service
    finally:
        for model in waiting:
            model.gate.set()
        end()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for something another thread brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)
