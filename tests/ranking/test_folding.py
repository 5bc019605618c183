from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.ranking.folding import _nfkc, fold, fold_all

TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("，。！ａＺ　…①㈱ｶﾞがか\u3099\u0301ﬁ豈Å가각"),
    )
)


@given(TEXTS)
def test_the_fast_normalisation_is_that_of_unicode(text):
    assert _nfkc(text) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ＣＰＵ　溫度：９０℃……", "cpu 温度:90°c......"),
        ("Ünïcode 與Ｌａｔｉｎ", "ünïcode 与latin"),
        ("", ""),
    ],
)
def test_golden_texts(text, folded):
    assert fold(text) == folded


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("頭发Ａａ乾坤Σσ\u0301\u3099か\x1e…，一隻 ", max_size=6), max_size=6))
def test_texts_are_folded_together_as_they_are_alone(texts):
    assert fold_all(texts) == [fold(text) for text in texts]
