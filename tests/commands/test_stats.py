from __future__ import annotations

import json

import pytest

from zhihui import progress
from zhihui.records import Example, Passage, RetrievalSet, write_beir, write_examples


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "[bold].jsonl"  # no markup
    write_examples(
        path,
        [
            Example(query="怎么退税", pos=["在手机上申请退税。"], source="税务"),
            Example(query="怎麼退稅", pos=["在手機上申請退稅。"], neg=["今天天气很好。"]),
        ],
    )
    return path


def test_a_table_for_people(zhihui, examples):
    done = zhihui("stats", examples)
    assert done.status == 0
    assert f"{examples}: 2 rows" in done.out
    assert "source 税务: 1 rows" in done.out
    assert "source (none): 1 rows" in done.out
    assert "pairs of query and positive: 2, of them repeated: 0" in done.out
    assert "50.0%" in done.out
    assert done.err == ""


def test_json_for_machines(zhihui, examples):
    done = zhihui("stats", examples, "--json")
    assert done.status == 0
    assert json.loads(done.out)["queries"]["script"]["traditional"] == 0.5


def test_many_sources_are_cut_short(zhihui, tmp_path):
    rows = [Example(query="问", pos=["答"], source=f"来源{n}") for n in range(25)]
    write_examples(tmp_path / "a.jsonl", rows)
    done = zhihui("stats", tmp_path / "a.jsonl")
    assert "and 5 sources more" in done.out
    assert len(json.loads(zhihui("stats", tmp_path / "a.jsonl", "--json").out)["sources"]) == 25


def test_a_retrieval_set(zhihui, tmp_path):
    data = RetrievalSet(
        name="set",
        corpus={"d": Passage(text="正文")},
        queries={"q": "问题"},
        qrels={"test": {"q": {"d": 1}}},
    )
    write_beir(tmp_path / "set", data)
    done = zhihui("stats", tmp_path / "set")
    assert done.status == 0
    assert "split test: 1 rows" in done.out


def test_unusable_rows_stop_or_are_counted(zhihui, examples):
    with examples.open("a") as stream:
        stream.write("{}\n")
    done = zhihui("stats", examples)
    assert done.status == 2
    assert done.err.startswith(f"zhihui: {examples}:3: no key 'query'")
    assert done.err.count("\n") == 1
    done = zhihui("stats", examples, "--on-error", "quarantine")
    assert done.status == 0
    assert "left out: 1 rows (missing_key)" in done.out


def test_missing_input(zhihui, tmp_path):
    done = zhihui("stats", tmp_path / "none")
    assert (done.status, done.err) == (2, f"zhihui: {tmp_path}/none: no such file or folder\n")


def test_without_opencc_the_scripts_are_left_out(zhihui, examples, monkeypatch):
    import sys

    from zhihui.records.script import script_table

    script_table.cache_clear()
    monkeypatch.setitem(sys.modules, "opencc", None)
    done = zhihui("stats", examples)
    assert done.status == 0
    assert "pip install 'zhihui[mine]'" in done.out


@pytest.fixture(autouse=True)
def bars_as_before():
    yield
    progress.quiet(False)


def test_a_page_to_look_at(zhihui, examples, tmp_path):
    done = zhihui("stats", examples, "--html", tmp_path / "page.html", "--samples", 1, "--seed", 5)
    assert (done.status, done.err) == (0, "")
    assert f"page: {tmp_path / 'page.html'}" in done.out
    page = (tmp_path / "page.html").read_text()
    assert "<h1>[bold].jsonl</h1>" in page
    assert page.count("<article") == 1
    assert "drawn with seed 5" in page


def test_a_page_of_rows_with_faults_counts_them_once(zhihui, examples, tmp_path):
    with examples.open("a") as stream:
        stream.write("{}\n")
    done = zhihui("stats", examples, "--html", tmp_path / "page.html", "--on-error", "quarantine", "--json")
    assert json.loads(done.out)["rejected"] == {"missing_key": 1}
    assert (tmp_path / "page.html").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "3"], "name it with --html"),
        (["--seed", "3"], "name it with --html"),
        (["--html", "."], "folder"),
    ],
    ids=["samples", "seed", "folder"],
)
def test_options_of_the_page_need_a_page(zhihui, examples, options, message):
    done = zhihui("stats", examples, *options)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert message in done.err
