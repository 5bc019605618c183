"""Queries: what is told of one before it is searched with."""

from __future__ import annotations

from typing import Any, NamedTuple

from zhihui.errors import InputError


class Overlong(NamedTuple):
    """A query of which the model reads the beginning only."""

    tokens: int
    """Of the query with its prompt and the special tokens."""
    read: int
    """What the model's length leaves."""


def overlong(encoder: Any, query: str, *, instruction: str | None = None) -> Overlong | None:
    """Return how much of a query is cut off; None for one that is read whole, or if the encoder has no tokenizer."""
    tokenizer, settings = getattr(encoder, "tokenizer", None), getattr(encoder, "settings", None)
    if tokenizer is None or settings is None:
        return None
    # The tokenizer warns of texts longer than the model's length; that is what is asked here.
    tokens = len(tokenizer(settings.prompt("query", instruction) + query, truncation=False, verbose=False)["input_ids"])
    return Overlong(tokens, settings.max_length) if tokens > settings.max_length else None


def checked_query(query: str) -> str:
    """Return a query without the white space around it.

    Raises:
        InputError: nothing is left.
    """
    query = query.strip()
    if not query:
        raise InputError("the query is blank; write some words")
    return query
