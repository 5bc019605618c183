"""Choosing negatives: a draw from each rank window, without positives, doubles and likely positives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from zhihui.encoder.cache import BLOCK
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.mining.candidates import Rankings, Search, Sources, query_of, rank
from zhihui.mining.config import Miner, MiningConfig
from zhihui.mining.filters import Candidate, Filters
from zhihui.mining.grades import Grades, grades_of, origins
from zhihui.mining.pool import KnownPositives, Pool
from zhihui.progress import track
from zhihui.ranking.reranker import Reranker
from zhihui.ranking.topk import NONE
from zhihui.records import Example, Passage, RejectLog

_MORE_TRIES = 20
"""Random passages looked at for each one wanted when the first ones were filtered out."""
_OTHER_COUNTS = ("given", "given_equal_to_a_positive", "grades_moved_to_meta", "examples_without_any")


@dataclass(frozen=True, kw_only=True)
class Mined:
    """Examples with their negatives, and what happened on the way."""

    examples: list[Example]
    """In the order given; `meta["negatives"]` has miner, rank and score for each negative of `neg`."""
    counts: dict[str, Any]
    """Negatives by miner, shortfalls by miner, what the filters held back, ..."""


def mine(
    examples: Sequence[Example],
    passages: Mapping[str, Passage],
    config: MiningConfig,
    *,
    encoder: TextEncoder | None = None,
    reranker: Reranker | None = None,
    judged: Iterable[Example] = (),
    rejects: RejectLog | None = None,
    folder: Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
    search: Search | None = None,
    block: int = BLOCK,
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
        reranker: needed by cross miners and filters.
        judged: further examples whose positives and grades count, such as those of other splits.
        rejects: told of every candidate that a filter held back.
        folder: where a run that is killed finds what it had done; the caller removes it.
        cache: where vectors are kept for other runs too; None keeps them in `folder`.
        device: where vectors are compared; None takes a GPU if there is one.
        search: compares vectors in a way of its own, in place of `device`.
        block: texts that the encoder is given at once.

    Raises:
        InputError: no examples, no passages, or a miner or filter without its model.
    """
    if not examples:
        raise InputError("no examples to mine for; give at least one")
    if not passages:
        raise InputError("no passages to mine from; give a corpus with at least one")
    pool = Pool(passages)
    everything = [*examples, *judged]
    known = KnownPositives(everything, pool)
    sources = Sources(
        encoder=encoder, reranker=reranker, folder=folder, cache=cache, device=device, search=search, block=block
    )
    rankings = rank(examples, pool, config, sources)
    drawer = _Drawer(pool, known, rankings, config, Filters(pool, rankings, Grades(everything, pool), config, rejects))
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
        filters: Filters,
    ) -> None:
        self._pool, self._known, self._rankings = pool, known, rankings
        self._config, self._filters = config, filters
        self._mined: Counter[str] = Counter()
        self._short: Counter[str] = Counter()
        self._positives: Counter[str] = Counter()
        self._other: Counter[str] = Counter()

    def fill(self, number: int, example: Example) -> Example:
        """Return the example with its negatives; `number` is its place among the examples."""
        example = self._filters.without_graded(example)
        positives = self._known.of(example.query)
        near = self._filters.known_texts(example, positives)
        given: set[int] = set().union(*(self._pool.find(text) for text in example.neg))
        self._other["given"] += len(example.neg)
        self._other["given_equal_to_a_positive"] += len(given & positives)
        taken = positives | given
        texts: list[str] = []
        origin: list[dict[str, Any]] = []
        for miner in self._config.miners:
            drawn = self._draw(miner, number, example, positives, taken, near)
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
            "filtered": self._filters.counts(),
            **{name: self._other[name] for name in _OTHER_COUNTS},
            **self._rankings.counts,
        }

    def _draw(
        self,
        miner: Miner,
        number: int,
        example: Example,
        positives: set[int],
        taken: set[int],
        near: list[frozenset[str]],
    ) -> list[Candidate]:
        # A string seeds by its SHA-512, the same on every machine; hash() would not be.
        draw = random.Random(f"{self._config.seed}\0{miner}\0{example.id or ''}\0{example.query}")
        drawn: list[Candidate] = []
        if miner.count:
            order = self._anywhere if miner.method == "random" else self._from_window
            for candidate in order(draw, miner, number, example, positives, taken):
                if not self._filters.is_near(miner, candidate, example, near):
                    drawn.append(candidate)
                    if len(drawn) == miner.count:
                        break
        return drawn if miner.method == "random" else sorted(drawn, key=lambda candidate: candidate.rank or 0)

    def _anywhere(
        self, draw: random.Random, miner: Miner, number: int, example: Example, positives: set[int], taken: set[int]
    ) -> Iterator[Candidate]:
        """Yield passages of the pool in random order, each once; not all of a large pool."""
        seen = set(taken)
        tries = draw.sample(range(len(self._pool)), min(len(self._pool), miner.count + len(taken)))
        more = (draw.randrange(len(self._pool)) for _ in range(_MORE_TRIES * miner.count))
        for passage in chain(tries, more):
            candidate = Candidate(passage, None, None)
            if passage not in seen and self._filters.passes(miner, candidate, number, example):
                yield candidate
            seen.add(passage)

    def _from_window(
        self, draw: random.Random, miner: Miner, number: int, example: Example, positives: set[int], taken: set[int]
    ) -> Iterator[Candidate]:
        """Yield what is left of a window in random order."""
        window = []
        for candidate in self._window(miner, example):
            if candidate.passage in positives:
                self._positives[str(miner)] += 1
            elif candidate.passage not in taken and self._filters.passes(miner, candidate, number, example):
                window.append(candidate)
        first = draw.sample(range(len(window)), min(miner.count, len(window)))
        yield from (window[place] for place in first)
        rest = sorted(set(range(len(window))) - set(first))
        draw.shuffle(rest)
        yield from (window[place] for place in rest)

    def _window(self, miner: Miner, example: Example) -> Iterator[Candidate]:
        assert miner.first is not None, "only random miners have no window"
        ranking = self._rankings.by_method[miner.method]
        row = self._rankings.rows[query_of(example)]
        window = slice(miner.first - 1, miner.last)
        places = zip(ranking.indices[row, window].tolist(), ranking.scores[row, window].tolist(), strict=True)
        for place, (passage, score) in enumerate(places, start=miner.first):
            if passage != NONE:
                yield Candidate(passage, place, score)


def _given_origin(example: Example, *, graded: bool) -> list[dict[str, Any]]:
    """Return the origins of the negatives an example came with; `graded` moves their grades there."""
    if not graded:
        return origins(example)
    pairs = zip(origins(example), grades_of(example), strict=True)
    return [{**origin, "grade": grade} for origin, grade in pairs]
