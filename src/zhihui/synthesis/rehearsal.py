"""Rehearsal: a method is gone through without asking, to see what it would ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zhihui.records import RejectLog
from zhihui.synthesis.methods import Config, method_of, read_book
from zhihui.synthesis.query import QueryConfig
from zhihui.synthesis.rewrite import RewriteConfig
from zhihui.synthesis.tools import Tools
from zhihui.synthesis.triplet import TripletConfig
from zhihui.teacher.asking import Ask, M, Outcome

Known = Callable[[Ask[Any]], Outcome[Any] | None]
"""From a question to its outcome, where there is one already."""


class Rehearsal:
    """A teacher that answers what is already known, and keeps the other questions.

    A method asks in rounds, each with what the one before it gave. Once a round leaves questions open, what a later
    one would ask is not known, and is not kept.
    """

    fingerprint = "rehearsal"

    def __init__(self, known: Known) -> None:
        self._known = known
        self.rounds = 0
        """Rounds looked at; of these only the last may have open questions."""
        self.answered = 0
        self.open: list[Ask[Any]] = []
        """Questions without an outcome."""

    def ask(self, asks: Iterable[Ask[M]], *, label: str, total: int | None = None) -> Iterator[Outcome[M]]:
        """Yield what is known, and a failure for the rest."""
        beyond = bool(self.open)
        self.rounds += not beyond
        for one in asks:
            outcome = None if beyond else self._known(one)
            if outcome is not None:
                self.answered += 1
                yield outcome
                continue
            if not beyond:
                self.open.append(one)
            yield Outcome(ask=one, value=None, failure="not_recorded")


def rehearse(
    data: Path | None,
    config: Config,
    known: Known,
    *,
    templates: Path | None = None,
    split: str = "train",
    quarantine: bool = False,
) -> Rehearsal:
    """Go through a method, ask nothing and write nothing.

    Args:
        data: as in `synth_files`.
        config: of the method.
        known: returns the outcome of a question that was answered before, else None.
        templates: as in `synth_files`.
        split: as in `synth_files`.
        quarantine: pass over unusable rows in place of stopping at the first.

    Raises:
        InputError: unusable data or templates.
    """
    if isinstance(config, QueryConfig) and not config.judge:
        config = replace(config, retriever="none")  # comes after the last question, and may want a model
    rehearsal = Rehearsal(known)
    with RejectLog(None) as rejects:
        tools = Tools(teacher=rehearsal, book=read_book(templates), rejects=rejects)
        method_of(config).run(data, split, config, tools, rejects if quarantine else None)
    return rehearsal


def later(config: Config, rehearsal: Rehearsal) -> list[str]:
    """Return in words which calls follow once the open questions are answered; how many depends on the answers."""
    if not rehearsal.open:
        return []
    rounds: list[str] = []
    if isinstance(config, QueryConfig) and config.judge:
        rounds = [f"the judge: up to {config.queries:,} calls for each passage"]
    elif isinstance(config, RewriteConfig):
        rounds = [f"the judge: {config.orders} calls for each query and each {config.group} of its passages"]
    elif isinstance(config, TripletConfig):
        rounds = [f"the writer: {config.triplets:,} calls"]
        rounds += [f"the judge: up to {2 * config.triplets:,} calls"] if config.judge else []
    return rounds[rehearsal.rounds - 1 :]
