"""Comparison: the systems of several runs on the sets they share, beside systems whose scores were published.

Systems are compared by their differences query by query: a bootstrap interval says how large a difference is, a
randomisation test whether it could be chance (Smucker, Allan and Carterette 2007), and Holm's correction keeps the
chance of a single false alarm among all pairs at its level (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.evaluation.bootstrap import Interval, mean_interval
from zhihui.evaluation.compare_runs import EvaluationRun, SystemScores
from zhihui.evaluation.run import Found

LEVEL = 0.05
"""Of the tests: a difference whose corrected p is lower is called significant."""
_DRAWS = 9999  # of signs; with the one observed they make 10,000
_BLOCK = 4_000_000  # signs held at once


@dataclass(frozen=True, kw_only=True)
class SharedSet:
    """A set that all runs measured."""

    name: str
    split: str
    query_ids: list[str] = field(repr=False)
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One system of the runs on the shared sets."""

    name: str
    """As its run names it; with the run's name behind it where another system is named the same."""
    fingerprint: str
    run: str
    """Folder of the run it is from."""
    ndcg: list[NDArray[np.float64]] = field(repr=False)
    """nDCG@10 of each query, set by set."""
    found: list[list[Found]] = field(repr=False)
    """What it found for each query, set by set."""
    per_set: list[Interval]
    """Mean nDCG@10 over the queries of each set."""
    average: Interval
    """Mean over the sets, each counting the same."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A system of which only means are known."""

    name: str
    scores: dict[str, float]
    """Set -> nDCG@10 in [0, 1]."""
    average: float
    """As published over these sets, which may differ in the last digit from that of the rounded scores."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two systems of the runs against each other: nDCG@10 of `a` less that of `b`, query by query."""

    a: str
    b: str
    average: Interval
    """Over the sets, each counting the same."""
    per_set: list[Interval]
    p: float
    """Two-sided, of the average, corrected for the number of pairs."""

    @property
    def significant(self) -> bool:
        """Whether so large a difference is hardly chance."""
        return self.p < LEVEL


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything a comparison shows."""

    sets: list[SharedSet]
    systems: list[Compared]
    published: list[Published]
    """Those with a score on every shared set."""
    differences: list[Difference]
    """One for each pair of systems, the better first."""
    left_out: list[str]
    """Sets that some run did not measure, or measured in another version."""

    @property
    def ranked(self) -> list[Compared]:
        """The systems, best average first."""
        return sorted(self.systems, key=lambda system: -system.average.value)


def compare(runs: Sequence[EvaluationRun], *, published: Sequence[Published] = (), seed: int = 0) -> Comparison:
    """Line up the systems of some runs on the sets that all of them measured.

    Args:
        runs: at least one; a system that several measured is taken once.
        published: taken along if their scores include every shared set.
        seed: of the bootstrap and of the tests.

    Raises:
        InputError: no runs, or no set that all of them measured on the same split, texts and judgements.
    """
    if not runs:
        raise InputError("no run to compare; give folders that zhihui eval wrote")
    sets, left_out = _shared(runs)
    systems = _systems(runs, sets, seed)
    names = [one.name for one in sets]
    rows = [_only(one, names) for one in published if all(name in one.scores for name in names)]
    return Comparison(
        sets=sets,
        systems=systems,
        published=rows,
        differences=_differences(systems, seed),
        left_out=left_out,
    )


def randomisation_test(groups: Sequence[NDArray[np.float64]], *, draws: int = _DRAWS, seed: int = 0) -> float:
    """Return how probable a mean at least as far from 0 is if only chance decided the sign of each difference.

    Args:
        groups: differences of the queries of each set `[Q]`; the mean is that of the sets' means.
        draws: of signs.
        seed: of the draws.

    """
    observed = abs(float(np.mean([group.mean() for group in groups])))
    drawn = np.mean([_sign_means(group, draws, [seed, place]) for place, group in enumerate(groups)], axis=0)
    # Sums in another order may differ in the last place from an equal mean.
    return (1 + int(np.count_nonzero(np.abs(drawn) >= observed - 1e-12))) / (1 + draws)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down procedure, in the order given."""
    corrected = [0.0] * len(values)
    highest = 0.0
    for passed, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - passed) * values[place]))
        corrected[place] = highest
    return corrected


def _shared(runs: Sequence[EvaluationRun]) -> tuple[list[SharedSet], list[str]]:
    first = runs[0]
    everywhere = [name for name in first.sets if all(name in run.sets for run in runs)]
    left_out = [f"{name} (not in every run)" for name in _names(runs) if name not in everywhere]
    sets = []
    for name in everywhere:
        one = first.sets[name]
        versions = {(run.sets[name].split, run.sets[name].fingerprint) for run in runs}
        if len(versions) > 1 or any(run.sets[name].query_ids != one.query_ids for run in runs):
            left_out.append(f"{name} (of different splits or versions)")
            continue
        sets.append(SharedSet(name=name, split=one.split, query_ids=one.query_ids, fingerprint=one.fingerprint))
    if not sets:
        what = ", ".join(left_out)
        raise InputError(
            f"the runs share no set (left out: {what}); evaluate the models on the same --data and --split"
        )
    return sets, left_out


def _only(one: Published, names: Sequence[str]) -> Published:
    """Return a published system on some of its sets; its own average is of all of them."""
    if set(names) == set(one.scores):
        return one
    scores = {name: one.scores[name] for name in names}
    return Published(name=one.name, scores=scores, average=sum(scores.values()) / len(scores))


def _names(runs: Sequence[EvaluationRun]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.sets))


def _systems(runs: Sequence[EvaluationRun], sets: Sequence[SharedSet], seed: int) -> list[Compared]:
    taken: dict[tuple[str, str], tuple[EvaluationRun, list[SystemScores]]] = {}
    for run in runs:
        for name in run.sets[sets[0].name].systems:
            scores = [run.sets[one.name].systems[name] for one in sets]
            taken.setdefault((name, scores[0].fingerprint), (run, scores))
    names = [name for name, _ in taken]
    return [
        Compared(
            name=name if names.count(name) == 1 else f"{name} ({run.folder.name})",
            fingerprint=fingerprint,
            run=str(run.folder),
            ndcg=[one.ndcg for one in scores],
            found=[one.found for one in scores],
            per_set=[mean_interval([one.ndcg], seed=seed) for one in scores],
            average=mean_interval([one.ndcg for one in scores], seed=seed),
        )
        for (name, fingerprint), (run, scores) in taken.items()
    ]


def _differences(systems: Sequence[Compared], seed: int) -> list[Difference]:
    pairs = []
    for a, b in combinations(sorted(systems, key=lambda system: -system.average.value), 2):
        groups = [first - second for first, second in zip(a.ndcg, b.ndcg, strict=True)]
        pairs.append((a, b, groups))
    values = holm([randomisation_test(groups, seed=seed) for _, _, groups in pairs])
    return [
        Difference(
            a=a.name,
            b=b.name,
            average=mean_interval(groups, seed=seed),
            per_set=[mean_interval([group], seed=seed) for group in groups],
            p=p,
        )
        for (a, b, groups), p in zip(pairs, values, strict=True)
    ]


def _sign_means(values: NDArray[np.float64], draws: int, seed: Sequence[int]) -> NDArray[np.float64]:
    """Return the means `[draws]` of the values `[Q]`, each under a random sign."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(values))
    means = np.empty(draws)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        # The mean with flipped signs is the mean less twice what is flipped.
        flipped = random.integers(0, 2, size=(rows, len(values)), dtype=np.int8).astype(np.float64)
        means[start : start + rows] = values.mean() - 2 * (flipped @ values) / len(values)
    return means
