"""Marks within a passage: what it shares with its query, and where a near negative differs from the positive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

_SHORTEST = 2  # characters; one alone (的, 是) is in every passage
_SHORTEST_LATIN = 3
_MISSING = 24  # characters of a stretch that is missing
_WORD = re.compile(r"\w")
_LATIN = re.compile(r"[a-z0-9]+")
_COMPARED = 2000  # characters of a passage that are looked at; more would take seconds and nobody reads it


class Run(NamedTuple):
    """A stretch of text with one set of marks."""

    text: str
    kind: str
    """Classes of the page: "shared" with the query, "differs" from the positive, both or none; "missing" is text of the
    positive that is not there."""


def shared(text: str, query: str) -> list[bool]:
    """Return for each character of a text whether it is in a stretch that the query has too.

    Stretches of two characters count, of three within Latin words; punctuation and letter case do not matter.
    """
    low, asked = _low(text), _low(query)
    flags = [False] * len(text)
    start = 0
    while start < min(len(low), _COMPARED):
        length = 0
        while start + length < len(low) and _WORD.match(low[start + length]):
            if low[start : start + length + 1] not in asked:
                break
            length += 1
        found = low[start : start + length]
        if length >= (_SHORTEST_LATIN if _LATIN.fullmatch(found) else _SHORTEST):
            flags[start : start + length] = [True] * length
            start += length
        else:
            start += 1
    return flags


def overlap(text: str, query: str) -> float:
    """Return the share of a query's character pairs that a text has; 0 for a query of one character."""
    pairs = _pairs(query)
    return len(pairs & _pairs(text)) / len(pairs) if pairs else 0.0


def nearness(text: str, other: str) -> float:
    """Return how much two texts have in common: the Dice coefficient of their character pairs."""
    first, second = _pairs(text), _pairs(other)
    return 2 * len(first & second) / (len(first) + len(second)) if first and second else 0.0


def differing(text: str, other: str) -> tuple[list[bool], dict[int, str]]:
    """Return for each character of a text whether the other text does not have it there, and what is missing where."""
    flags = [False] * len(text)
    missing = {}
    matcher = SequenceMatcher(None, other[:_COMPARED], text[:_COMPARED], autojunk=False)
    for kind, left, right, start, end in matcher.get_opcodes():
        if kind == "delete":
            missing[start] = other[left:right]
        elif kind != "equal":
            flags[start:end] = [True] * (end - start)
    return flags, missing


def runs(text: str, *, missing: Mapping[int, str] | None = None, **marks: Sequence[bool]) -> list[Run]:
    """Return a text in stretches of equal marks.

    Args:
        text: what is marked.
        missing: text that is not there, by the place before which it would stand.
        marks: by class: a flag for each character.
    """
    found: list[tuple[list[str], str]] = []
    absent = missing or {}
    for place in range(len(text) + 1):
        if place in absent:
            found.append(([_excerpt(absent[place])], "missing"))
        if place == len(text):
            break
        character = text[place]
        kind = " ".join(name for name, flags in marks.items() if flags[place])
        if found and found[-1][1] == kind:
            found[-1][0].append(character)
        else:
            found.append(([character], kind))
    return [Run("".join(characters), kind) for characters, kind in found]


def _excerpt(text: str) -> str:
    return text if len(text) <= _MISSING else f"{text[: _MISSING - 1]}…"


def _low(text: str) -> str:
    """Lower-case character by character, so that places stay."""
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def _pairs(text: str) -> set[str]:
    bare = "".join(_WORD.findall(_low(text)))
    return {bare[place : place + 2] for place in range(len(bare) - 1)}
