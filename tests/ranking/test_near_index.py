from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.ranking.near import NearIndex, bands
from zhihui.ranking.shingles import bare, jaccard, shingles

COMMON = [chr(code) for code in range(0x4E00, 0x4E00 + 1200)]


def text(draw: random.Random, length: int) -> str:
    return "".join(draw.choices(COMMON, k=length))


def edited(draw: random.Random, original: str, changes: int) -> str:
    """Replace, remove and insert characters."""
    letters = list(original)
    for _ in range(changes):
        place = draw.randrange(len(letters))
        letters[place] = draw.choice(["", draw.choice(COMMON), letters[place] + draw.choice(COMMON)])
    return "".join(letters) or "空"


def family(seed: int, size: int, most: int) -> list[str]:
    """Texts of which each may be an edit of an earlier one."""
    draw = random.Random(seed)
    texts = [text(draw, draw.randint(1, 120))]
    while len(texts) < size:
        source = draw.choice(texts)
        texts.append(edited(draw, source, draw.randint(0, most)) if draw.random() < 0.7 else text(draw, 60))
    return texts


def similarity(one: str, other: str) -> float:
    return jaccard(shingles(bare(one)), shingles(bare(other)))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.7, 0.8, 0.9, 1.0]))
def test_what_is_found_is_what_comparing_all_finds(seed, threshold):
    texts = family(seed, 40, 8)
    index = NearIndex(texts, threshold)
    for number in range(len(texts)):
        index.enter(number)
    found = {(number, near.number): near.similarity for number in range(len(texts)) for near in index.near(number)}
    true = {
        pair: alike
        for one, other in combinations(range(len(texts)), 2)
        if (alike := similarity(texts[one], texts[other])) >= threshold
        for pair in ((one, other), (other, one))
    }
    assert found == true


def test_nothing_below_the_threshold_is_found_and_nearly_nothing_above_is_missed():
    texts = family(1, 1000, 8)
    index = NearIndex(texts, 0.7)
    for number in range(len(texts)):
        index.enter(number)
    found = {(number, near.number) for number in range(len(texts)) for near in index.near(number)}
    sets = [shingles(bare(each)) for each in texts]
    true = {(i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(sets[i], sets[j]) >= 0.7}
    assert found <= true | {(j, i) for i, j in true}
    assert len(true) > 300
    assert sum(pair in found for pair in true) / len(true) > 0.999


def test_the_most_alike_comes_first():
    index = NearIndex(
        ["甲乙丙丁戊己庚辛壬癸" * 3 + "子", "甲乙丙丁戊己庚辛壬癸" * 3, "甲乙丙丁戊己庚辛壬癸，" * 3], 0.7
    )
    for number in (0, 1, 2):
        index.enter(number)
    assert [near.number for near in index.near(2)] == [1, 0]
    assert index.near(2)[0].similarity == 1.0


def test_only_entered_texts_are_found():
    index = NearIndex(["一段完全相同的文字", "一段完全相同的文字", "別的"], 0.8)
    assert index.near(1) == []
    index.enter(0)
    assert [near.number for near in index.near(1)] == [0]
    assert index.near(2) == []


def test_the_seed_proposes_and_does_not_decide():
    texts = family(3, 200, 10)
    answers = []
    for seed in (0, 1):
        index = NearIndex(texts, 0.8, seed=seed)
        for number in range(len(texts)):
            index.enter(number)
        answers.append([index.near(number) for number in range(len(texts))])
    assert answers[0] == answers[1]
    assert any(answers[0])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_banding_seldom_overlooks_a_pair_at_the_threshold(threshold):
    count = bands(threshold)
    rows = 128 // count
    assert (1 - threshold**rows) ** count <= 5e-4
    assert rows == 128 or (1 - threshold ** (2 * rows)) ** (count // 2) > 5e-4


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, float("nan")])
def test_a_threshold_out_of_bounds_is_refused(threshold):
    with pytest.raises(InputError, match="threshold is"):
        NearIndex(["甲"], threshold)
