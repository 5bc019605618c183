from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.ranking.shingles import bare, jaccard, reaches, shingles


def test_similarity_is_that_of_the_sets_of_four_characters():
    def of(one: str, other: str) -> float:
        return jaccard(shingles(one), shingles(other))

    assert of("甲乙丙丁戊", "甲乙丙丁戊") == 1.0
    assert of("甲乙丙丁戊", "乙丙丁戊己") == pytest.approx(1 / 3)
    assert of("甲乙丙丁", "丁丙乙甲") == 0.0
    assert of("短", "短") == 1.0
    assert of("短", "长") == 0.0
    assert shingles("甲乙丙丁甲乙丙丁") == {"甲乙丙丁", "乙丙丁甲", "丙丁甲乙", "丁甲乙丙"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("鄰居送來一籃枇杷。", "邻居送来一篮枇杷"),
        ("ＧＰＵ　顯卡，怎麼選？", "gpu显卡怎么选"),
        ("他说：“好……”", "他说好"),
        ("Hello, world.", "helloworld"),
    ],
)
def test_script_case_width_and_punctuation_do_not_count(one, other):
    assert bare(one) == bare(other)


@pytest.mark.parametrize(("one", "other"), [("C++", "C"), ("C#", "C"), ("3.5倍", "35倍"), ("-5%", "5"), ("a/b", "ab")])
def test_signs_that_make_another_word_count(one, other):
    assert bare(one) != bare(other)


def test_a_text_of_punctuation_is_itself():
    assert bare("？！") == "?!"


@settings(max_examples=200, deadline=None)
@given(
    one=st.text("甲乙丙丁", min_size=1, max_size=30),
    other=st.text("甲乙丙丁", min_size=1, max_size=30),
    threshold=st.floats(0.05, 1.0),
)
def test_the_short_cut_by_size_changes_no_answer(one, other, threshold):
    first, second = shingles(one), shingles(other)
    assert reaches(first, second, threshold) == (jaccard(first, second) >= threshold)
