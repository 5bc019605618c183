"""Hit: a passage that was found, where it comes from, and why it stands where it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Mode = Literal["hybrid", "dense", "bm25"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "bm25")
Fusion = Literal["scores", "ranks"]
FUSIONS: tuple[Fusion, ...] = ("scores", "ranks")


class Score(NamedTuple):
    """What one retriever says of a passage."""

    value: float
    rank: int
    """Counted from 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A passage of the answer."""

    id: str
    source: str
    """The file it comes from, relative to the folder that was indexed."""
    title: str
    text: str
    start: int
    """First character of the text in its document, as it was cleaned."""
    end: int
    score: float
    """By which the hits are sorted: fused in the hybrid mode, else the only retriever's."""
    rank: int
    """Among the hits, counted from 1."""
    dense: Score | None = None
    """Inner product of the vectors; None where the dense ranking does not list the passage or was not asked."""
    bm25: Score | None = None
    """None where no word matches or BM25 was not asked."""
    fused: Score | None = None
    """Of the fusion; None in the other modes."""
    highlights: tuple[tuple[int, int], ...] = ()
    """Start and end, in `text`, of the words that the query has too, in whatever script, case or width."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else is known: `document`, `headings`, the keys of its row."""
