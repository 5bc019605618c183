"""Reranking: a cross-encoder behind the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.ranking.reranker import CrossEncoder, load_reranker
from zhihui.serving.models import split_alias

_MAX_LENGTH = 512
_PROMPT = 80
"""Tokens that a pair's prompt may take, in the estimate."""


@dataclass(frozen=True)
class ServedReranker:
    """A cross-encoder with a copy on each device."""

    name: str
    copies: tuple[CrossEncoder, ...]

    def costs(self, query: str, passages: Sequence[str]) -> list[int]:
        """Return about how many tokens each pair has: a character seldom makes more than one."""
        return [min(_MAX_LENGTH, len(query) + len(passage) + _PROMPT) for passage in passages]

    def compute(self, units: Sequence[Any], worker: int, *, exact: bool = False) -> NDArray[np.float32]:
        """Return score and tokens of each (query, passage, instruction) `[N, 2]`.

        A score that is not finite is computed again as it was: a cross-encoder's weights are not widened.
        """
        model = self.copies[worker]
        found = np.empty((len(units), 2), dtype=np.float32)
        for instruction in dict.fromkeys(each[2] for each in units):
            rows = [row for row, each in enumerate(units) if each[2] == instruction]
            queries, passages = ([units[row][part] for row in rows] for part in (0, 1))
            found[rows, 0] = model.score(queries, passages, instruction=instruction)
            found[rows, 1] = [len(each["input_ids"]) for each in model.token_rows(queries, passages, instruction)]
        return found


def load_served_reranker(given: str, devices: Sequence[str]) -> ServedReranker:
    """Load a cross-encoder onto each device.

    Args:
        given: NAME=MODEL, or the folder or hub id alone.
        devices: cpu, cuda, cuda:1, ...

    Raises:
        InputError: as `load_reranker` has it.
    """
    name, source = split_alias(given)
    copies = tuple(load_reranker(source, device=device, max_length=_MAX_LENGTH) for device in devices)
    return ServedReranker(name or copies[0].name, copies)
