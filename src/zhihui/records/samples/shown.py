"""What the page shows of an example and of a rejected row, as plain data: the template only lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zhihui.records.example import Example
from zhihui.records.samples.marks import Run, differing, nearness, overlap, runs, shared

NEAR = 0.6
"""Nearness to a positive from which on a negative is shown with what tells it apart."""
_LONGEST = 4000  # characters of a passage that are put on the page
_MOST_NEGATIVES = 12


@dataclass(frozen=True, kw_only=True)
class ShownPassage:
    """A positive or a negative with its marks and what is known of it."""

    runs: list[Run]
    cut: int
    """Characters left out at the end."""
    role: str
    """ "pos" or "neg"."""
    miner: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    """Rank, score, grade and the like."""
    reason: str = ""
    """Of a teacher."""
    near: float | None = None
    """Nearness to the positive it is nearest to; None if it is not near one."""


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """An example as a card."""

    query: list[Run]
    passages: list[ShownPassage]
    more: int
    """Negatives that are not shown."""
    facts: list[tuple[str, str]]
    miners: list[str]


@dataclass(frozen=True, kw_only=True)
class ShownReject:
    """A row that was set aside."""

    reason: str
    where: str
    detail: str
    texts: list[tuple[str, str]]
    """Key and text."""


def show(example: Example) -> ShownExample:
    """Return an example's card."""
    positives = [_passage(example, "pos", place, None) for place in range(len(example.pos))]
    count = min(len(example.neg), _MOST_NEGATIVES)
    negatives = [_passage(example, "neg", place, _nearest(example, place)) for place in range(count)]
    answered = [False] * len(example.query)
    for text in example.pos:
        answered = [a or b for a, b in zip(answered, shared(example.query, text), strict=True)]
    facts = [
        (name, value)
        for name, value in (("id", example.id), ("source", example.source), ("type", example.type))
        if value
    ]
    facts += [(name, _readable(value)) for name, value in example.meta.items() if _is_simple(value)]
    return ShownExample(
        query=runs(example.query, shared=answered),
        passages=positives + negatives,
        more=len(example.neg) - count,
        facts=facts,
        miners=sorted({passage.miner for passage in negatives if passage.miner}),
    )


def mined(example: Example) -> list[Mapping[str, Any]]:
    """Return miner, rank and score of each negative; empty where they are not known for all."""
    found = example.meta.get("negatives")
    known = isinstance(found, list) and len(found) == len(example.neg) and all(isinstance(one, dict) for one in found)
    return found if known else []  # type: ignore[return-value]


def show_reject(entry: Mapping[str, Any]) -> ShownReject:
    """Return the card of a row of rejected.jsonl."""
    row = entry.get("row", entry.get("text", ""))
    texts: list[tuple[str, str]] = []
    if isinstance(row, Mapping):
        for key, value in row.items():
            if isinstance(value, str) and value:
                texts.append((str(key), value[:_LONGEST]))
            elif isinstance(value, list):
                texts += [
                    (f"{key} {place}", one[:_LONGEST]) for place, one in enumerate(value, 1) if isinstance(one, str)
                ]
    elif row:
        texts.append(("line", str(row)[:_LONGEST]))
    return ShownReject(
        reason=str(entry.get("reason", "")),
        where=str(entry.get("where", "")),
        detail=str(entry.get("detail", "")),
        texts=texts[:_MOST_NEGATIVES],
    )


def _passage(example: Example, role: str, place: int, nearest: str | None) -> ShownPassage:
    texts: Sequence[str] = getattr(example, role)
    scores: Sequence[float] | None = getattr(example, f"{role}_scores")
    text = texts[place][:_LONGEST]
    marks = {"shared": shared(text, example.query)}
    missing: dict[int, str] = {}
    if nearest is not None:
        marks["differs"], missing = differing(text, nearest)
    facts = [("query overlap", f"{overlap(texts[place], example.query):.0%}")]
    miner = ""
    if role == "neg" and (origins := mined(example)):
        origin = origins[place]
        miner = str(origin.get("miner") or "")
        facts = [(name, _readable(origin[name])) for name in ("rank", "score") if origin.get(name) is not None] + facts
    if scores is not None:
        facts.insert(0, ("grade", _readable(scores[place])))
    return ShownPassage(
        runs=runs(text, missing=missing, **marks),
        cut=len(texts[place]) - len(text),
        role=role,
        miner=miner,
        facts=facts,
        reason=_reason(example, role, place),
        near=None if nearest is None else nearness(texts[place], nearest),
    )


def _nearest(example: Example, place: int) -> str | None:
    near, text = max(((nearness(example.neg[place], text), text) for text in example.pos), key=lambda pair: pair[0])
    return text if near >= NEAR else None


def _reason(example: Example, role: str, place: int) -> str:
    """Return a teacher's reason for its grade, as label distillation keeps it."""
    grades = example.meta.get("grades")
    notes = grades.get(role) if isinstance(grades, dict) else None
    if not isinstance(notes, list) or place >= len(notes) or not isinstance(notes[place], dict):
        return ""
    return str(notes[place].get("reason") or "")


def _is_simple(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != ""


def _readable(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
