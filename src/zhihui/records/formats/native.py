"""The format of zhihui itself, with FlagEmbedding's keys: query, pos, neg, prompt, ... and any others."""

from __future__ import annotations

from zhihui.records.example import Example
from zhihui.records.files import read_examples, write_examples
from zhihui.records.formats.base import Format


def lost(example: Example) -> list[str]:
    """Return nothing: the native format holds every field."""
    return []


FORMAT = Format(name="native", keys=frozenset({"query", "pos"}), read=read_examples, write=write_examples, lost=lost)
