"""Characters, spaces, wrapped lines, boilerplate, encodings and scripts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.corpus.boilerplate import RepeatedLines, without
from zhihui.corpus.cleaning import plain_characters, tidy_spaces
from zhihui.corpus.decoding import decode, decode_html
from zhihui.corpus.language import chinese_share, converter, in_script
from zhihui.corpus.wrapping import glue, join_wrapped
from zhihui.records import BadRow

PROSE = "为规范电信事业之经营管理，促进电信业务健全发展，特制定本办法。本办法自公布之日起施行。"
TRADITIONAL = "為規範電信事業之經營管理，促進電信業務健全發展，特制定本辦法。本辦法自公布之日起施行。"

# --------------------------------------------------------------------------- characters and spaces


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("甲\r\n乙\r丙\x0b丁\u2028戊", "甲\n乙\n丙\n丁\n戊"),
        ("零\u200b宽\ufeff软\xad连\x00字\u202e向", "零宽软连字向"),
        ("⺠事⼈⻅ ﬁle", "民事人见 file"),
        ("e\u0301", "é"),
        ("半\ud800个", "半个"),
        ("网址 https://a.org/?q=１ 保留", "网址 https://a.org/?q=１ 保留"),
    ],
)
def test_characters_that_are_not_read_go(dirty, clean):
    assert plain_characters(dirty) == clean


def test_nfkc_leaves_chinese_punctuation():
    assert plain_characters("ＡＢＣ，１２３！（㎡）①……", nfkc=True) == "ABC，123！（m2）1……"
    assert plain_characters("ＡＢＣ", nfkc=False) == "ＡＢＣ"


def test_spaces_are_single_and_code_may_keep_its_own():
    assert tidy_spaces("　　甲\u00a0 乙\t\n\n\n\n 丙 ") == "甲 乙\n\n丙"
    assert tidy_spaces("def f():\n    return  1 \n", indented=True) == "def f():\n    return 1"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(), max_size=60), st.booleans(), st.booleans())
def test_cleaning_twice_is_cleaning_once(text, nfkc, indented):
    once = tidy_spaces(plain_characters(text, nfkc=nfkc), indented=indented)
    assert tidy_spaces(plain_characters(once, nfkc=nfkc), indented=indented) == once


# --------------------------------------------------------------------------- wrapped lines

WRAPPED = (
    "　　那是力争上游的一种树，笔直的干，笔直的枝。它的干通常是丈把高，像加过\n"
    "人工似的，一丈以内绝无旁枝。它所有的丫枝一律向上，而且紧紧靠拢，也像加过\n"
    "人工似的，成为一束，绝不旁逸斜出。\n"
    "　　它的宽大的叶子也是片片向上，几乎没有斜生的，更不用说倒垂了。这是虽在\n"
    "北方的风雪的压迫下却保持着倔强挺立的一种树。"
)


def test_wrapped_lines_become_paragraphs():
    paragraphs = join_wrapped(WRAPPED).split("\n")
    assert len(paragraphs) == 2
    assert "像加过人工似的，一丈" in paragraphs[0]
    assert paragraphs[1].endswith("虽在北方的风雪的压迫下却保持着倔强挺立的一种树。")


@pytest.mark.parametrize(
    "text",
    [
        "苹果\n香蕉\n橘子\n葡萄",
        "- 这一项说的是第一件很长很长的事情并没有句号\n- 这一项说的是第二件很长很长的事情并没有句号\n- 第三件",
        "第一章 总则和适用范围以及其他需要说明的一般事项\n第二章 起诉和受理以及其他需要说明的一般事项\n第三章",
        "\n".join(["这一段自成一段而且它的末尾有句号所以不应当与下一段连在一起。"] * 4),
        "一行\n两行",
    ],
    ids=["words", "list", "chapters", "paragraphs", "short"],
)
def test_lines_that_stand_for_themselves_stay(text):
    assert join_wrapped(text) == text


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("中文", "中文", "中文中文"),
        ("使用", "PyTorch", "使用PyTorch"),
        ("deep", "learning", "deep learning"),
        ("inter-", "national", "international"),
        ("GPT-", "4", "GPT- 4"),
        ("见 https://a.org/x?", "id=3", "见 https://a.org/x?id=3"),
        ("", "甲", "甲"),
    ],
)
def test_lines_are_glued_as_their_script_asks(before, after, joined):
    assert glue(before, after) == joined


# --------------------------------------------------------------------------- boilerplate


def test_running_heads_with_other_numbers_go_and_the_text_stays():
    pages = [["某某公司内部资料", f"正文{word}", "重要", f"第 {n} 页 共 9 页"] for n, word in enumerate("甲乙丙丁")]
    repeated = RepeatedLines(0.5)
    for page in pages:
        repeated.count(page)
    found = repeated.found()
    assert found == {"某某公司内部资料", "第 # 页 共 # 页", "重要"}
    assert without(pages[1], found) == ["", "正文乙", "", ""]
    long = ["某某公司内部资料", *"一二三四五六七", "重要", *"一二三四五", "第 12 页 共 99 页"]
    assert without(long, found) == ["", *"一二三四五六七", "重要", *"一二三四五", ""], "only the edges are looked at"


def test_two_alike_prove_nothing_and_a_share_of_1_takes_nothing():
    for share, pages in ((0.5, 2), (1.0, 5)):
        repeated = RepeatedLines(share)
        for _ in range(pages):
            repeated.count(["页眉页眉", "正文"])
        assert repeated.found() == frozenset()


# --------------------------------------------------------------------------- encodings


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk"])
def test_chinese_encodings_are_told_apart(name):
    assert decode(PROSE.encode(name), where="a.txt") == PROSE


@pytest.mark.parametrize("name", ["utf-8", "big5", "gb18030"])
def test_traditional_text_too(name):
    assert decode(TRADITIONAL.encode(name), where="a.txt") == TRADITIONAL


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("Ça coûte très cher à l'été où l'hôtel".encode("latin-1"), "unknown_encoding"),
        ("これは日本語の文章です。".encode("shift_jis"), "unknown_encoding"),
        (b"\x89PNG\x00\x01\x02", "not_text"),
        (b"\xff\xfe\x00", "unknown_encoding"),
    ],
    ids=["latin", "japanese", "picture", "torn"],
)
def test_what_makes_no_sense_is_refused_not_guessed(data, code):
    with pytest.raises(BadRow) as refused:
        decode(data, where="a.txt")
    assert refused.value.code == code


def test_a_page_is_read_as_it_says_unless_that_is_wrong():
    head = '<html><head><meta charset="{}"></head><body>{}</body></html>'
    short = head.format("gb2312", "镕")  # one rare character, which no statistics would tell
    assert "镕" in decode_html(short.encode("gbk"), where="a.html")
    wrong = head.format("utf-8", PROSE)
    assert PROSE in decode_html(wrong.encode("gbk"), where="a.html")


# --------------------------------------------------------------------------- language and script


def test_the_share_of_chinese_counts_letters_alone():
    assert chinese_share("中文ab 123，。") == 0.5
    assert chinese_share("123。") == 0


def test_scripts_are_told_and_folded():
    assert in_script(PROSE, "simplified")
    assert not in_script(TRADITIONAL, "simplified")
    assert not in_script(PROSE, "traditional")
    assert in_script(TRADITIONAL, "any")
    assert converter("none") is None
    assert converter("simplified")(TRADITIONAL) == PROSE
    assert converter("traditional")("电信发展") == "電信發展"
