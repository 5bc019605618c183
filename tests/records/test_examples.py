from __future__ import annotations

import re

import pytest

from zhihui.errors import InputError
from zhihui.records import BadRow, Example, RejectLog, example_files, read_examples, write_examples
from zhihui.records.formats import FORMATS, guess_source

ROW = {"query": "问", "pos": ["答"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query": None}, "query is null; write a string"),
        ({"query": 3}, "query is a number"),
        ({"pos": "答"}, "pos is a string; write a list of strings"),
        ({"pos": ["答", None]}, "pos[1] is null"),
        ({"neg": ["\t"]}, "neg[0] is blank"),
        ({"neg": {}}, "neg is an object"),
        ({"pos_scores": ["1"]}, "pos_scores[0] is '1'; write a finite number"),
        ({"pos_scores": [True]}, "pos_scores[0] is True"),
        ({"pos_scores": [10**400]}, "write a finite number"),
        ({"neg_scores": [1]}, "neg_scores has 1 scores for 0 passages"),
        ({"neg_scores": 1}, "neg_scores is a number; write a list of numbers"),
        ({"prompt": ["x"]}, "prompt is a list"),
        ({"id": 1.5}, "id is a number"),
        ({"meta": []}, "meta is a list; write an object"),
    ],
)
def test_faults_name_the_place_and_the_mend(changes, words):
    with pytest.raises(BadRow, match=re.escape(words)) as error:
        Example.from_row({**ROW, **changes}, where="data.jsonl:7")
    assert str(error.value).startswith("data.jsonl:7: ")


def test_null_is_absent_an_integer_is_an_id_and_unknown_keys_are_kept():
    row = {**ROW, "neg": None, "pos_scores": None, "id": 12, "topic": None, "extra": {"k": 1}}
    example = Example.from_row(row, where="x:1")
    assert (example.neg, example.pos_scores, example.id) == ([], None, "12")
    assert example.to_row() == {**ROW, "id": "12", "topic": None, "extra": {"k": 1}}


def test_an_empty_prompt_is_kept():
    assert Example.from_row({**ROW, "prompt": ""}, where="x:1").to_row()["prompt"] == ""


def test_extra_cannot_hide_a_key():
    with pytest.raises(InputError, match="'neg', which is a key of its own"):
        Example(query="问", pos=["答"], extra={"neg": []})


def test_a_folder_is_read_in_the_order_of_names_without_rejects(tmp_path):
    for name in (
        "b.jsonl",
        "a.parquet",
        "c.jsonl.gz",
        "rejected.jsonl",
        "a.jsonl.rejected.jsonl",
        ".x.jsonl",
    ):
        write_examples(tmp_path / name, [Example(query=name, pos=["答"])])
    (tmp_path / "README.md").write_text("")
    (tmp_path / "sub.jsonl").mkdir()
    assert [file.name for file in example_files(tmp_path)] == ["a.parquet", "b.jsonl", "c.jsonl.gz"]
    assert [example.query for example in read_examples(tmp_path)] == ["a.parquet", "b.jsonl", "c.jsonl.gz"]


def test_folders_without_examples(tmp_path):
    with pytest.raises(InputError, match="holds no"):
        list(read_examples(tmp_path))
    (tmp_path / "qrels").mkdir()
    with pytest.raises(InputError, match="is a BEIR folder"):
        list(read_examples(tmp_path))
    with pytest.raises(InputError, match="no such file or folder"):
        list(read_examples(tmp_path / "none"))


# --------------------------------------------------------------------------- formats


def read(tmp_path, name: str, *lines: str) -> list[Example]:
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines))
    return list(FORMATS[name].read(path))


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("sentence-transformers", '{"anchor": "a"}', "no column 'positive'"),
        ("sentence-transformers", '{"anchor": "a", "positive": ["b"]}', "pos[0] is a list"),
        ("sentence-transformers", '{"anchor": "a", "positive": "b", "query": "c"}', "key 'query' says again"),
        ("tevatron", '{"query": "a"}', "no key 'positive_passages'"),
        ("tevatron", '{"query": "a", "positive_passages": "b"}', "must be a list of passages"),
        ("tevatron", '{"query": "a", "positive_passages": [{"docid": 1}]}', "positive_passages[0] must be"),
        ("tevatron", '{"query": "a", "positive_passages": [{"text": "b", "title": 1}]}', ".title must be"),
        (
            "tevatron",
            '{"query": "a", "positive_passages": [{"text": "b"}], "neg": []}',
            "key 'neg' says again",
        ),
        ("ms-swift", '{"messages": []}', "no key 'positive_messages'"),
        ("ms-swift", '{"messages": [], "positive_messages": []}', "messages must be"),
        (
            "ms-swift",
            '{"messages": [{"role": "user", "content": "a"}], "positive_messages": 1}',
            "list of lists",
        ),
        (
            "ms-swift",
            '{"messages": [{"role": "user", "content": 1}], "positive_messages": []}',
            "messages must be",
        ),
        (
            "ms-swift",
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],'
            ' "positive_messages": []}',
            "messages must be",
        ),
        (
            "ms-swift",
            '{"messages": [{"role": "user", "content": "a"}], "positive_messages":'
            ' [[{"role": "system", "content": "b"}, {"role": "user", "content": "c"}]]}',
            "carry no instruction",
        ),
    ],
)
def test_faults_of_each_format(tmp_path, name, line, words):
    with pytest.raises(BadRow, match=re.escape(words)) as error:
        read(tmp_path, name, line)
    assert str(error.value).startswith(f"{tmp_path}/in.jsonl:1: ")
    rejects = RejectLog(None)
    assert list(FORMATS[name].read(tmp_path / "in.jsonl", rejects=rejects)) == []
    assert rejects.counts.total() == 1


def test_graded_rows_of_one_query_stay_apart(tmp_path):
    row = '{"anchor": "a", "positive": "%s", "pos_scores": [%d]}'
    found = read(tmp_path, "sentence-transformers", row % ("b", 1), row % ("c", 1), row % ("d", 2))
    assert [(each.pos, each.pos_scores) for each in found] == [(["b"], [1]), (["c"], [1]), (["d"], [2])]


def test_columns_of_negatives_come_in_the_order_of_their_numbers(tmp_path):
    negatives = '"negative_10": "d", "negative_2": "c", "negative_3": null'
    line = f'{{"anchor": "a", "positive": "b", {negatives}, "lang": "zh"}}'
    (found,) = read(tmp_path, "sentence-transformers", line)
    assert found.neg == ["c", "d"]
    assert found.extra == {"lang": "zh"}


def test_titles_and_ids_of_tevatron(tmp_path):
    (found,) = read(
        tmp_path,
        "tevatron",
        '{"query_id": 7, "query": "a", "positive_passages": [{"docid": "d1", "title": "题", "text": "文"}]}',
    )
    assert (found.id, found.pos, found.meta) == ("7", ["题 文"], {"pos_ids": ["d1"]})


def test_formats_are_told_by_their_keys(tmp_path):
    examples = [Example(query="问", pos=["答"], neg=["否"])]
    for name in ("native", "sentence-transformers", "tevatron", "ms-swift"):
        path = tmp_path / f"{name}.jsonl"
        FORMATS[name].write(path, examples)
        assert guess_source(path).name == name
    both = tmp_path / "both.jsonl"
    both.write_text('{"query": "a", "pos": ["b"], "anchor": "c", "positive": "d"}')
    with pytest.raises(InputError, match=r"both\.jsonl:1: the keys fit native and sentence-transformers; pass --from"):
        guess_source(both)
