"""Bootstrap intervals: coverage, determinism, pairing."""

from __future__ import annotations

import numpy as np
import pytest

from zhihui.evaluation.bootstrap import Interval, interval, intervals, mean_interval, paired_difference


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(11)
    trials, truth = 400, 2 / (2 + 1)
    hits = {0.95: 0, 0.5: 0}
    for trial in range(trials):
        sample = random.beta(2, 1, size=120)
        for confidence in hits:
            found = interval(sample, samples=500, confidence=confidence, seed=trial)
            hits[confidence] += found.low <= truth <= found.high
    # Three standard errors of a share over 400 trials: 3.3 and 7.5 points.
    assert hits[0.95] / trials == pytest.approx(0.95, abs=0.035)
    assert hits[0.5] / trials == pytest.approx(0.5, abs=0.075)


def test_width_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(3).random(5000)
    found = interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.06)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(0).random(50)
    assert interval(values, seed=4) == interval(values, seed=4)
    assert interval(values, seed=4) != interval(values, seed=5)


def test_blocks_do_not_change_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2, 64).astype(np.float64)
    whole = interval(values)
    monkeypatch.setattr("zhihui.evaluation.bootstrap._BLOCK", 64 * 7)
    assert interval(values) == whole


def test_equal_values_leave_no_doubt() -> None:
    assert interval([0.25, 0.25]) == Interval(0.25, 0.25, 0.25)
    assert interval([0.5]) == Interval(0.5, 0.5, 0.5)


def test_pairing_removes_what_the_queries_share() -> None:
    random = np.random.default_rng(1)
    hardness = random.random(300)
    a, b = hardness + 0.02, hardness + random.normal(0, 0.01, 300)
    found = paired_difference(a, b)
    assert found.value == pytest.approx(np.mean(a - b))
    assert found.low > 0.015
    assert interval(a).low < interval(b).high
    back = paired_difference(b, a)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=2e-4)


def test_every_set_counts_the_same() -> None:
    random = np.random.default_rng(2)
    small, large = random.random(20), 3 + random.random(2000)
    found = mean_interval([small, large])
    assert found.value == pytest.approx((small.mean() + large.mean()) / 2)
    # The doubt is the small set's: half of its own, the large one adds next to nothing.
    alone = interval(small)
    assert found.high - found.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)


def test_groups_are_drawn_apart() -> None:
    values = np.random.default_rng(5).random(40)
    both = mean_interval([values, values])
    alone = interval(values)
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / np.sqrt(2), rel=0.1)


def test_columns_are_intervals_of_their_own() -> None:
    table = np.random.default_rng(6).random((30, 3))
    for column, found in enumerate(intervals([table])):
        alone = interval(table[:, column])
        assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([], {}, "no values"),
        ([0.1, float("nan")], {}, "not finite"),
        ([0.1], {"samples": 0}, "samples is 0"),
        ([0.1], {"confidence": 95}, "confidence is 95"),
    ],
)
def test_what_cannot_be_drawn_is_refused(values: list[float], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interval(values, **settings)


def test_unpaired_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and b \(1,\)"):
        paired_difference([0.1, 0.2], [0.1])
