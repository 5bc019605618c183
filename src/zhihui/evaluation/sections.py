"""What a report shows, as plain data: the template only lays it out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.evaluation.bootstrap import Interval, mean_interval
from zhihui.evaluation.run import DEPTH, Evaluation, SystemResult
from zhihui.records import Passage

SHOWN_METRICS = {
    "ndcg_at_10": "nDCG@10",
    "mrr_at_10": "MRR@10",
    "recall_at_10": "Recall@10",
    "recall_at_100": "Recall@100",
    "map_at_100": "MAP@100",
}
MAIN = "ndcg_at_10"
SHOWN_PASSAGES = 5
_EXCERPT = 140  # characters of a relevant passage
_SHORT = 80  # and of one in a ranking, where columns are narrow


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table."""

    found: Interval
    best: bool
    """The highest mean of its column."""


@dataclass(frozen=True, kw_only=True)
class SystemRow:
    """One system in a table."""

    name: str
    cells: list[Cell]
    difference: Interval | None
    """nDCG@10 against the first system, query by query; None for the first."""
    verdict: str
    """ "better", "worse" or "unclear", by whether the interval of the difference keeps clear of 0."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ShownPassage:
    """A passage in a ranking."""

    title: str
    text: str
    grade: int
    """0 when not relevant or not judged."""
    rank: int | None = None
    """1-based; None for a relevant passage beyond the ranking."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What one system answered to one query."""

    system: str
    ndcg: float
    passages: list[ShownPassage]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A relevant passage and the rank each system gave it."""

    passage: ShownPassage
    ranks: list[tuple[str, int | None]]


@dataclass(frozen=True, kw_only=True)
class SampleQuery:
    """A query with what each system answered."""

    set_name: str
    text: str
    why: str
    answers: list[Answer]
    more_answers: int
    rankings: list[Ranking]


def system_rows(evaluations: Sequence[Evaluation], *, seed: int = 0) -> list[SystemRow]:
    """Return the table of systems, over one set or averaged over several, each set counting the same."""
    names = [result.name for result in evaluations[0].systems]
    means = {
        (name, metric): mean_interval(_scores(evaluations, place, metric), seed=seed)
        for place, name in enumerate(names)
        for metric in SHOWN_METRICS
    }
    best = {metric: max(means[name, metric].value for name in names) for metric in SHOWN_METRICS}
    rows = []
    for place, name in enumerate(names):
        gain = difference(evaluations, place, 0, seed=seed) if place else None
        rows.append(
            SystemRow(
                name=name,
                cells=[
                    Cell(
                        found=means[name, metric],
                        best=len(names) > 1 and means[name, metric].value == best[metric],
                    )
                    for metric in SHOWN_METRICS
                ],
                difference=gain,
                verdict="unclear" if gain is None else verdict(gain),
                seconds=sum(evaluation.systems[place].seconds for evaluation in evaluations),
            )
        )
    return rows


def difference(evaluations: Sequence[Evaluation], a: int, b: int, *, seed: int = 0) -> Interval:
    """Return the paired difference in nDCG@10 of system `a` over system `b`, by their places."""
    pairs = zip(_scores(evaluations, a, MAIN), _scores(evaluations, b, MAIN), strict=True)
    return mean_interval([first - second for first, second in pairs], seed=seed)


def verdict(gain: Interval) -> str:
    """Say which side of 0 an interval lies on."""
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "unclear"


def signed(value: float) -> str:
    """Write a difference with its sign, a true minus among them."""
    return f"{value:+.3f}".replace("-", "−")


def points(value: float) -> str:
    """Write a difference of scores in points of 100, with its sign, a true minus among them."""
    return f"{100 * value:+.2f}".replace("-", "−")


def headline(evaluations: Sequence[Evaluation], *, seed: int = 0) -> str:
    """Say in a sentence what was found."""
    rows = system_rows(evaluations, seed=seed)
    values = [row.cells[0].found for row in rows]
    order = sorted(range(len(rows)), key=lambda place: -values[place].value)
    winner = order[0]
    reached = f"{rows[winner].name} reaches nDCG@10 {values[winner].value:.3f}"
    range_ = f"(95% interval {values[winner].low:.3f} to {values[winner].high:.3f})"
    if len(rows) == 1:
        return f"{reached} {range_}."
    # Against the first system, the baseline; when that one wins, against the runner-up.
    other = 0 if winner else order[1]
    gain = difference(evaluations, winner, other, seed=seed)
    lead = f"{signed(gain.value)} over {rows[other].name} ({signed(gain.low)} to {signed(gain.high)}, query by query)"
    doubt = "" if verdict(gain) == "better" else "; so small a difference may be chance"
    return f"{reached} {range_}: {lead}{doubt}."


def sample_queries(evaluation: Evaluation, *, seed: int = 0, drawn: int = 3, worst: int = 3) -> list[SampleQuery]:
    """Return a seeded choice of queries, then the worst of the system with the best mean.

    Args:
        evaluation: what was found.
        seed: of the choice, which depends on the queries' ids and on nothing else.
        drawn: queries drawn.
        worst: queries with the lowest nDCG@10, perfect ones never.

    """
    places = sorted(
        range(len(evaluation.query_ids)),
        key=lambda place: hashlib.sha256(f"{seed}:{evaluation.query_ids[place]}".encode()).digest(),
    )
    leader = max(evaluation.systems, key=lambda result: result.intervals[MAIN].value)
    rest = [place for place in places[drawn:] if leader.scores[MAIN][place] < 1]
    low = sorted(rest, key=lambda place: float(leader.scores[MAIN][place]))[:worst]
    chosen = [(place, "drawn at random") for place in places[:drawn]]
    chosen += [(place, f"among the worst of {leader.name}") for place in low]
    return [sample_query(evaluation, place, why) for place, why in chosen]


def sample_query(evaluation: Evaluation, place: int, why: str) -> SampleQuery:
    """Return the query of a place with what each system answered."""
    query_id = evaluation.query_ids[place]
    grades = evaluation.data.judged(evaluation.split)[query_id]
    relevant = sorted((key for key, grade in grades.items() if grade >= 1), key=lambda key: -grades[key])
    return SampleQuery(
        set_name=evaluation.data.name,
        text=evaluation.data.queries[query_id],
        why=why,
        answers=[
            Answer(
                passage=_shown(evaluation.data.corpus[key], grades[key], None, _EXCERPT),
                ranks=[(result.name, result.found[place].ranks.get(key)) for result in evaluation.systems],
            )
            for key in relevant[:2]
        ],
        more_answers=max(0, len(relevant) - 2),
        rankings=[_ranking(evaluation, result, place, grades) for result in evaluation.systems],
    )


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as dotted names and readable values."""
    rows = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            rows.append((f"{prefix}{key}", ", ".join(map(str, value))))
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows


def _scores(evaluations: Sequence[Evaluation], place: int, metric: str) -> list[NDArray[np.float64]]:
    return [evaluation.systems[place].scores[metric] for evaluation in evaluations]


def _ranking(evaluation: Evaluation, result: SystemResult, place: int, grades: Mapping[str, int]) -> Ranking:
    return Ranking(
        system=result.name,
        ndcg=float(result.scores[MAIN][place]),
        passages=[
            _shown(evaluation.data.corpus[key], max(0, grades.get(key, 0)), rank, _SHORT)
            for rank, (key, _) in enumerate(result.found[place].top[:SHOWN_PASSAGES], start=1)
        ],
    )


def _shown(passage: Passage, grade: int, rank: int | None, length: int) -> ShownPassage:
    text = " ".join(passage.text.split())
    cut = text if len(text) <= length else f"{text[:length].rstrip()}…"
    return ShownPassage(title=" ".join(passage.title.split()), text=cut, grade=grade, rank=rank)


def depth_note() -> str:
    """Say what a missing rank means."""
    return f"not among the first {DEPTH:,}"
