"""Example: a query, the passages that answer it and those that do not; the record every stage passes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zhihui.records.rejects import BadRow

_TEXTS = ("prompt", "type", "id", "source")
_LISTS = ("pos", "neg", "pos_scores", "neg_scores")
KEYS = ("query", *_LISTS, *_TEXTS, "meta")
"""The keys of a row that have a meaning here; all others are kept in `Example.extra`."""


@dataclass(kw_only=True, slots=True)
class Example:
    """A training or evaluation example.

    Raises:
        InputError: the query or a passage is blank or not a string, there is no positive, or scores do not
            match their passages in number or are not finite.
    """

    query: str
    pos: list[str]
    """Passages that answer the query, at least one."""
    neg: list[str] = field(default_factory=list)
    """Passages that do not."""
    pos_scores: list[float] | None = None
    """A grade for each positive; None when not graded."""
    neg_scores: list[float] | None = None
    prompt: str | None = None
    """Instruction put before the query; None leaves it to the model or the run, "" means none."""
    type: str | None = None
    id: str | None = None
    source: str | None = None
    """The data set the example comes from; batches are drawn within one source."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Provenance: teacher, template version, miner, rank, score, ..."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys of the row that mean nothing to zhihui, kept as they were."""

    def __post_init__(self) -> None:
        self.pos_scores = self.pos_scores or None
        self.neg_scores = self.neg_scores or None
        _check_text(self.query, "query")
        _check_passages(self.pos, "pos")
        _check_passages(self.neg, "neg")
        if not self.pos:
            raise BadRow("", "no_positive", "pos is empty; give at least one passage that answers the query")
        self.pos_scores = _checked_scores(self.pos_scores, "pos_scores", len(self.pos))
        self.neg_scores = _checked_scores(self.neg_scores, "neg_scores", len(self.neg))
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise BadRow("", "wrong_type", f"{name} is {_kind(value)}; write a string")
        for name in ("meta", "extra"):
            if not isinstance(getattr(self, name), dict):
                raise BadRow("", "wrong_type", f"{name} is {_kind(getattr(self, name))}; write an object")
        if taken := self.extra.keys() & set(KEYS):
            raise BadRow("", "wrong_type", f"extra holds {min(taken)!r}, which is a key of its own")

    @classmethod
    def from_row(cls, row: Mapping[str, Any], *, where: str) -> Example:
        """Build an example from a JSON object; null stands for an absent key, an integer is fine as an id.

        Args:
            row: keys as in the fields; unknown ones are kept in `extra`.
            where: "file:line", for the message.

        Raises:
            InputError: "file:line: reason; mend".
        """
        if "query" not in row or "pos" not in row:
            missing = "query" if "query" not in row else "pos"
            found = ", ".join(sorted(map(str, row))) or "none"
            reason = f'no key {missing!r} (keys: {found}); a row is {{"query": ..., "pos": [...], "neg": [...]}}'
            raise BadRow(where, "missing_key", reason)
        known = {key: row[key] for key in KEYS if row.get(key) is not None}
        known.setdefault("query", None)
        known.setdefault("pos", None)
        if isinstance(known.get("id"), int) and not isinstance(known["id"], bool):
            known["id"] = str(known["id"])
        try:
            return cls(**known, extra={key: value for key, value in row.items() if key not in KEYS})
        except BadRow as error:
            raise BadRow(where, error.code, error.reason) from None

    def to_row(self) -> dict[str, Any]:
        """Return the example as a JSON object without absent keys, unknown keys put back."""
        row: dict[str, Any] = {}
        for key in KEYS:
            value = getattr(self, key)
            if value is not None and value != [] and value != {}:
                row[key] = value
        return {**row, **self.extra}


def _check_text(text: Any, name: str) -> None:
    if not isinstance(text, str):
        raise BadRow("", "wrong_type", f"{name} is {_kind(text)}; write a string")
    if not text or text.isspace():
        raise BadRow("", "blank_text", f"{name} is blank; fill it or remove it")


def _check_passages(passages: Any, name: str) -> None:
    if not isinstance(passages, list):
        raise BadRow("", "wrong_type", f"{name} is {_kind(passages)}; write a list of strings")
    for number, passage in enumerate(passages):
        _check_text(passage, f"{name}[{number}]")


def _checked_scores(scores: Any, name: str, passages: int) -> list[float] | None:
    if scores is None:
        return None
    if not isinstance(scores, list):
        raise BadRow("", "wrong_type", f"{name} is {_kind(scores)}; write a list of numbers")
    if len(scores) != passages:
        reason = f"{name} has {len(scores)} scores for {passages} passages; give one for each, or leave it out"
        raise BadRow("", "score_count", reason)
    for number, score in enumerate(scores):
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not _is_finite(score):
            raise BadRow("", "bad_score", f"{name}[{number}] is {score!r}; write a finite number")
    return [float(score) for score in scores]


def _is_finite(score: float) -> bool:
    try:
        return math.isfinite(score)
    except OverflowError:  # an integer no float can hold
        return False


def _kind(value: Any) -> str:
    names = {type(None): "null", list: "a list", dict: "an object", bool: "true or false", str: "a string"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)
