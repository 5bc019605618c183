"""The systems of the published C-MTEB retrieval table and its leaders since, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from zhihui.config import did_you_mean, from_mapping, read_yaml
from zhihui.errors import InputError

Weights = Literal["open", "api", "none"]


@dataclass(frozen=True, kw_only=True)
class System:
    """A published retrieval system: how it is loaded and what it scored."""

    key: str
    """Its name on the command line."""
    name: str
    """Its name in tables."""
    hub: str
    """Organisation and name on the hub."""
    licence: str | None
    """Of the weights; None where none is stated."""
    weights: Weights
    """open: on the hub; api: only behind a service; none: never published."""
    source: str
    """Where the scores were published."""
    average: float
    """Published mean of the scores, in percent."""
    scores: dict[str, float] = field(default_factory=dict)
    """Task -> published nDCG@10, in percent."""
    query: str | None = None
    """Text before a query, {task} being the task in words; None as the model's folder says."""
    passage: str | None = None
    """Text before a passage; None as the model's folder says."""
    pooling: Literal["lasttoken", "mean", "cls"] | None = None
    """None as the model's folder says."""
    attention: Literal["bidirectional", "causal"] | None = None
    """Of a decoder; None as its config says."""
    append_eos: bool = False
    """Whether every text ends with EOS, also where only the tokenizer's own code would put it there."""
    max_length: int = 512
    """Tokens a text is cut to."""
    dimension: int | None = None
    """Numbers in a vector; None where not stated."""
    custom_code: bool = False
    """Whether it runs only with code from its repository."""

    @property
    def template(self) -> str | None:
        """Text before a query for a task in words; None when it is not told the task."""
        return self.query if self.query is not None and "{task}" in self.query else None


@cache
def systems() -> dict[str, System]:
    """Return all systems by key, in the order of the tables."""
    path = Path(__file__).with_name("registry.yaml")
    return {key: from_mapping(System, {"key": key, **given}, where=path.name) for key, given in read_yaml(path).items()}


def find_system(key: str) -> System:
    """Return a system.

    Raises:
        InputError: an unknown system; the nearest is named.
    """
    known = systems()
    if key not in known:
        raise InputError(f"system {key!r} is unknown; {did_you_mean(key, known)}")
    return known[key]


def check_runnable(system: System, *, trust_remote_code: bool) -> None:
    """See that a system can be run here at all.

    Raises:
        InputError: it has no weights to be had, or runs only with its own code and that is not allowed.
    """
    scored = f"its published average is {system.average:.2f} (zhihui eval --published shows each task)"
    if system.weights == "none":
        raise InputError(f"{system.name}: its weights were never published, so it cannot be run; {scored}")
    if system.weights == "api":
        raise InputError(f"{system.name}: it is behind a paid service and has no open weights; {scored}")
    if system.custom_code and not trust_remote_code:
        raise InputError(f"{system.name}: runs only with the code of {system.hub}; allow it by --trust-remote-code")
