"""Evaluate: retrieval systems on a set, every number with its interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.evaluation.bootstrap import Interval, intervals
from zhihui.evaluation.metrics import METRICS, as_arrays, score_ranks
from zhihui.evaluation.systems import FusedSystem, RetrievalSystem
from zhihui.ranking import TopK
from zhihui.ranking.topk import NONE
from zhihui.records import RetrievalSet

DEPTH = 1000
"""Passages ranked for each query: the largest cut-off of mteb's metrics."""
TOP = 10
"""Passages of each ranking that are kept to be looked at."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one system found for one query."""

    ranks: dict[str, int]
    """Relevant passage id -> 1-based rank, for those among the first `DEPTH`."""
    top: list[tuple[str, float]]
    """Id and score of the first `TOP` passages, best first."""


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """One system on one set."""

    name: str
    fingerprint: str
    seconds: float
    """Wall-clock seconds of encoding, indexing and search; of a hybrid, of the fusion alone."""
    found: list[Found]
    """One entry a query, in the order of `Evaluation.query_ids`."""
    scores: dict[str, NDArray[np.float64]] = field(repr=False)
    """Metric -> value of each query `[Q]`."""
    intervals: dict[str, Interval] = field(repr=False)
    """Metric -> mean over queries with its 95% interval."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Several systems on one split of one set."""

    data: RetrievalSet = field(repr=False)
    split: str
    query_ids: list[str] = field(repr=False)
    systems: list[SystemResult]

    def system(self, name: str) -> SystemResult:
        """Return the result of one system.

        Raises:
            KeyError: no system of that name was measured.

        """
        for result in self.systems:
            if result.name == name:
                return result
        raise KeyError(f"no system {name!r}; measured: {', '.join(result.name for result in self.systems)}")


def evaluate(
    data: RetrievalSet,
    split: str,
    systems: Sequence[RetrievalSystem],
    *,
    k: int = DEPTH,
    seed: int = 0,
    ignore_identical_ids: bool = False,
    observe: Callable[[RetrievalSystem, TopK], None] | None = None,
) -> Evaluation:
    """Rank the corpus for the judged queries of a split with each system, and score the rankings.

    Args:
        data: the set.
        split: which judgements count.
        systems: measured in this order; a `FusedSystem` reuses the rankings of its parts.
        k: passages ranked for each query; metrics cut beyond it see k.
        seed: of the bootstrap, the same for all systems.
        ignore_identical_ids: drop a passage that has the query's id from what is found, as mteb does in some tasks.
        observe: called with each system and its whole ranking `[Q, k]`, queries as the judgements order them.

    Raises:
        InputError: no such split, no systems, two systems of one name, or k less than 1.

    """
    names = [system.name for system in systems]
    if not names:
        raise InputError("no system to evaluate; give a model or a baseline")
    if len(set(names)) < len(names):
        raise InputError(f"two systems have one name ({', '.join(names)}); rename one")
    if k < 1:
        raise InputError(f"k is {k}; rank at least 1 passage")
    query_ids = list(data.judged(split))
    rankings: dict[int, TopK] = {}
    seconds: dict[int, float] = {}

    def ranked(system: RetrievalSystem) -> TopK:
        if id(system) not in rankings:
            start = time.monotonic()
            if isinstance(system, FusedSystem):
                parts = [ranked(part) for part in system.parts]
                start = time.monotonic()
                rankings[id(system)] = system.fuse(parts, k)
            else:
                rankings[id(system)] = system.rank(data, query_ids, k)
            seconds[id(system)] = time.monotonic() - start
        return rankings[id(system)]

    results = []
    ids = list(data.corpus)
    for place, system in enumerate(systems):
        ranking = ranked(system)
        if ignore_identical_ids:
            ranking = without_identical(ranking, query_ids, ids)
        if observe is not None:
            observe(system, ranking)
        results.append(
            measure(
                data,
                split,
                found=_found(ranking, ids, [data.qrels[split][query_id] for query_id in query_ids]),
                name=system.name,
                fingerprint=system.fingerprint,
                seconds=seconds[id(system)],
                seed=seed,
            )
        )
        wanted = _with_parts(systems[place + 1 :])
        # A ranking of a large set is hundreds of megabytes: it is kept only while a fusion still needs it.
        for key in [key for key in rankings if key not in wanted]:
            del rankings[key]
    return Evaluation(data=data, split=split, query_ids=query_ids, systems=results)


def measure(
    data: RetrievalSet,
    split: str,
    *,
    found: list[Found],
    name: str,
    fingerprint: str,
    seconds: float,
    seed: int = 0,
) -> SystemResult:
    """Score what a system found for the queries of a split, in the order of the judgements."""
    judged = data.judged(split)
    per_query = [score_ranks(grades, one.ranks) for grades, one in zip(judged.values(), found, strict=True)]
    scores = as_arrays(per_query)
    columns = np.stack([scores[metric] for metric in METRICS], axis=1)
    return SystemResult(
        name=name,
        fingerprint=fingerprint,
        seconds=round(seconds, 3),
        found=found,
        scores=scores,
        intervals=dict(zip(METRICS, intervals([columns], seed=seed), strict=True)),
    )


def average(evaluations: Sequence[Evaluation], *, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """Return system -> metric -> mean over the sets, each set counting the same, with its interval.

    Raises:
        InputError: the sets were not measured with the same systems.

    """
    names = [[result.name for result in evaluation.systems] for evaluation in evaluations]
    if any(other != names[0] for other in names):
        raise InputError("the sets were measured with different systems; only the same ones can be averaged")
    averages = {}
    for place, name in enumerate(names[0]):
        results = [evaluation.systems[place] for evaluation in evaluations]
        groups = [np.stack([result.scores[metric] for metric in METRICS], axis=1) for result in results]
        averages[name] = dict(zip(METRICS, intervals(groups, seed=seed), strict=True))
    return averages


def as_json(results: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return system -> metric -> {"value", "low", "high"}, what `results.json` holds."""
    return {
        name: {
            metric: {"value": found.value, "low": found.low, "high": found.high} for metric, found in metrics.items()
        }
        for name, metrics in results.items()
    }


def _with_parts(systems: Sequence[RetrievalSystem]) -> set[int]:
    needed = set()
    for system in systems:
        needed.add(id(system))
        if isinstance(system, FusedSystem):
            needed |= _with_parts(system.parts)
    return needed


def without_identical(ranking: TopK, query_ids: Sequence[str], ids: Sequence[str]) -> TopK:
    """Return a ranking without the passages that have their query's id; the places after them move up."""
    number = {passage_id: index for index, passage_id in enumerate(ids)}
    own = np.array([number.get(query_id, NONE) for query_id in query_ids], dtype=ranking.indices.dtype)
    dropped = ranking.indices == own[:, None]
    # A stable sort puts what is dropped last and leaves the order of the rest.
    order = np.argsort(dropped, axis=1, kind="stable")
    kept = TopK.empty(*ranking.indices.shape)
    kept.indices[:] = np.take_along_axis(np.where(dropped, NONE, ranking.indices), order, axis=1)
    kept.scores[:] = np.where(kept.indices == NONE, kept.scores, np.take_along_axis(ranking.scores, order, axis=1))
    return kept


def _found(ranking: TopK, ids: Sequence[str], judged: Sequence[Mapping[str, int]]) -> list[Found]:
    """Return where the relevant passages were found and the first passages, query by query."""
    number = {passage_id: index for index, passage_id in enumerate(ids)}
    place = np.empty(len(ids), dtype=np.int64)
    place[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    rows = []
    for indices, scores, grades in zip(ranking.indices, ranking.scores, judged, strict=True):
        filled = int(np.count_nonzero(indices >= 0))
        # trec_eval puts the greater id first among equal scores, and mteb's numbers are trec_eval's.
        order = np.lexsort((-place[indices[:filled]], -scores[:filled]))
        ordered = indices[order]
        relevant = {number[passage_id]: passage_id for passage_id, grade in grades.items() if grade >= 1}
        ranks = np.flatnonzero(np.isin(ordered, list(relevant)))
        rows.append(
            Found(
                ranks={relevant[int(ordered[rank])]: int(rank) + 1 for rank in ranks},
                top=[(ids[index], float(scores[row])) for index, row in zip(ordered[:TOP], order[:TOP], strict=True)],
            )
        )
    return rows
