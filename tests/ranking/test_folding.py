from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhihui.ranking.folding import _nfkc, fold

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
