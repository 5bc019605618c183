from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhihui.synthesis.near import near_duplicates, shingles, similarity

TEXTS = st.lists(st.text(alphabet="押金退租房合同", min_size=0, max_size=9), max_size=25)


@given(TEXTS, st.sampled_from([0.3, 0.5, 0.6, 0.75, 0.8, 1.0]))
def test_the_join_finds_what_comparing_all_pairs_finds(texts, threshold):
    kept: list[int] = []
    expected: list[int | None] = []
    for number, text in enumerate(texts):
        match = next((other for other in kept if similarity(text, texts[other]) >= threshold - 1e-9), None)
        expected.append(match)
        if match is None:
            kept.append(number)
    assert near_duplicates(texts, threshold) == expected


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("租房押金不退怎么办", "租房 押金 不退，怎么办？", 1.0),
        ("ＩＰｈｏｎｅ 换电池", "iphone换电池", 1.0),
        ("押金", "定金", 0.0),
        ("押", "押", 1.0),
        ("", "！？", 1.0),
    ],
)
def test_punctuation_case_and_width_do_not_count(one, other, alike):
    assert similarity(one, other) == alike


def test_shingles_are_pairs_of_characters():
    assert shingles("不退押金") == {"不退", "退押", "押金"}


def test_a_text_that_went_takes_no_other_with_it():
    assert near_duplicates(["甲乙丙丁", "乙丙丁戊", "丙丁戊己"], 0.5) == [None, 0, None]
