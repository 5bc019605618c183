"""Choosing negatives: a draw from each rank window, without positives, doubles and likely positives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.mining.candidates import Rankings, query_of, rank
from zhihui.mining.config import Miner, MiningConfig
from zhihui.mining.pool import KnownPositives, Pool
from zhihui.progress import track
from zhihui.ranking.topk import NONE
from zhihui.records import Example, Passage, RejectLog

GIVEN = "given"
"""The miner named for negatives that an example already had."""

_OTHER_COUNTS = ("given", "given_equal_to_a_positive", "grades_moved_to_meta", "examples_without_any")


@dataclass(frozen=True, kw_only=True)
class Mined:
    """Examples with their negatives, and what happened on the way."""

    examples: list[Example]
    """In the order given; `meta["negatives"]` has miner, rank and score for each negative of `neg`."""
    counts: dict[str, Any]
    """Negatives by miner, shortfalls by miner, what the filters held back, ..."""


class _Candidate(NamedTuple):
    passage: int
    rank: int | None
    score: float | None


def mine(
    examples: Sequence[Example],
    passages: Mapping[str, Passage],
    config: MiningConfig,
    *,
    encoder: TextEncoder | None = None,
    judged: Iterable[Example] = (),
    rejects: RejectLog | None = None,
    folder: Path | None = None,
) -> Mined:
    """Add negatives to the examples; those they have stay, in front.

    A passage is never a negative of a query if it is a positive of that query or of an equal one, has the
    normalised text of such a positive, or is the query itself. Ranks are those of the whole list, positives
    included. What an example gets depends on the seed, its id and text, and the passages, not on its place.

    Args:
        examples: left unchanged.
        passages: the corpus by id; `meta["pos_ids"]` of an example refers to it.
        config: the miners, filters and seed.
        encoder: needed by dense miners.
        judged: further examples whose positives count, such as those of other splits.
        rejects: told of every candidate that margin or ratio held back.
        folder: where vectors are kept for a run that is killed and goes on; the caller removes it.

    Raises:
        InputError: no examples, no passages, or a dense miner without an encoder.
    """
    if not examples:
        raise InputError("no examples to mine for; give at least one")
    if not passages:
        raise InputError("no passages to mine from; give a corpus with at least one")
    pool = Pool(passages)
    known = KnownPositives([*examples, *judged], pool)
    rankings = rank(examples, pool, config, encoder=encoder, folder=folder)
    drawer = _Drawer(pool, known, rankings, config, rejects)
    mined = [
        drawer.fill(number, example)
        for number, example in enumerate(track(examples, total=len(examples), label="choose negatives"))
    ]
    return Mined(examples=mined, counts=drawer.report(len(examples)))


class _Drawer:
    """Draws the negatives of one example after another and counts."""

    def __init__(
        self,
        pool: Pool,
        known: KnownPositives,
        rankings: Rankings,
        config: MiningConfig,
        rejects: RejectLog | None,
    ) -> None:
        self._pool, self._known, self._rankings = pool, known, rankings
        self._config, self._rejects = config, rejects
        self._mined: Counter[str] = Counter()
        self._short: Counter[str] = Counter()
        self._positives: Counter[str] = Counter()
        self._filtered: Counter[str] = Counter()
        self._other: Counter[str] = Counter()

    def fill(self, number: int, example: Example) -> Example:
        """Return the example with its negatives; `number` is its place among the examples."""
        positives = self._known.of(example.query)
        given: set[int] = set().union(*(self._pool.find(text) for text in example.neg))
        self._other["given"] += len(example.neg)
        self._other["given_equal_to_a_positive"] += len(given & positives)
        taken = positives | given
        texts: list[str] = []
        origin: list[dict[str, Any]] = []
        for miner in self._config.miners:
            drawn = self._draw(miner, number, example, positives, taken)
            taken |= {candidate.passage for candidate in drawn}
            self._mined[str(miner)] += len(drawn)
            self._short[str(miner)] += miner.count - len(drawn)
            for passage, place, score in drawn:
                texts.append(self._pool.texts[passage])
                shown = None if score is None else round(score, 6)
                origin.append({"miner": miner.method, "rank": place, "score": shown})
        self._other["examples_without_any"] += not (texts or example.neg)
        # Grades go with all negatives or none; mined ones have none, so given ones move to their origin.
        ungraded = bool(texts) and example.neg_scores is not None
        self._other["grades_moved_to_meta"] += ungraded
        return replace(
            example,
            pos=list(example.pos),
            neg=[*example.neg, *texts],
            neg_scores=None if ungraded else example.neg_scores,
            meta={**example.meta, "negatives": [*_given_origin(example, graded=ungraded), *origin]},
        )

    def report(self, examples: int) -> dict[str, Any]:
        """Return the counts, zeros included, so that a shortfall of none can be read."""
        specs = [str(miner) for miner in self._config.miners]
        ranked = [str(miner) for miner in self._config.miners if miner.method != "random"]
        return {
            "examples": examples,
            "passages": len(self._pool),
            "passages_merged": self._pool.merged,
            "mined": {spec: self._mined[spec] for spec in specs},
            "shortfall": {spec: self._short[spec] for spec in specs},
            "positives_in_window": {spec: self._positives[spec] for spec in ranked},
            "filtered": {name: self._filtered[name] for name in ("margin", "ratio")},
            **{name: self._other[name] for name in _OTHER_COUNTS},
        }

    def _draw(
        self, miner: Miner, number: int, example: Example, positives: set[int], taken: set[int]
    ) -> list[_Candidate]:
        # A string seeds by its SHA-512, the same on every machine; hash() would not be.
        draw = random.Random(f"{self._config.seed}\0{miner}\0{example.id or ''}\0{example.query}")
        if miner.method == "random":
            tries = draw.sample(range(len(self._pool)), min(len(self._pool), miner.count + len(taken)))
            free = [_Candidate(passage, None, None) for passage in tries if passage not in taken]
            return free[: miner.count]
        window = []
        for candidate in self._window(miner, example):
            if candidate.passage in positives:
                self._positives[str(miner)] += 1
            elif candidate.passage not in taken and self._passes(miner, candidate, number, example):
                window.append(candidate)
        chosen = draw.sample(range(len(window)), min(miner.count, len(window)))
        return [window[place] for place in sorted(chosen)]

    def _window(self, miner: Miner, example: Example) -> Iterator[_Candidate]:
        assert miner.first is not None, "only random miners have no window"
        ranking = self._rankings.by_method[miner.method]
        row = self._rankings.rows[query_of(example)]
        window = slice(miner.first - 1, miner.last)
        places = zip(ranking.indices[row, window].tolist(), ranking.scores[row, window].tolist(), strict=True)
        for place, (passage, score) in enumerate(places, start=miner.first):
            if passage != NONE:
                yield _Candidate(passage, place, score)

    def _passes(self, miner: Miner, candidate: _Candidate, number: int, example: Example) -> bool:
        """Apply the positive-aware filters (de Souza P. Moreira et al. 2024, NV-Retriever)."""
        if miner.method != "dense" or self._rankings.positive_scores is None:
            return True
        assert candidate.score is not None, "a dense candidate has a score"
        positive = self._rankings.positive_scores[number]
        for name, limit in self._limits(positive):
            if candidate.score >= limit:
                self._filtered[name] += 1
                if self._rejects is not None:
                    row = {
                        "query": example.query,
                        "passage": self._pool.texts[candidate.passage],
                        "miner": str(miner),
                        "rank": candidate.rank,
                        "score": round(candidate.score, 6),
                    }
                    detail = f"score {candidate.score:.4f} is not below {limit:.4f}; best positive {positive:.4f}"
                    self._rejects.add(row, name, f"example {example.id or example.query}", detail=detail)
                return False
        return True

    def _limits(self, positive: float) -> Iterator[tuple[str, float]]:
        if self._config.margin is not None:
            yield "margin", positive - self._config.margin
        if self._config.ratio is not None:
            # Equal to ratio * positive, but stays below a positive that scores less than 0.
            yield "ratio", positive - (1 - self._config.ratio) * abs(positive)


def _given_origin(example: Example, *, graded: bool) -> list[dict[str, Any]]:
    """Return the origin of the negatives an example came with: as an earlier mining noted it, or "given"."""
    noted = example.meta.get("negatives")
    if not (
        isinstance(noted, list) and len(noted) == len(example.neg) and all(isinstance(origin, dict) for origin in noted)
    ):
        noted = [{"miner": GIVEN, "rank": None, "score": None} for _ in example.neg]
    if graded and example.neg_scores is not None:
        return [{**origin, "grade": grade} for origin, grade in zip(noted, example.neg_scores, strict=True)]
    return list(noted)
