"""What is written is read again as it was, in each format and from each format to each other."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhihui.records import (
    Example,
    Passage,
    RetrievalSet,
    read_beir,
    read_examples,
    write_beir,
    write_examples,
)
from zhihui.records.conversion import convert
from zhihui.records.example import KEYS
from zhihui.records.formats import FORMATS

FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(min_size=1, max_size=20).map(str.strip).filter(bool)
NAME = st.text("abc你好_-19", min_size=1, max_size=8)
SCORE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | SCORE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TAKEN = {*KEYS, "query_id", "positive_passages", "negative_passages"}
EXTRA = st.dictionaries(NAME.filter(lambda key: key not in TAKEN), JSON.filter(lambda v: v is not None), max_size=2)


@st.composite
def any_example(draw: st.DrawFn) -> Example:
    """Every field filled or not."""
    pos, neg = draw(st.lists(TEXT, min_size=1, max_size=3)), draw(st.lists(TEXT, max_size=3))
    grades = [st.none() | st.lists(SCORE, min_size=len(side), max_size=len(side)) for side in (pos, neg)]
    texts = {name: draw(st.none() | st.text(max_size=8)) for name in ("prompt", "type", "id", "source")}
    meta = draw(st.dictionaries(NAME, JSON, max_size=2))
    return Example(
        query=draw(TEXT),
        pos=pos,
        neg=neg,
        pos_scores=draw(grades[0]),
        neg_scores=draw(grades[1]),
        meta=meta,
        extra=draw(EXTRA),
        **texts,
    )


@st.composite
def plain_examples(draw: st.DrawFn) -> list[Example]:
    """Examples that every format can hold: no text occurs twice, each has as many negatives."""
    count, negatives = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    wanted = [1 + draw(st.integers(1, 3)) + negatives for _ in range(count)]
    texts = iter(draw(st.lists(TEXT, min_size=sum(wanted), max_size=sum(wanted), unique=True)))
    examples = []
    for size in wanted:
        query, *passages = (next(texts) for _ in range(size))
        cut = len(passages) - negatives
        examples.append(Example(query=query, pos=passages[:cut], neg=passages[cut:]))
    return examples


def read(name: str, path: Path) -> list[Example]:
    return list(FORMATS[name].read(path))


def target(folder: Path, name: str, suffix: str = ".jsonl") -> Path:
    return folder / (name if name == "beir" else f"{name}{suffix}")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("name", ["native", "tevatron"])
@FAST
@given(examples=st.lists(any_example(), min_size=1, max_size=4))
def test_formats_that_hold_all(tmp_path_factory, name, suffix, examples):
    path = target(tmp_path_factory.mktemp("all"), name, suffix)
    assert [FORMATS[name].lost(example) for example in examples] == [[]] * len(examples)
    assert FORMATS[name].write(path, examples) == len(examples)
    assert read(name, path) == examples


DEFAULTS = {each.name: Example(query="q", pos=["p"]).__getattribute__(each.name) for each in fields(Example)}


@pytest.mark.parametrize("name", ["sentence-transformers", "ms-swift", "beir"])
@FAST
@given(example=any_example())
def test_what_is_not_reported_lost_is_there_again(tmp_path_factory, name, example):
    if name == "beir":  # of a passage given twice one judgement is left; ids are words; the best come first
        ids = example.id if example.id and example.id.split() == [example.id] else None
        pos = list(dict.fromkeys(example.pos))
        neg = [text for text in dict.fromkeys(example.neg) if text not in pos]
        example = replace(example, pos=pos, neg=neg, pos_scores=None, neg_scores=None, id=ids)
    path = target(tmp_path_factory.mktemp("lossy"), name)
    FORMATS[name].write(path, [example])
    (found,) = read(name, path)
    for field in {*DEFAULTS} - {*FORMATS[name].lost(example)}:
        if name == "beir" and getattr(example, field) == DEFAULTS[field]:
            continue  # a folder gives ids, grades and a source to what had none
        if name == "beir" and field == "meta":
            assert example.meta.keys() <= found.meta.keys()
            continue
        assert getattr(found, field) == getattr(example, field), field


@pytest.mark.parametrize(("first", "second"), [*permutations(FORMATS, 2)])
@settings(FAST, max_examples=15)
@given(examples=plain_examples())
def test_there_and_back_between_any_two_formats(tmp_path_factory, first, second, examples):
    def content(found: list[Example]) -> list[tuple[Any, ...]]:
        return [(each.query, each.pos, each.neg) for each in found]

    folder = tmp_path_factory.mktemp("pair")
    start, there, back = target(folder, first), target(folder, second), target(folder / "back", first)
    FORMATS[first].write(start, examples)
    convert(start, there, source_format=first, target_format=second)
    convert(there, back, target_format=first)
    assert content(read(second, there)) == content(examples)
    assert content(read(first, back)) == content(examples)
    assert {path.name for path in folder.iterdir()} == {start.name, there.name, "back"}


@pytest.mark.parametrize("name", FORMATS)
def test_an_instruction_goes_where_the_format_has_a_place(tmp_path, name):
    example = Example(query="医保怎么报销", pos=["带上发票和医保卡。"], prompt="找出回答问题的段落\n第二行")
    path = target(tmp_path, name)
    FORMATS[name].write(path, [example])
    (found,) = read(name, path)
    held = "prompt" not in FORMATS[name].lost(example)
    assert held == (name in ("native", "tevatron", "ms-swift"))
    assert found.prompt == (example.prompt if held else None)


def test_grades_ids_splits_and_titles_of_a_retrieval_set_reach_the_examples(tmp_path):
    data = RetrievalSet(
        name="set",
        corpus={
            "d1": Passage(text="正文一", title="题目"),
            "d2": Passage(text="正文二"),
            "d3": Passage(text="正文三"),
        },
        queries={"q1": "问题一", "q2": "问题二"},
        qrels={"dev": {"q1": {"d1": 1, "d2": 3, "d3": 0}}, "test": {"q2": {"d3": 1}}},
    )
    write_beir(tmp_path / "set", data)
    report = convert(tmp_path / "set", tmp_path / "set.jsonl")
    assert (report["from"], report["to"], report["read"]) == ("beir", "native", 2)
    one, two = read_examples(tmp_path / "set.jsonl")
    assert (one.id, one.pos, one.pos_scores) == ("q1", ["正文二", "题目 正文一"], [3.0, 1.0])
    assert one.neg == ["正文三"]
    assert one.meta == {"split": "dev", "pos_ids": ["d2", "d1"], "neg_ids": ["d3"]}
    assert two.meta["split"] == "test"
    convert(tmp_path / "set.jsonl", tmp_path / "again")
    assert read_beir(tmp_path / "again").qrels == data.qrels


@FAST
@given(data=st.data())
def test_retrieval_sets(tmp_path_factory, data):
    word = st.text("abc你好-9", min_size=1, max_size=6)
    corpus = data.draw(
        st.dictionaries(word, st.builds(Passage, text=TEXT, title=st.text(max_size=5)), min_size=1, max_size=5)
    )
    queries = data.draw(st.dictionaries(word, TEXT, min_size=1, max_size=4))
    grades = st.dictionaries(st.sampled_from(sorted(corpus)), st.integers(-1, 3), min_size=1).filter(
        lambda judged: max(judged.values()) >= 1
    )
    judged = st.dictionaries(st.sampled_from(sorted(queries)), grades, min_size=1)
    qrels = data.draw(st.dictionaries(st.sampled_from(["train", "dev", "测试"]), judged, min_size=1))
    written = RetrievalSet(name="set", corpus=corpus, queries=queries, qrels=qrels)
    folder = tmp_path_factory.mktemp("beir") / "set"
    write_beir(folder, written)
    assert read_beir(folder) == written


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_equal_examples_give_equal_bytes(tmp_path, suffix):
    examples = [Example(query=f"问题{n}", pos=["甲", "乙"], meta={"rank": n}) for n in range(50)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_examples(tmp_path / name / f"x{suffix}", examples)
    assert (tmp_path / "a" / f"x{suffix}").read_bytes() == (tmp_path / "b" / f"x{suffix}").read_bytes()
