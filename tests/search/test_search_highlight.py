"""Highlights and snippets: which words, where, and what is shown of a long text."""

from __future__ import annotations

import pytest

from zhihui.search.highlight import highlights, query_words, snippet


@pytest.mark.parametrize(
    ("query", "text", "wanted"),
    [
        ("租房押金", "租房合同的押金", ["租房", "押金"]),
        ("租房押金", "租房押金", ["租房押金"]),
        ("計算機軟件", "計算機的软件", ["計算機", "软件"]),
        ("计算机", "計算機", ["計算機"]),
        ("python 列表", "ＰＹＴＨＯＮ里的列表，pythonic 的", ["ＰＹＴＨＯＮ", "列表"]),
        ("面积 m2", "面积为５０㎡左右", ["面积"]),
        ("的", "他的书", ["的"]),
        ("我的押金", "我的押金", ["押金"]),
        ("量子", "租房合同", []),
        ("合同", "", []),
        ("押金", "ﷺ ㍿押金", ["押金"]),
    ],
)
def test_words_of_the_query_are_found_in_whatever_form(query, text, wanted):
    assert [text[start:end] for start, end in highlights(text, query_words(query))] == wanted


def test_a_snippet_shows_where_the_matches_are():
    text = "无关的话。" * 40 + "租房合同到期\n以后押金要退" + "还有别的话。" * 40
    spans = highlights(text, query_words("合同押金退"))
    shown = snippet(text, spans, width=60)
    assert len(shown.text) == 62
    assert (shown.text[0], shown.text[-1]) == ("…", "…")
    assert [shown.text[start:end] for start, end in shown.highlights] == ["合同", "押金", "退"]
    assert "\n" not in shown.text


def test_a_snippet_cuts_what_reaches_over_its_edge():
    shown = snippet("甲" * 50 + "乙" * 50, [(0, 100)], width=30)
    assert shown == ("甲" * 30 + "…", ((0, 30),))
    assert snippet("短文", [(1, 2)], width=30) == ("短文", ((1, 2),))
    assert snippet("甲" * 100, [], width=30) == ("甲" * 30 + "…", ())
    assert snippet("甲" * 99 + "乙", [(99, 100)], width=30) == ("…" + "甲" * 29 + "乙", ((30, 31),))
