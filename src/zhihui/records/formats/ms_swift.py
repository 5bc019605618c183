r"""ms-swift's embedding rows: messages, positive_messages, negative_messages; a row for each positive.

ms-swift asks for exactly one positive a row. Its template puts a system message and a space before the
user's, so the instruction travels as a system message "Instruct: ...\nQuery:" and the model sees the same
text as here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zhihui.records.example import Example
from zhihui.records.files import read_by
from zhihui.records.formats.base import Format, merge_positives, one_positive_each, unheld, with_rest
from zhihui.records.rejects import BadRow, RejectLog
from zhihui.records.rows import Row, write_rows

_KEYS = ("messages", "positive_messages", "negative_messages")
_SYSTEM = re.compile(r"Instruct: (.*)\nQuery:", re.DOTALL)


def read(path: Path, *, rejects: RejectLog | None = None) -> Iterator[Example]:
    """Yield examples; neighbouring rows with the same query and negatives become one with several positives.

    Raises:
        InputError: an unusable row, one with several turns included ("file:line: reason; mend").
    """
    return merge_positives(read_by(path, _parse, rejects=rejects))


def write(path: Path, examples: Iterable[Example]) -> int:
    """Write a row for each positive and return the number of rows."""
    return write_rows(path, (_row(example) for example in one_positive_each(examples)))


def lost(example: Example) -> list[str]:
    """Return the fields that have no place in a row; "no instruction" (an empty prompt) has none."""
    return unheld(example, fields=("prompt",) if example.prompt else ())


FORMAT = Format(name="ms-swift", keys=frozenset({"messages", "positive_messages"}), read=read, write=write, lost=lost)


def _row(example: Example) -> dict[str, Any]:
    messages = [{"role": "user", "content": example.query}]
    if example.prompt:
        messages.insert(0, {"role": "system", "content": f"Instruct: {example.prompt}\nQuery:"})
    row: dict[str, Any] = {
        "messages": messages,
        "positive_messages": [[{"role": "user", "content": text}] for text in example.pos],
    }
    if example.neg:
        row["negative_messages"] = [[{"role": "user", "content": text}] for text in example.neg]
    return row


def _parse(row: Row) -> Example:
    for key in _KEYS[:2]:
        if key not in row.data:
            reason = f"no key {key!r}; a row has messages, positive_messages and, if any, negative_messages"
            raise BadRow(row.where, "missing_key", reason)
    query, prompt = _turn(row.data["messages"], "messages")
    known: dict[str, Any] = {"query": query} if prompt is None else {"query": query, "prompt": prompt}
    for key, name in (("positive_messages", "pos"), ("negative_messages", "neg")):
        groups = row.data.get(key) or []
        if not isinstance(groups, list):
            raise BadRow(row.where, "wrong_type", f"{key} must be a list of lists of messages")
        known[name] = [_passage(group, f"{key}[{number}]") for number, group in enumerate(groups)]
    return with_rest(row, _KEYS, known)


def _passage(messages: Any, name: str) -> str:
    text, instruction = _turn(messages, name)
    if instruction is not None:
        raise BadRow("", "not_one_turn", f"{name} has a system message; passages carry no instruction here")
    return text


def _turn(messages: Any, name: str) -> tuple[str, str | None]:
    """Return the user's text and the instruction of a conversation of a single turn."""
    shape = f'{name} must be [{{"role": "user", "content": text}}], at most with one system message before'
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages
    ):
        raise BadRow("", "wrong_type", shape)
    roles = [message.get("role") for message in messages]
    if roles not in (["user"], ["system", "user"]):
        raise BadRow("", "not_one_turn", shape)
    if len(messages) == 1:
        return messages[0]["content"], None
    system = messages[0]["content"]
    match = _SYSTEM.fullmatch(system)
    return messages[1]["content"], match[1] if match else system
