"""Query rewriting: from positives and negatives, queries that tell them apart (point 3 of the method).

The writer sees what answers and what does not, and writes queries that only the former answers. A second call, the
judge's, grades every passage for the new query; one passage on the wrong side and the query is not accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.synthesis.checks import QueryChecks, fault_of
from zhihui.synthesis.grading import BEST, Graded, Grader, GradingConfig, Item
from zhihui.synthesis.label import labelled
from zhihui.synthesis.near import near_duplicates
from zhihui.synthesis.prompts import Prompt
from zhihui.synthesis.texts import Material, cleaned
from zhihui.synthesis.tools import Cleaning, Made, Tools, check_least, id_of, stable_id
from zhihui.teacher.asking import Ask


class Rewritten(BaseModel):
    """What the writer answers."""

    difference: str = Field(description="正例能回答而负例不能回答的关键区别，一句话")
    queries: list[str] = Field(description="改写后的查询，每条独立成文")


REWRITE = Prompt(
    name="rewrite",
    schema=Rewritten,
    sample={
        "query": Material("押金", "原查询"),
        "positives": [Material("押金应当退还。", "正例 1")],
        "negatives": [Material("定金不退。", "负例 1")],
        "count": 2,
    },
    needed=frozenset({"query", "positives", "negatives", "count"}),
)


@dataclass(frozen=True, kw_only=True)
class RewriteConfig:
    """What is rewritten and what is accepted.

    Raises:
        InputError: a value out of bounds.
    """

    method: ClassVar[str] = "rewrite"
    queries: int = 1
    """Wanted for each example."""
    positives: int = 3
    """Positives that the writer sees, the first; the judge sees all."""
    negatives: int = 5
    """Negatives that the writer sees, the first; the judge sees all."""
    passage_characters: int = 1200
    """Characters of a passage that are shown."""
    checks: QueryChecks = field(default_factory=QueryChecks)
    most_characters: int = 80
    """Characters of a query at most."""
    positive_at: float = 3.0
    """Least grade of every positive, 0 to 4."""
    negative_below: float = 2.0
    """Every negative's grade is below this."""
    group: int = 8
    """Passages the judge sees in one call."""
    orders: int = 2
    """In how many orders the judge sees them; every second one is the reverse of the one before."""
    duplicate_at: float = 0.8
    """Jaccard similarity of character pairs from which a query repeats the original or another one of it."""
    seed: int = 0
    """Of the judge's orders."""

    def __post_init__(self) -> None:
        check_least(1, queries=self.queries, positives=self.positives, negatives=self.negatives)
        check_least(10, most_characters=self.most_characters)
        if not 0 < self.negative_below <= self.positive_at <= BEST:
            bounds = f"negative_below {self.negative_below:g}, positive_at {self.positive_at:g}"
            raise InputError(f"{bounds}: give grades from 0 to {BEST}, negative_below not above positive_at")
        if not 0 < self.duplicate_at <= 1:
            raise InputError(f"duplicate_at is {self.duplicate_at}; give a similarity above 0 and up to 1")
        self.grading()

    def grading(self) -> GradingConfig:
        """Return how the judge grades."""
        return GradingConfig(
            group=self.group, orders=self.orders, passage_characters=self.passage_characters, seed=self.seed
        )


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    example: Example
    number: int
    query: str
    meta: dict[str, Any]


def rewrite(examples: Sequence[Example], config: RewriteConfig, tools: Tools) -> Made:
    """Rewrite the queries of examples; every wanted query ends as an example of its own or in the log."""
    rewriting = _Rewriting(examples, config, tools)
    written = rewriting.write()
    grader = Grader(tools.teacher, tools.book, config.grading())
    items = (
        Item(id=id_of(one.example), query=one.query, passages=[*one.example.pos, *one.example.neg]) for one in written
    )
    accepted = []
    for one, graded in zip(written, grader.grade(items, label="judge queries"), strict=True):
        if (fault := _fault(one, graded, config)) is not None:
            rewriting.reject(one.example, one.number, *fault, query=one.query)
        else:
            accepted.append(_example(one, graded))
    counts = {
        "examples": len(examples),
        "wanted": len(examples) * config.queries,
        "written": len(written),
        "accepted": len(accepted),
        "unasked": rewriting.unasked,
        "judge": grader.counts(),
        **rewriting.cleaning.counts,
    }
    return Made(examples=accepted, counts=counts)


class _Rewriting:
    def __init__(self, examples: Sequence[Example], config: RewriteConfig, tools: Tools) -> None:
        self._examples, self._config, self._tools = examples, config, tools
        self.cleaning = Cleaning(config.passage_characters)
        self.unasked = 0

    def write(self) -> list[_Candidate]:
        usable = []
        for example in self._examples:
            if example.neg:
                usable.append(example)
                continue
            for number in range(1, self._config.queries + 1):
                self.reject(example, number, "no_negative", "nothing to tell the positives from; mine negatives first")
        outcomes = self._tools.teacher.ask(map(self._ask, usable), label="rewrite queries", total=len(usable))
        written = []
        for example, outcome in zip(usable, outcomes, strict=True):
            queries = [] if outcome.value is None else [query.strip() for query in outcome.value.queries]
            self.unasked += max(0, len(queries) - self._config.queries)
            matches = near_duplicates([example.query, *queries[: self._config.queries]], self._config.duplicate_at)
            for number in range(1, self._config.queries + 1):
                query = queries[number - 1] if number <= len(queries) else ""
                if outcome.value is None:
                    self.reject(example, number, outcome.failure or "unreachable", outcome.detail)
                elif number > len(queries):
                    self.reject(example, number, "not_written", "the writer left it out")
                elif fault := self._fault(query, example):
                    self.reject(example, number, *fault, query=query)
                elif matches[number] is not None:
                    self.reject(example, number, "near_duplicate", "nearly the same as another one", query=query)
                else:
                    meta = {
                        "teacher": outcome.teacher,
                        "template": outcome.ask.template,
                        "original": example.query,
                        "difference": outcome.value.difference.strip(),
                    }
                    written.append(_Candidate(example=example, number=number, query=query, meta=meta))
        return written

    def reject(self, example: Example, number: int, reason: str, detail: str, *, query: str = "") -> None:
        row = {"example": id_of(example), "original": example.query, "number": number}
        row |= {"query": query} if query else {}
        self._tools.rejects.add(row, reason, f"example {id_of(example)}", detail=detail)

    def _ask(self, example: Example) -> Ask[Rewritten]:
        def shown(passages: Sequence[str], name: str) -> list[Material]:
            return [Material(self.cleaning(text), f"{name} {number}") for number, text in enumerate(passages, 1)]

        return self._tools.book.ask(
            REWRITE,
            id_of(example),
            query=Material(cleaned(example.query), "原查询"),
            positives=shown(example.pos[: self._config.positives], "正例"),
            negatives=shown(example.neg[: self._config.negatives], "负例"),
            count=self._config.queries,
        )

    def _fault(self, query: str, example: Example) -> tuple[str, str] | None:
        if len(query) > self._config.most_characters:
            return "query_too_long", f"{len(query)} characters; the bound is {self._config.most_characters}"
        faults = (fault_of(query, self._config.checks, passage=passage) for passage in example.pos)
        return next((fault for fault in faults if fault is not None), None)


def _fault(one: _Candidate, graded: Graded, config: RewriteConfig) -> tuple[str, str] | None:
    if graded.failure is not None:
        return graded.failure, graded.detail
    count = len(one.example.pos)
    for place, grade in enumerate(graded.grades):
        if place < count and grade.mean < config.positive_at:
            return "positive_fails", f"positive {place + 1} is graded {grade.mean:g}: {grade.reasons[0]}"
        if place >= count and grade.mean >= config.negative_below:
            return "negative_answers", f"negative {place - count + 1} is graded {grade.mean:g}: {grade.reasons[0]}"
    return None


def _example(one: _Candidate, graded: Graded) -> Example:
    new = replace(
        one.example,
        query=one.query,
        id=f"{id_of(one.example)}-{stable_id(one.query)}",
        pos_scores=None,
        neg_scores=None,
    )
    found = labelled(new, graded)
    found.meta = {**found.meta, "method": "rewrite", **one.meta}
    return found
