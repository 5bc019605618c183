"""Grading: a judge says how well passages answer a query, each passage seen at two mirrored places.

A judge favours places in a list (Zheng et al. 2023, arXiv:2306.05685). So a group of passages is shown in a drawn order
and again in the reverse of it: every passage has the same mean place, and the mean of its grades is free of what a
place adds in proportion. How much the grades moved is reported.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, Field

from zhihui.synthesis.prompts import Book, Prompt
from zhihui.synthesis.texts import Material, cleaned
from zhihui.synthesis.tools import Cleaning, check_least
from zhihui.teacher.asking import Ask, Outcome, Teacher

BEST = 4
"""The highest grade; the lowest is 0."""


class GradeGiven(BaseModel):
    """One grade."""

    number: int = Field(description="材料的编号")
    reason: str = Field(description="评分理由，一句话，不超过 40 字")
    grade: Literal[0, 1, 2, 3, 4] = Field(description="相关度等级，0 到 4 的整数")


class GradesGiven(BaseModel):
    """What the judge answers."""

    grades: list[GradeGiven] = Field(description="每份材料一项，按编号排列，不遗漏、不重复")


GRADE = Prompt(
    name="grade",
    schema=GradesGiven,
    sample={"query": Material("退押金", "查询"), "passages": [Material("押金应当退还。", "材料 1")]},
    needed=frozenset({"query", "passages"}),
)


@dataclass(frozen=True, kw_only=True)
class GradingConfig:
    """How passages are graded.

    Raises:
        InputError: a number out of bounds.
    """

    group: int = 8
    """Passages shown in one call."""
    orders: int = 2
    """In how many orders each group is shown; every second one is the reverse of the one before."""
    passage_characters: int = 1200
    """Characters of a passage that are shown."""
    seed: int = 0
    """Of the orders."""

    def __post_init__(self) -> None:
        check_least(1, group=self.group, orders=self.orders)
        check_least(50, passage_characters=self.passage_characters)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A query whose passages are graded."""

    id: str
    query: str
    passages: Sequence[str]
    """At least one."""


@dataclass(kw_only=True)
class Grade:
    """A passage's grades."""

    given: list[int] = field(default_factory=list)
    """One for each order."""
    reasons: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The grade that counts, 0 to 4."""
        return round(fmean(self.given), 4)

    @property
    def spread(self) -> int:
        """By how much the orders disagree."""
        return max(self.given) - min(self.given)

    def noted(self) -> dict[str, Any]:
        """Return what is kept of it in `meta`."""
        return {"given": self.given, "reason": self.reasons[0]}


@dataclass(frozen=True, kw_only=True)
class Graded:
    """An item with the grades of its passages, or the reason why they are not all there."""

    item: Item
    grades: list[Grade]
    """As `item.passages`; empty when there is a failure."""
    failure: str | None
    detail: str
    teachers: list[str]
    template: str


class Grader:
    """Asks for grades and counts."""

    def __init__(self, teacher: Teacher, book: Book, config: GradingConfig) -> None:
        self._teacher, self._book, self._config = teacher, book, config
        self._cleaning = Cleaning(config.passage_characters)
        self._passages = self._disagreements = 0
        self._earlier: list[int] = []

    def grade(self, items: Iterable[Item], *, label: str) -> Iterator[Graded]:
        """Yield the items with their grades, in their order."""
        waiting: deque[_Waiting] = deque()

        def asks() -> Iterator[Ask[GradesGiven]]:
            for item in items:
                orders = self._orders(item)
                waiting.append(_Waiting(item, orders))
                shown = [self._cleaning(passage) for passage in item.passages]
                for order in orders:
                    yield self._ask(item, [shown[passage] for passage in order])

        for outcome in self._teacher.ask(asks(), label=label):
            waiting[0].take(outcome)
            if waiting[0].complete:
                yield self._counted(waiting.popleft())

    def counts(self) -> dict[str, Any]:
        """Return what was graded, how often two orders were more than one grade apart, and what an earlier place adds.

        `earlier_place_adds` is the mean of a passage's grade where it stood earlier less that where it stood later.
        """
        return {
            "graded": self._passages,
            "disagreements": self._disagreements,
            "earlier_place_adds": round(fmean(self._earlier), 4) if self._earlier else 0.0,
            **self._cleaning.counts,
        }

    def _orders(self, item: Item) -> list[list[int]]:
        """Return the orders in which passages are shown, all orders of a group one after the other."""
        assert item.passages, "an item to grade has a passage"
        draw = random.Random(f"{self._config.seed}\0{item.id}\0{item.query}")
        drawn = draw.sample(range(len(item.passages)), len(item.passages))
        found = []
        for start in range(0, len(drawn), self._config.group):
            group = drawn[start : start + self._config.group]
            for number in range(self._config.orders if len(group) > 1 else 1):
                # The reverse balances places exactly, which a second draw does only by luck.
                group = group[::-1] if number % 2 else (draw.sample(group, len(group)) if number else group)
                found.append(group)
        return found

    def _ask(self, item: Item, shown: Sequence[str]) -> Ask[GradesGiven]:
        passages = [Material(text, f"材料 {number}") for number, text in enumerate(shown, start=1)]
        return self._book.ask(GRADE, item.id, query=Material(cleaned(item.query), "查询"), passages=passages)

    def _counted(self, waiting: _Waiting) -> Graded:
        graded = waiting.graded()
        self._passages += len(graded.grades)
        self._disagreements += sum(grade.spread > 1 for grade in graded.grades)
        self._earlier += waiting.earlier_adds if graded.grades else []
        return graded


class _Waiting:
    """An item whose answers are coming in."""

    def __init__(self, item: Item, orders: list[list[int]]) -> None:
        self._item, self._orders = item, orders
        self._grades = [Grade() for _ in item.passages]
        self._places: list[list[int]] = [[] for _ in item.passages]
        self._failure: tuple[str, str] | None = None
        self._teachers: dict[str, None] = {}
        self._template = ""
        self._taken = 0

    @property
    def complete(self) -> bool:
        return self._taken == len(self._orders)

    @property
    def earlier_adds(self) -> list[int]:
        """Grade at the earlier place less grade at the later one, of each passage that stood at two."""
        found = []
        for grade, places in zip(self._grades, self._places, strict=True):
            if len(places) > 1 and places[0] != places[1]:
                first, second = grade.given[:2]
                found.append(first - second if places[0] < places[1] else second - first)
        return found

    def take(self, outcome: Outcome[GradesGiven]) -> None:
        order = self._orders[self._taken]
        self._taken += 1
        self._template = outcome.ask.template
        if outcome.teacher is not None:
            self._teachers[outcome.teacher] = None
        if outcome.value is None:
            self._failure = self._failure or (outcome.failure or "ungraded", outcome.detail)
            return
        by_number: dict[int, GradeGiven] = {}
        for given in outcome.value.grades:
            by_number.setdefault(given.number, given)
        for place, passage in enumerate(order):
            answer = by_number.get(place + 1)
            if answer is None:
                self._failure = self._failure or ("ungraded", f"the judge left out passage {place + 1} of {len(order)}")
                continue
            self._grades[passage].given.append(int(answer.grade))
            self._grades[passage].reasons.append(answer.reason.strip())
            self._places[passage].append(place)

    def graded(self) -> Graded:
        failure, detail = self._failure or (None, "")
        return Graded(
            item=self._item,
            grades=[] if failure else self._grades,
            failure=failure,
            detail=detail,
            teachers=list(self._teachers),
            template=self._template,
        )
