"""What a report shows of the data engine, as plain data: the template only lays it out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage that asks the teacher, in numbers."""

    name: str
    does: str
    wanted: int
    accepted: int
    answers: int
    """Of the teacher."""
    rejected: dict[str, int]
    """By reason."""


@dataclass(frozen=True, kw_only=True)
class WrittenQuery:
    """A query that was written for a passage."""

    text: str
    wanted: str
    """Who asks, in which form, how hard."""
    verdict: str
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A passage with its grade."""

    text: str
    was: str
    """pos or neg."""
    to: str
    """pos, neg or removed."""
    why: str
    grade: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class JudgedExample:
    """A query with its graded passages."""

    query: str
    passages: list[Judged]
    original: str = ""
    """Rewriting: the query before."""
    difference: str = ""
    """Rewriting: what the positives have and the negatives lack."""
    task: str = ""
    """Triplets: the task."""
    kept: bool = True
    """Whether the example was accepted."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A topic of a document with its queries."""

    title: str
    colour: str
    """Class of its spans."""
    queries: list[str]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document in pieces, those that support a topic coloured."""

    title: str
    pieces: list[tuple[str, str]]
    """Class ("" for what no topic names) and text."""
    coverage: float
    topics: list[Topic]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """All that is shown."""

    steps: list[Step]
    passages: list[tuple[str, list[WrittenQuery]]]
    """Text, and the queries written for it."""
    triplets: list[JudgedExample]
    refined: list[JudgedExample]
    rewritten: list[JudgedExample]
    documents: list[Document]
    examples: int
    """In the end, repetitions and contaminated ones taken out."""
    protected: int
    """Texts of evaluation splits that were kept clear of."""
    contaminated: int
    """Examples that went for that."""
