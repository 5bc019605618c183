"""Query distillation: the writer reads a passage and writes queries it answers (point 1 of the method).

Accepted is a query that is Chinese, of the wanted length, not copied, that finds its own passage again (the round trip
of Promptagator, Dai et al. 2022, arXiv:2209.11755) or is graded answerable by the judge, and that is not nearly the
same as an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.synthesis.checks import QueryChecks, fault_of
from zhihui.synthesis.draws import Variety, Wanted
from zhihui.synthesis.grading import BEST, Grader, GradingConfig, Item
from zhihui.synthesis.near import near_duplicates
from zhihui.synthesis.prompts import Prompt
from zhihui.synthesis.roundtrip import Retriever, RoundTrip
from zhihui.synthesis.texts import Material
from zhihui.synthesis.tools import Cleaning, Made, SourcePassage, Tools, check_least, stable_id
from zhihui.teacher.asking import Ask


class QueryWritten(BaseModel):
    """One query."""

    number: int = Field(description="对应要求的编号")
    query: str = Field(description="写出的查询，不带引号和解释")


class QueriesWritten(BaseModel):
    """What the writer answers."""

    queries: list[QueryWritten] = Field(description="每条要求对应一条查询；材料回答不了的可以不写")


QUERY = Prompt(
    name="query",
    schema=QueriesWritten,
    sample={
        "passage": Material("押金应当退还。", "材料"),
        "wanted": [one.described() for one in Variety().draw(2, "sample")],
    },
    needed=frozenset({"passage", "wanted"}),
)


@dataclass(frozen=True, kw_only=True)
class QueryConfig:
    """What queries are written for passages and which are accepted.

    Raises:
        InputError: a value out of bounds.
    """

    method: ClassVar[str] = "query"
    queries: int = 3
    """Wanted for each passage."""
    variety: Variety = field(default_factory=Variety)
    checks: QueryChecks = field(default_factory=QueryChecks)
    passage_characters: int = 2000
    """Characters of a passage that the writer reads."""
    retriever: Retriever = "bm25"
    """What looks for the passage by the query: bm25, dense (needs a model), or none to take queries as they are."""
    top_k: int = 20
    """Best rank, at the latest, at which the passage must be found."""
    judge: bool = False
    """Whether the judge grades query and passage in place of the round trip."""
    judge_at: float = 3.0
    """Judge: least grade, 0 to 4."""
    duplicate_at: float = 0.8
    """Jaccard similarity of character pairs from which a query repeats an earlier one; 1 takes out equal ones alone."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        check_least(1, queries=self.queries, top_k=self.top_k)
        check_least(50, passage_characters=self.passage_characters)
        if not 0 < self.judge_at <= BEST:
            raise InputError(f"judge_at is {self.judge_at}; give a grade above 0 and up to {BEST}")
        if not 0 < self.duplicate_at <= 1:
            raise InputError(f"duplicate_at is {self.duplicate_at}; give a similarity above 0 and up to 1")
        if self.judge and self.retriever == "dense":
            raise InputError("judge takes the place of the round trip, for which retriever is dense; choose one")


@dataclass(kw_only=True)
class Candidate:
    """A query that was asked for, on its way to be accepted."""

    passage: int
    """Its place in the corpus."""
    wanted: Wanted
    query: str
    meta: dict[str, Any]


def distil_queries(passages: Sequence[SourcePassage], config: QueryConfig, tools: Tools) -> Made:
    """Write queries for passages; every wanted query ends as an example or in the log.

    Raises:
        InputError: a dense round trip without an encoder.
    """
    trip = None
    if not config.judge and config.retriever != "none":
        trip = RoundTrip(config.retriever, config.top_k, tools.encoder)
    writing = _Writing(passages, config, tools)
    written = writing.write()
    counts: dict[str, Any] = {
        "passages": len(passages),
        "wanted": len(passages) * config.queries,
        "written": len(written),
    }
    if config.judge:
        grader = Grader(tools.teacher, tools.book, GradingConfig(passage_characters=config.passage_characters))
        written = writing.judged(written, grader)
        counts["judge"] = grader.counts()
    elif trip is not None:
        written = writing.found_again(written, trip)
    written = writing.distinct(written)
    counts |= {"accepted": len(written), "unasked": writing.unasked, **writing.cleaning.counts}
    return Made(examples=[writing.example(one) for one in written], counts=counts)


class _Writing:
    """The steps from passages to accepted queries; each passes on what it accepts and logs the rest."""

    def __init__(self, passages: Sequence[SourcePassage], config: QueryConfig, tools: Tools) -> None:
        self._passages, self._config, self._tools = passages, config, tools
        self.cleaning = Cleaning(config.passage_characters)
        self.unasked = 0
        """Queries that answer no requirement; the log does not have them, since nothing was wanted."""

    def write(self) -> list[Candidate]:
        config = self._config
        plans = [config.variety.draw(config.queries, f"{config.seed}\0{each.id}") for each in self._passages]
        shown = [self.cleaning(passage.text) for passage in self._passages]
        asked = [place for place, text in enumerate(shown) if text]
        for place, text in enumerate(shown):
            if not text:
                for wanted in plans[place]:
                    self._reject(place, wanted, "", "blank_text", "nothing of the passage can be seen")

        def ask(place: int) -> Ask[QueriesWritten]:
            wanted = [one.described() for one in plans[place]]
            passage = Material(shown[place], "材料")
            return self._tools.book.ask(QUERY, self._passages[place].id, passage=passage, wanted=wanted)

        outcomes = self._tools.teacher.ask(map(ask, asked), label="write queries", total=len(asked))
        written = []
        for place, outcome in zip(asked, outcomes, strict=True):
            answers: dict[int, str] = {}
            for answer in () if outcome.value is None else outcome.value.queries:
                self.unasked += answer.number in answers or not 1 <= answer.number <= config.queries
                answers.setdefault(answer.number, answer.query.strip())
            for wanted in plans[place]:
                query = answers.get(wanted.number, "")
                if outcome.value is None:
                    self._reject(place, wanted, "", outcome.failure or "unreachable", outcome.detail)
                elif wanted.number not in answers:
                    self._reject(place, wanted, "", "not_written", "the writer left it out")
                elif fault := fault_of(query, config.checks, passage=shown[place], length=wanted.characters):
                    self._reject(place, wanted, query, *fault)
                else:
                    meta = {"teacher": outcome.teacher, "template": outcome.ask.template, **wanted.noted()}
                    written.append(Candidate(passage=place, wanted=wanted, query=query, meta=meta))
        return written

    def found_again(self, written: Sequence[Candidate], trip: RoundTrip) -> list[Candidate]:
        texts = [passage.text for passage in self._passages]
        ranks = trip.ranks(texts, [one.query for one in written], [one.passage for one in written])
        found = []
        for one, rank in zip(written, ranks, strict=True):
            if rank is None:
                self._refuse(one, "not_retrieved", f"the passage is not among the first {self._config.top_k}")
            else:
                one.meta["retrieved"] = {"by": self._config.retriever, "rank": rank}
                found.append(one)
        return found

    def judged(self, written: Sequence[Candidate], grader: Grader) -> list[Candidate]:
        items = (
            Item(id=self._passages[one.passage].id, query=one.query, passages=[self._passages[one.passage].text])
            for one in written
        )
        found = []
        for one, graded in zip(written, grader.grade(items, label="judge queries"), strict=True):
            if graded.failure is not None:
                self._refuse(one, graded.failure, graded.detail)
                continue
            (grade,) = graded.grades
            if grade.mean < self._config.judge_at:
                self._refuse(one, "not_answerable", f"graded {grade.mean:g}: {grade.reasons[0]}")
            else:
                one.meta["judge"] = {
                    "teacher": graded.teachers,
                    "template": graded.template,
                    "grade": grade.mean,
                    "reason": grade.reasons[0],
                }
                found.append(one)
        return found

    def distinct(self, written: Sequence[Candidate]) -> list[Candidate]:
        found = []
        matches = near_duplicates([one.query for one in written], self._config.duplicate_at)
        for one, match in zip(written, matches, strict=True):
            if match is None:
                found.append(one)
            else:
                self._refuse(one, "near_duplicate", f"nearly the same as {written[match].query!r}")
        return found

    def example(self, one: Candidate) -> Example:
        passage = self._passages[one.passage]
        judge = one.meta.get("judge")
        return Example(
            query=one.query,
            pos=[passage.text],
            pos_scores=None if judge is None else [judge["grade"]],
            id=f"{passage.id}-{stable_id(one.query)}",
            source=passage.source,
            meta={"method": "query", "pos_ids": [passage.id], **one.meta},
        )

    def _refuse(self, one: Candidate, reason: str, detail: str) -> None:
        self._reject(one.passage, one.wanted, one.query, reason, detail)

    def _reject(self, place: int, wanted: Wanted, query: str, reason: str, detail: str) -> None:
        passage = self._passages[place]
        row = {"passage": passage.id, "number": wanted.number, **wanted.noted()} | ({"query": query} if query else {})
        self._tools.rejects.add(row, reason, passage.where, detail=detail)
