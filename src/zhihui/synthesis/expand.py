"""Query expansion: a long document is split into topics, and each topic gets its own queries (point 4 of the method).

A topic names the spans of the document that support it. A span that does not occur there, white space aside, was made
up; a topic without a span is not accepted. How much of the document the accepted spans cover is reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.synthesis.checks import QueryChecks, fault_of
from zhihui.synthesis.near import near_duplicates
from zhihui.synthesis.prompts import Prompt
from zhihui.synthesis.texts import Material, cleaned, windows
from zhihui.synthesis.tools import Made, SourcePassage, Tools, check_least, stable_id
from zhihui.teacher.asking import Ask, Outcome

_WORD = re.compile(r"\S")


class Topic(BaseModel):
    """One topic."""

    title: str = Field(description="主题，不超过 20 字")
    spans: list[str] = Field(description="支撑该主题的原文片段，逐字照抄，每段不超过 200 字")
    queries: list[str] = Field(description="只凭这些片段就能回答的查询")


class TopicsWritten(BaseModel):
    """What the writer answers."""

    topics: list[Topic] = Field(description="材料谈到的各个主题，互不重复，按出现的先后排列")


EXPAND = Prompt(
    name="expand",
    schema=TopicsWritten,
    sample={"document": Material("押金应当退还。", "材料"), "topics": 5, "queries": 2},
    needed=frozenset({"document", "topics", "queries"}),
)


@dataclass(frozen=True, kw_only=True)
class ExpandConfig:
    """How documents are split and what is accepted.

    Raises:
        InputError: a value out of bounds.
    """

    method: ClassVar[str] = "expand"
    topics: int = 6
    """Topics of a window, at most."""
    queries: int = 2
    """Queries of a topic, at most."""
    window_characters: int = 6000
    """Characters that the writer reads at once; a longer document is read in several windows."""
    span_least: int = 15
    """Characters of a span, at least."""
    positive: Literal["spans", "document"] = "spans"
    """What answers a topic's queries: its spans, one a line, or the whole document."""
    checks: QueryChecks = field(default_factory=QueryChecks)
    most_characters: int = 60
    """Characters of a query at most."""
    duplicate_at: float = 0.8
    """Jaccard similarity of character pairs from which a query repeats an earlier one."""

    def __post_init__(self) -> None:
        check_least(1, topics=self.topics, queries=self.queries, span_least=self.span_least)
        check_least(100, window_characters=self.window_characters)
        check_least(10, most_characters=self.most_characters)
        if self.positive not in ("spans", "document"):
            raise InputError(f"positive is {self.positive!r}; use spans or document")
        if not 0 < self.duplicate_at <= 1:
            raise InputError(f"duplicate_at is {self.duplicate_at}; give a similarity above 0 and up to 1")


@dataclass(frozen=True)
class _Window:
    document: int
    start: int
    """Place in the document as it is shown, that is, cleaned."""
    text: str


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    document: int
    topic: str
    spans: list[tuple[int, int]]
    query: str
    meta: dict[str, Any]


def expand(documents: Sequence[SourcePassage], config: ExpandConfig, tools: Tools) -> Made:
    """Write queries for the topics of documents.

    A document that gives none is in the log, and so is every topic, span and query that is not accepted.
    """
    expanding = _Expanding(documents, config, tools)
    accepted = expanding.distinct(expanding.write())
    examples = [expanding.example(one) for one in accepted]
    used = {one.document for one in accepted}
    for number, document in enumerate(documents):
        if number not in used and number not in expanding.told:
            row = {"document": document.id}
            tools.rejects.add(row, "no_topic", document.where, detail="no topic with a query was accepted")
    return Made(examples=examples, counts=expanding.counts(accepted))


class _Expanding:
    def __init__(self, documents: Sequence[SourcePassage], config: ExpandConfig, tools: Tools) -> None:
        self._documents, self._config, self._tools = documents, config, tools
        self._texts = [cleaned(document.text) for document in documents]
        self._windows = [
            _Window(number, start, text)
            for number, whole in enumerate(self._texts)
            for start, text in windows(whole, config.window_characters)
        ]
        self._topics = self._surplus = 0
        self.told: set[int] = set()
        """Documents of which the log has all that there is to say."""

    def write(self) -> list[_Candidate]:
        for number, text in enumerate(self._texts):
            if not text:
                document = self._documents[number]
                detail = "nothing of the document can be seen"
                self._tools.rejects.add({"document": document.id}, "blank_text", document.where, detail=detail)
                self.told.add(number)

        def ask(window: _Window) -> Ask[TopicsWritten]:
            return self._tools.book.ask(
                EXPAND,
                self._documents[window.document].id,
                document=Material(window.text, "材料"),
                topics=self._config.topics,
                queries=self._config.queries,
            )

        total = len(self._windows)
        outcomes = self._tools.teacher.ask(map(ask, self._windows), label="expand documents", total=total)
        found = []
        for window, outcome in zip(self._windows, outcomes, strict=True):
            if outcome.value is None:
                row = {"window": [window.start, window.start + len(window.text)]}
                self._reject(window.document, row, outcome.failure or "unreachable", outcome.detail)
                self.told.add(window.document)
                continue
            self._surplus += max(0, len(outcome.value.topics) - self._config.topics)
            for topic in outcome.value.topics[: self._config.topics]:
                self._topics += 1
                found += self._candidates(window, topic, outcome)
        return found

    def distinct(self, written: Sequence[_Candidate]) -> list[_Candidate]:
        found = []
        matches = near_duplicates([one.query for one in written], self._config.duplicate_at)
        for one, match in zip(written, matches, strict=True):
            if match is None:
                found.append(one)
            else:
                detail = f"nearly the same as {written[match].query!r}"
                row = {"topic": one.topic, "query": one.query}
                self._reject(one.document, row, "near_duplicate", detail)
        return found

    def example(self, one: _Candidate) -> Example:
        document = self._documents[one.document]
        whole = self._config.positive == "document"
        meta: dict[str, Any] = {"method": "expand", "document": document.id, **one.meta}
        if whole:
            meta["pos_ids"] = [document.id]
        return Example(
            query=one.query,
            pos=[document.text if whole else self._joined(one.document, one.spans)],
            id=f"{document.id}-{stable_id(one.topic, one.query)}",
            source=document.source,
            meta=meta,
        )

    def counts(self, accepted: Sequence[_Candidate]) -> dict[str, Any]:
        spans: dict[int, list[tuple[int, int]]] = {}
        for one in accepted:
            spans.setdefault(one.document, []).extend(one.spans)
        covered = {number: _covered(found) for number, found in spans.items()}
        shares = [covered.get(number, 0) / len(text) for number, text in enumerate(self._texts) if text]
        return {
            "documents": len(self._documents),
            "documents_used": len(spans),
            "windows": len(self._windows),
            "topics": self._topics,
            "topics_used": len({(one.document, one.topic) for one in accepted}),
            "accepted": len(accepted),
            "unasked": self._surplus,
            "coverage": round(sum(shares) / len(shares), 4) if shares else 0.0,
        }

    def _candidates(self, window: _Window, topic: Topic, outcome: Outcome[TopicsWritten]) -> list[_Candidate]:
        config, number, title = self._config, window.document, topic.title.strip()
        spans = []
        for span in topic.spans:
            place = find_span(window.text, span)
            if place is None:
                self._reject(number, {"topic": title, "span": span}, "span_not_found", "not in the document")
            elif place[1] - place[0] < config.span_least:
                detail = f"{place[1] - place[0]} characters; at least {config.span_least}"
                self._reject(number, {"topic": title, "span": span}, "span_too_short", detail)
            else:
                spans.append((window.start + place[0], window.start + place[1]))
        spans = sorted(set(spans))
        if not spans:
            self._reject(number, {"topic": title}, "no_span", "the topic has no span that is in the document")
            return []
        shown = self._joined(number, spans)
        found = []
        self._surplus += max(0, len(topic.queries) - config.queries)
        for query in map(str.strip, topic.queries[: config.queries]):
            row = {"topic": title, "query": query}
            if len(query) > config.most_characters:
                detail = f"{len(query)} characters; the bound is {config.most_characters}"
                self._reject(number, row, "query_too_long", detail)
            elif fault := fault_of(query, config.checks, passage=shown):
                self._reject(number, row, *fault)
            else:
                meta = {
                    "teacher": outcome.teacher,
                    "template": outcome.ask.template,
                    "topic": title,
                    "spans": [list(span) for span in spans],
                }
                found.append(_Candidate(document=number, topic=title, spans=spans, query=query, meta=meta))
        return found

    def _joined(self, number: int, spans: Sequence[tuple[int, int]]) -> str:
        return "\n".join(self._texts[number][start:end] for start, end in spans)

    def _reject(self, number: int, row: dict[str, Any], reason: str, detail: str) -> None:
        document = self._documents[number]
        self._tools.rejects.add({"document": document.id, **row}, reason, document.where, detail=detail)


def find_span(text: str, span: str) -> tuple[int, int] | None:
    """Return where a span begins and ends in a text, white space aside, or None."""
    wanted = "".join(span.split())
    if not wanted:
        return None
    places = [match.start() for match in _WORD.finditer(text)]
    start = "".join(text.split()).find(wanted)
    return None if start < 0 else (places[start], places[start + len(wanted) - 1] + 1)


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Return how many characters are in at least one span."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
