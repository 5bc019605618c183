"""Which candidates are no negatives: too near to the positive by a model's score, graded well, or the same text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from zhihui.mining.candidates import Rankings, query_of
from zhihui.mining.config import Miner, MiningConfig
from zhihui.mining.grades import Grades, grades_of, origins
from zhihui.mining.pool import Pool
from zhihui.ranking.shingles import bare, reaches, remembering, shingles
from zhihui.records import Example, RejectLog

FILTERS = ("margin", "ratio", "cross_margin", "cross_ratio", "grade", "near_duplicate")
"""In the order of the counts."""


class Candidate(NamedTuple):
    """A passage that may become a negative."""

    passage: int
    """Its number in the pool."""
    rank: int | None
    """From 1; None if it was drawn at random."""
    score: float | None


class Filters:
    """Holds candidates back, counts them by filter, and tells the log why."""

    def __init__(
        self,
        pool: Pool,
        rankings: Rankings,
        grades: Grades,
        config: MiningConfig,
        rejects: RejectLog | None,
    ) -> None:
        self._pool, self._rankings, self._grades = pool, rankings, grades
        self._config, self._rejects = config, rejects
        self._shingles = remembering(pool.texts.__getitem__)
        # The candidates of one example ask for the same row, one after the other.
        self._cross_scores = lru_cache(maxsize=1)(rankings.cross_scores)
        self._counts: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        """Return how many candidates each filter held back."""
        return {name: self._counts[name] for name in FILTERS}

    def without_graded(self, example: Example) -> Example:
        """Return an example without the given negatives that a teacher graded as answers."""
        limit = self._config.max_grade
        if limit is None:
            return example
        grades, origin, kept = grades_of(example), origins(example), []
        for place, (text, grade) in enumerate(zip(example.neg, grades, strict=True)):
            if grade is None or grade < limit:
                kept.append(place)
            else:
                row = {"query": example.query, "passage": text, "grade": grade, **origin[place]}
                self._hold_back("grade", example, row, f"grade {grade:g} is not below {limit:g}")
        if len(kept) == len(example.neg):
            return example
        scores = example.neg_scores
        noted = {"negatives": [origin[place] for place in kept]} if "negatives" in example.meta else {}
        return replace(
            example,
            neg=[example.neg[place] for place in kept],
            neg_scores=None if scores is None else [scores[place] for place in kept],
            meta={**example.meta, **noted},
        )

    def passes(self, miner: Miner, candidate: Candidate, number: int, example: Example) -> bool:
        """Tell whether a candidate may be drawn.

        Scores are compared with the best positive's (de Souza P. Moreira et al. 2024, NV-Retriever).

        Args:
            miner: that found it.
            candidate: what it found.
            number: place of the example among the examples.
            example: that needs negatives.
        """
        for name, score, positive, limit in self._limits(miner, candidate, number, example):
            if score >= limit:
                detail = f"score {score:.4f} is not below {limit:.4f}; best positive {positive:.4f}"
                self._hold_back(name, example, self._row(miner, candidate, example), detail)
                return False
        too_good = self._config.max_grade
        if too_good is not None:
            grade = self._grades.of(example.query).get(candidate.passage)
            if grade is not None and grade >= too_good:
                row = {**self._row(miner, candidate, example), "grade": grade}
                self._hold_back("grade", example, row, f"grade {grade:g} is not below {too_good:g}")
                return False
        return True

    def _limits(
        self, miner: Miner, candidate: Candidate, number: int, example: Example
    ) -> Iterator[tuple[str, float, float, float]]:
        """Yield filter, score, the best positive's score, and the score that must not be reached."""
        config, found = self._config, self._rankings.positive_scores
        if miner.method == "dense" and "dense" in found:
            assert candidate.score is not None, "a dense candidate has a score"
            yield from _bounds("", candidate.score, found["dense"][number], config.margin, config.ratio)
        if miner.method != "random" and "cross" in found:
            score = self._cross_scores(self._rankings.rows[query_of(example)])[candidate.passage]
            yield from _bounds("cross_", score, found["cross"][number], config.cross_margin, config.cross_ratio)

    def _row(self, miner: Miner, candidate: Candidate, example: Example) -> dict[str, Any]:
        return {
            "query": example.query,
            "passage": self._pool.texts[candidate.passage],
            "miner": str(miner),
            "rank": candidate.rank,
            "score": None if candidate.score is None else round(candidate.score, 6),
        }

    def _hold_back(self, name: str, example: Example, row: dict[str, Any], detail: str) -> None:
        self._counts[name] += 1
        if self._rejects is not None:
            self._rejects.add(row, name, f"example {example.id or example.query}", detail=detail)

    # ----------------------------------------------------------------------- near-duplicates

    def known_texts(self, example: Example, positives: Iterable[int]) -> list[frozenset[str]]:
        """Return what the first negative of an example must not be a near-duplicate of; `is_near` adds to it."""
        if self._config.near_duplicates is None:
            return []
        written = [shingles(bare(text)) for text in (*example.pos, *example.neg)]
        return [*written, *map(self._shingles, sorted(positives))]

    def is_near(self, miner: Miner, candidate: Candidate, example: Example, known: list[frozenset[str]]) -> bool:
        """Tell whether a passage is a near-duplicate of a known text; else it becomes known."""
        threshold = self._config.near_duplicates
        if threshold is None:
            return False
        own = self._shingles(candidate.passage)
        if any(reaches(own, other, threshold) for other in known):
            detail = "a near-duplicate of a positive or of another negative"
            self._hold_back("near_duplicate", example, self._row(miner, candidate, example), detail)
            return True
        known.append(own)
        return False


def _bounds(
    prefix: str, score: float, positive: float, margin: float | None, ratio: float | None
) -> Iterator[tuple[str, float, float, float]]:
    if margin is not None:
        yield f"{prefix}margin", score, positive, positive - margin
    if ratio is not None:
        # Equal to ratio * positive, but stays below a positive that scores less than 0.
        yield f"{prefix}ratio", score, positive, positive - (1 - ratio) * abs(positive)
