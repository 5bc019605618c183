"""What a passage's size is counted in: the tokens of a model, or characters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from zhihui.records.distribution import TokenCounter
from zhihui.records.hub import model_folder
from zhihui.runs import fingerprint_path

_FILE = "tokenizer.json"


class Lengths(Protocol):
    """Counts the length of texts."""

    @property
    def unit(self) -> str:
        """What is counted, in the plural."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever a length may."""

    def of(self, texts: Sequence[str]) -> list[int]:
        """Return the length of each text."""


class Characters:
    """Lengths in characters."""

    unit = "characters"
    fingerprint = "characters"

    def of(self, texts: Sequence[str]) -> list[int]:
        """Return the number of characters of each text."""
        return [len(text) for text in texts]


class Tokens:
    """Lengths in tokens of a model, special ones not counted.

    Args:
        model: folder with a tokenizer.json, or hub id of a model, of which that file alone is fetched.

    Raises:
        InputError: no such model, or it has no usable tokenizer.json.
    """

    unit = "tokens"

    def __init__(self, model: str | Path) -> None:
        folder = model_folder(model, files=[_FILE])
        self._counter = TokenCounter(folder)
        self.fingerprint = fingerprint_path(folder / _FILE)

    def of(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        return self._counter.lengths(list(texts))


def lengths_of(model: str | Path | None) -> Lengths:
    """Return how passages are measured: by a model's tokens if one is named, else by characters.

    Raises:
        InputError: no such model, or it has no usable tokenizer.json.
    """
    return Characters() if model is None else Tokens(model)
