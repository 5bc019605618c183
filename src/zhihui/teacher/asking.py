"""What is asked of a teacher and what comes back: the contract between those who ask and the client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
Role = Literal["judge", "writer"]
"""What a teacher is asked to be: a strong one judges, a cheap one writes; a config says which is which."""
Failure = Literal[
    "refused", "content_filter", "cut_off", "not_json", "wrong_schema", "too_long", "unreachable", "not_recorded"
]
"""Why there is no answer: the teacher refused, its provider's filter stepped in, the answer was cut at its length
limit, was no JSON or not of the schema, the prompt does not fit the context, the endpoint failed to the last retry, or
a recording does not hold the request."""


@dataclass(frozen=True, kw_only=True)
class Ask(Generic[M]):
    """One question to a teacher."""

    id: str
    """Of the input it is about; comes back with the outcome."""
    role: Role
    system: str
    user: str
    schema: type[M]
    """What the answer must be."""
    template: str
    """Name and version of the template that made the text, as in query@1: for provenance."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[M]):
    """An answer, or the reason why there is none."""

    ask: Ask[M]
    value: M | None
    failure: Failure | None = None
    detail: str = ""
    """One line about a failure, without secrets."""
    teacher: str | None = None
    """Name of the model that answered, or failed last."""
    cached: bool = False
    """Whether it was answered before, and not paid again."""


class Teacher(Protocol):
    """Answers questions."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what decides the answers: models, parameters, endpoints; no secret."""
        ...

    def ask(self, asks: Iterable[Ask[M]], *, label: str, total: int | None = None) -> Iterator[Outcome[M]]:
        """Yield an outcome for each question, in the order of the questions; many are under way at once.

        Args:
            asks: taken as needed, a bounded number ahead; may itself be fed by another `ask`.
            label: of the progress bar.
            total: number of questions, where known.

        Raises:
            RunFailure: the budget is used up, or the endpoint refuses the key; what was answered is kept.
        """
        ...
