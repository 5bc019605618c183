"""What a teacher thinks of passages as answers: the grades that label distillation wrote into examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zhihui.mining.pool import Pool, normalized
from zhihui.records import Example

GIVEN = "given"
"""The miner named for negatives that an example already had."""


class Grades:
    """The highest grade that a passage of the pool got as an answer to a query or an equal one."""

    def __init__(self, examples: Iterable[Example], pool: Pool) -> None:
        """Collect the grades of the examples' negatives."""
        self._by_query: dict[str, dict[int, float]] = {}
        for example in examples:
            for text, grade in zip(example.neg, grades_of(example), strict=True):
                if grade is not None:
                    known = self._by_query.setdefault(normalized(example.query), {})
                    for passage in pool.find(text):
                        known[passage] = max(grade, known.get(passage, grade))

    def of(self, query: str) -> dict[int, float]:
        """Return the graded passages of a query."""
        return self._by_query.get(normalized(query), {})


def grades_of(example: Example) -> list[float | None]:
    """Return the grade of each negative: its `neg_scores`, else what an earlier mining moved into its origin."""
    if example.neg_scores is not None:
        return list(example.neg_scores)
    grades = (origin.get("grade") for origin in origins(example))
    return [float(grade) if isinstance(grade, int | float) else None for grade in grades]


def origins(example: Example) -> list[dict[str, Any]]:
    """Return the origin of the negatives an example came with: as an earlier mining noted it, or "given"."""
    noted = example.meta.get("negatives")
    if isinstance(noted, list) and len(noted) == len(example.neg) and all(isinstance(origin, dict) for origin in noted):
        return list(noted)
    return [{"miner": GIVEN, "rank": None, "score": None} for _ in example.neg]
