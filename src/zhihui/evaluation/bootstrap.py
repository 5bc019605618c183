"""Confidence intervals over queries by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13).

Queries are the sample: an interval says how far the mean could move had other queries of the same kind been
asked. Systems measured on the same queries are compared by the differences query by query, which is sharper
than looking whether two intervals overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000
CONFIDENCE = 0.95
_BLOCK = 4_000_000  # drawn query numbers held at once


@dataclass(frozen=True)
class Interval:
    """A mean and the range it plausibly lies in."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def interval(
    values: NDArray[np.float64] | Sequence[float],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the mean over queries `[Q]` with its percentile bootstrap interval.

    Raises:
        ValueError: no values, a value that is not finite, or settings out of range.

    """
    return mean_interval([np.asarray(values, dtype=np.float64)], samples=samples, confidence=confidence, seed=seed)


def paired_difference(
    a: NDArray[np.float64] | Sequence[float],
    b: NDArray[np.float64] | Sequence[float],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the mean of a - b over the same queries `[Q]`; an interval above 0 means a is better.

    Raises:
        ValueError: a and b are not of one length, or as `interval`.

    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a has shape {first.shape} and b {second.shape}; pair the values query by query")
    return interval(first - second, samples=samples, confidence=confidence, seed=seed)


def mean_interval(
    groups: Sequence[NDArray[np.float64]],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the mean of the groups' means, each group `[Q]` resampled within itself.

    This is the average over tasks as benchmarks report it: every set counts the same, whatever its size.

    Raises:
        ValueError: no group, an empty one, a value that is not finite, or settings out of range.

    """
    return intervals([group[:, None] for group in groups], samples=samples, confidence=confidence, seed=seed)[0]


def intervals(
    groups: Sequence[NDArray[np.float64]],
    *,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> list[Interval]:
    """Return `mean_interval` of each column of the groups `[Q, M]`, all from one drawing of queries.

    Raises:
        ValueError: as `mean_interval`.

    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; draw at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a share between 0 and 1, e.g. 0.95")
    if not groups or not all(len(group) for group in groups):
        raise ValueError("no values: an interval needs at least one query in every group")
    if not all(np.isfinite(group).all() for group in groups):
        raise ValueError("a value is not finite; scores are numbers")
    means = np.mean([group.mean(axis=0) for group in groups], axis=0)
    drawn = np.mean([_resampled(group, samples, [seed, place]) for place, group in enumerate(groups)], axis=0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [
        Interval(float(value), float(lower), float(upper)) for value, lower, upper in zip(means, low, high, strict=True)
    ]


def _resampled(values: NDArray[np.float64], samples: int, seed: Sequence[int]) -> NDArray[np.float64]:
    """Return the column means `[samples, M]` of as many drawings with replacement of the rows of `[Q, M]`."""
    random = np.random.default_rng(seed)
    size = len(values)
    block = max(1, _BLOCK // size)
    means = np.empty((samples, values.shape[1]))
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        # How often each query was drawn says as much as the drawing itself, and serves all columns at once.
        picked = random.integers(0, size, size=(rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)
        means[start : start + rows] = counts @ values / size
    return means
