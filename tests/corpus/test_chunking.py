"""Sentences and passages: borders, sizes, overlap and places, by cases and by properties."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.corpus.chunking import chunk
from zhihui.corpus.lengths import Characters, Tokens
from zhihui.corpus.sentences import LINE, MIDDLE, PARAGRAPH, split_pauses, split_sentences

SENTENCES = (
    "起诉应当向人民法院递交起诉状。",
    "他问：“你来吗？”",
    "（见第三条；另见附则。）",
    "《你好！旧时光》很好看！",
    "好……",
    "费用为3.5元；",
    "Rust is fast. It is safe.",
    "包括：",
    "详见 https://example.org/a?b=1;c 。",
    "这是一个没有任何标点却又特别特别长的句子长到一个段落都放不下它只好在没有办法的时候从中间切开",
    "第一，要快，第二，要稳，第三，要省，第四，要好，第五，要让人看得懂，第六，要能恢复。",
)
GAPS = ("", " ", "\n", "\n\n")


def cut(text, size=40, overlap=0, lengths=None):
    return chunk(text, size=size, overlap=overlap, lengths=lengths or Characters())


def sentences(text):
    return [text[one.start : one.end] for one in split_sentences(text)]


# --------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天晴。明天雨！后天呢？", ["今天晴。", "明天雨！", "后天呢？"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("真的吗？！真的。", ["真的吗？！", "真的。"]),
        ("《你好！旧时光》出版了。买了。", ["《你好！旧时光》出版了。", "买了。"]),
        ("价格（不含税；可退。）是三元。好。", ["价格（不含税；可退。）是三元。", "好。"]),
        ("圆周率是3.14。版本v2.0。", ["圆周率是3.14。", "版本v2.0。"]),
        ("It is fast. 它很快。e.g. this", ["It is fast.", "它很快。", "e.g. this"]),
        ("使用 println!(x); 即可", ["使用 println!(x);", "即可"]),
        ("见 https://a.org/?x=1;y。完", ["见 https://a.org/?x=1;y。", "完"]),
        ("第一行\n第二行\n\n第三行", ["第一行", "第二行", "第三行"]),
        ("他……走了", ["他……", "走了"]),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, expected):
    assert sentences(text) == expected


def test_what_a_sentence_ends_besides_itself():
    ends = [one.ends for one in split_sentences("一。二。\n三。\n\n材料包括：\n四。")]
    assert ends == [MIDDLE, LINE, PARAGRAPH, MIDDLE, MIDDLE]


def test_pauses_keep_numbers_and_addresses_whole():
    text = "共1,000元，见http://a.b,另附 清单"
    assert [text[start:end] for start, end in split_pauses(text, 0, len(text))] == [
        "共1,000元，",
        "见http://a.b,",
        "另附 ",
        "清单",
    ]


# --------------------------------------------------------------------------- passages


def test_a_text_that_fits_is_one_passage():
    assert cut("  一。二。\n") == [(2, 6)]
    assert cut(" \n") == []


def test_passages_are_even_in_length():
    text = "".join(f"第{number}句话有十个字。" for number in "一二三四五")  # 5 x 9 = 45
    assert [span.end - span.start for span in cut(text, size=36)] == [27, 18], "greedy filling would give 36 and 9"


def test_a_passage_ends_with_a_paragraph_rather_than_full():
    text = "甲" * 19 + "。" + "乙" * 9 + "。\n\n" + "丙" * 9 + "。" + "丁" * 19 + "。"
    assert [text[span.start : span.end][-2] for span in cut(text, size=42)] == ["乙", "丁"]


def test_a_line_that_introduces_a_list_stays_with_it():
    text = "甲" * 20 + "。\n\n材料包括：\n\n" + "乙" * 9 + "。\n" + "丙" * 20 + "。"
    assert [text[span.start : span.end] for span in cut(text, size=36)][1].startswith("材料包括：")


def test_a_sentence_is_cut_at_commas_and_else_hard():
    commas = "，".join(["十个汉字十个汉字十个"] * 6) + "。"
    pieces = [commas[span.start : span.end] for span in cut(commas, size=24)]
    assert len(pieces) == 3
    assert all(piece.endswith(("，", "。")) for piece in pieces)
    solid = "字" * 100
    assert sum(len(solid[span.start : span.end]) for span in cut(solid, size=30)) == 100


def test_overlap_is_whole_sentences_of_the_passage_before():
    text = "".join(f"第{number}句。" for number in "一二三四五六七八九十甲乙")
    spans = cut(text, size=20, overlap=2)
    pieces = [sentences(text[span.start : span.end]) for span in spans]
    assert len(pieces) > 2
    for before, after in pairwise(pieces):
        assert after[:2] == before[-2:]
        assert len(after) > 2


def test_overlap_gives_way_to_what_is_new():
    text = "甲" * 29 + "。" + "乙" * 29 + "。" + "丙" * 9 + "。"
    pieces = [text[span.start : span.end] for span in cut(text, size=40, overlap=1)]
    assert pieces == ["甲" * 29 + "。", "乙" * 29 + "。" + "丙" * 9 + "。"]


TEXTS = st.lists(st.tuples(st.sampled_from(SENTENCES), st.sampled_from(GAPS)), min_size=1, max_size=25).map(
    lambda pairs: "".join(sentence + gap for sentence, gap in pairs)
)
ANY_TEXT = st.text(st.sampled_from("字文abc1 \n。，；！？…：”“（）《》.!,:/"), max_size=200)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.one_of(TEXTS, ANY_TEXT), size=st.integers(16, 80))
def test_passages_without_overlap_are_the_text(text, size):
    spans = cut(text, size=size)
    pieces = [text[span.start : span.end] for span in spans]
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", text)
    assert all(0 < len(piece) <= size and piece == piece.strip() for piece in pieces)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    borders = {one.end for one in split_sentences(text)}
    for span in spans:
        if span.end not in borders:  # within a sentence, which then is too long by itself
            (around,) = [one for one in split_sentences(text) if one.start < span.end < one.end]
            assert around.end - around.start > size


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=TEXTS, size=st.integers(16, 80), overlap=st.integers(1, 3))
def test_with_overlap_every_passage_has_something_new_and_nothing_is_lost(text, size, overlap):
    spans = cut(text, size=size, overlap=overlap)
    covered = set()
    for span in spans:
        assert span.end - span.start <= size
        covered |= set(range(span.start, span.end))
    assert all(text[place].isspace() for place in set(range(len(text))) - covered)
    for before, after in pairwise(spans):
        assert before.start < after.start
        assert before.end < after.end
        repeated = [one for one in split_sentences(text) if after.start <= one.start and one.end <= before.end]
        assert len(repeated) <= overlap


# --------------------------------------------------------------------------- tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A byte-level BPE of the kind large models have, learnt from the sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tokenizer")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False)
    made.train_from_iterator(SENTENCES, trainer)
    made.save(str(folder / "tokenizer.json"))
    return Tokens(folder)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXTS, size=st.integers(16, 80), overlap=st.integers(0, 2))
def test_tokens_bound_a_passage_as_the_tokenizer_counts_them(tokenizer, text, size, overlap):
    spans = cut(text, size=size, overlap=overlap, lengths=tokenizer)
    assert all(n <= size for n in tokenizer.of([text[span.start : span.end] for span in spans]))
    if overlap == 0:
        joined = "".join(text[span.start : span.end] for span in spans)
        assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", text)


def test_tokens_and_characters_are_counted_differently(tokenizer):
    assert tokenizer.of(["他问：“你来吗？”"]) != Characters().of(["他问：“你来吗？”"])
    text = "㊙" * 30 + "。"  # three bytes each, and no token joins them
    assert len(cut(text, size=40, lengths=tokenizer)) > len(cut(text, size=40)) == 1
    assert tokenizer.fingerprint != Characters.fingerprint
