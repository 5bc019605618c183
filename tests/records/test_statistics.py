from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.records import Example, Passage, RejectLog, RetrievalSet, write_beir, write_examples
from zhihui.records.distribution import Distribution
from zhihui.records.script import script_table
from zhihui.records.statistics import collect


@given(values=st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_a_distribution_summarises_its_values(values):
    counted = Distribution()
    for value in values:
        counted.add(value)
    found, ordered = counted.summary(), sorted(values)
    assert found["mean"] == round(statistics.fmean(values), 2)
    assert found["max"] == max(values)
    for percent in (5, 50, 95):
        assert found[f"p{percent}"] == ordered[-(-len(values) * percent // 100) - 1]


def test_an_empty_distribution_has_no_summary():
    assert Distribution().summary() is None


def test_examples(tmp_path):
    write_examples(
        tmp_path / "a.jsonl",
        [
            Example(query="痛", pos=["多喝水，多休息。"], source="门诊"),
            Example(
                query="痛",
                pos=["多喝水，多休息。", "去醫院檢查。"],
                neg=["。。。", "去醫院檢查。"],
                source="门诊",
            ),
            Example(query="what is RAG", pos=["!" * 100 + "检索增强生成"]),
        ],
    )
    found = collect(tmp_path / "a.jsonl")
    assert (found["kind"], found["rows"], found["sources"]) == ("examples", 3, {"门诊": 2, "": 1})
    assert found["queries"]["count"] == 3
    assert found["queries"]["duplicates"] == 1
    assert found["queries"]["near_empty"] == 2
    assert found["queries"]["script"] == {
        "simplified": 0.0,
        "traditional": 0.0,
        "mixed": 0.0,
        "shared": 0.6667,
        "none": 0.3333,
    }
    assert found["passages"]["count"] == 6
    assert found["passages"]["near_empty"] == 1
    assert found["passages"]["chars"]["max"] == 106
    assert found["passages"]["tokens"] is None
    assert found["pairs"] == {"count": 4, "duplicates": 1}
    assert found["per_row"]["negatives"]["max"] == 2
    assert found["negative_is_positive"] == 1


def test_a_retrieval_set(tmp_path):
    data = RetrievalSet(
        name="set",
        corpus={f"d{n}": Passage(text=f"第{n}段正文", title="题") for n in range(5)},
        queries={"q1": "问题一", "q2": "问题二", "q3": "没有人判断"},
        qrels={"dev": {"q1": {"d0": 1}}, "test": {"q2": {"d1": 1, "d2": 2, "d3": 0}}},
    )
    write_beir(tmp_path / "set", data)
    found = collect(tmp_path / "set")
    assert (found["kind"], found["rows"], found["splits"]) == ("beir", 2, {"dev": 1, "test": 1})
    assert (found["queries"]["count"], found["passages"]["count"], found["pairs"]["count"]) == (3, 5, 3)
    assert found["per_row"]["negatives"]["max"] == 1


def test_tokens_are_counted_bare(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {token: number for number, token in enumerate(["[UNK]", "[CLS]", "感", "冒", "药"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write_examples(tmp_path / "a.jsonl", [Example(query="感冒药", pos=["药"])] * 600)
    found = collect(tmp_path / "a.jsonl", tokenizer=tmp_path)
    assert found["queries"]["tokens"] == {"mean": 3.0, "p5": 3, "p50": 3, "p95": 3, "max": 3}
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer"):
        collect(tmp_path / "a.jsonl", tokenizer=tmp_path)
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        collect(tmp_path / "a.jsonl", tokenizer=tmp_path / "none")


def test_unusable_rows_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"query": "问", "pos": ["答"]}\n{}\n[]\n{"query": "问"}\n')
    found = collect(tmp_path / "a.jsonl", rejects=RejectLog(None))
    assert found["rows"] == 1
    assert found["rejected"] == {"missing_key": 2, "not_object": 1}


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("这个电脑坏了", "simplified"),
        ("這個電腦壞了", "traditional"),
        ("这个電腦坏了，該怎么办", "mixed"),
        ("皇后在里中走", "shared"),
        ("hello, 123", "none"),
        ("", "none"),
    ],
)
def test_scripts(text, script):
    assert script_table().of(text) == script
