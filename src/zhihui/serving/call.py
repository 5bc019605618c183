"""Call: one request on its way through the server, and what is known of it for log, metrics and headers."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request


@dataclass(kw_only=True)
class Call:
    """A request that was let in; nothing of it outlives the answer."""

    route: str
    timeout: float
    """Seconds from its arrival until it is given up."""
    key: int = 0
    """Number of its API key; 0 where none is needed."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    entered: float = field(default_factory=time.monotonic)
    facts: dict[str, Any] = field(default_factory=dict)
    """For the log: model, inputs, characters, tokens, truncated."""
    texts: list[str] = field(default_factory=list)
    """For the log where texts are wanted there."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of its stages: tokenization, queue, inference, search."""

    @property
    def age(self) -> float:
        """Seconds since it came in."""
        return time.monotonic() - self.entered

    @property
    def remaining(self) -> float:
        """Seconds left; 0 when it is late."""
        return max(0.0, self.timeout - self.age)

    def count(self, *, model: str, inputs: int, characters: int, tokens: int, truncated: int) -> None:
        """Keep what was counted."""
        self.facts.update(model=model, inputs=inputs, characters=characters, tokens=tokens, truncated=truncated)

    def headers(self, device: str) -> dict[str, str]:
        """Return the headers of an answer: what was cut, and TEI's account of time (ms) and size."""
        stages = {f"x-{stage}-time": spent for stage, spent in {"total": self.age, **self.seconds}.items()}
        return {
            "x-truncated-count": str(self.facts.get("truncated", 0)),
            "x-compute-type": device,
            "x-compute-characters": str(self.facts.get("characters", 0)),
            "x-compute-tokens": str(self.facts.get("tokens", 0)),
            **{name: f"{1000 * spent:.1f}" for name, spent in stages.items()},
        }


def call_of(request: Request) -> Call:
    """Return the call that the gate made of a request."""
    call: Call = request.scope["zhihui.call"]
    return call
