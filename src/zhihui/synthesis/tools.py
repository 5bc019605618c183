"""What every method works with, and what it makes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.records import Example, RejectLog
from zhihui.synthesis.prompts import Book
from zhihui.synthesis.texts import cleaned, cut
from zhihui.teacher.asking import Teacher


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a method works with."""

    teacher: Teacher
    book: Book
    rejects: RejectLog
    """Told of every input that gave nothing, and of every text that was not accepted."""
    encoder: TextEncoder | None = None
    """For a round trip by meaning."""


@dataclass(frozen=True, kw_only=True)
class SourcePassage:
    """A passage of the user's corpus."""

    id: str
    text: str
    """Title and text."""
    where: str
    """"file:line"."""
    source: str
    """The data set it comes from."""


@dataclass(kw_only=True)
class Made:
    """What a method made."""

    examples: list[Example] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    """Without reasons of rejection, which the log counts."""


class Cleaning:
    """Prepares texts for prompts and counts what that changed."""

    def __init__(self, characters: int) -> None:
        """Cut texts to so many characters."""
        self._characters = characters
        self.counts = {"texts_cut": 0, "texts_cleaned": 0}

    def __call__(self, text: str) -> str:
        """Return a text as a prompt shows it; empty if nothing of it can be seen."""
        clean = cleaned(text)
        short = cut(clean, self._characters)
        self.counts["texts_cleaned"] += clean != text.strip()
        self.counts["texts_cut"] += len(short) < len(clean)
        return short


def stable_id(*parts: str) -> str:
    """Return twelve hexadecimal digits that depend on the texts alone."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def id_of(example: Example) -> str:
    """Return an example's id, or one made of its query and positives."""
    return example.id or stable_id(example.query, *example.pos)


def check_least(least: int, **values: int) -> None:
    """Check that settings are not below a bound.

    Raises:
        InputError: one is; it is named.
    """
    for name, value in values.items():
        if value < least:
            raise InputError(f"{name} is {value}; give at least {least}")
