"""`zhihui eval compare`, `eval slices` and `eval curves` from the command line."""

from __future__ import annotations

import json
import shutil

import pytest

from zhihui import progress
from zhihui.encoder import EncoderSettings, build
from zhihui.encoder.export import export
from zhihui.records import Passage, RetrievalSet, write_beir

CORPUS = {
    "p1": "银杏叶子在深秋变黄，公园里到处都是拍照的游客。",
    "p2": "自行车链条生锈以后，可以先用除锈剂清洗再上油。",
    "p3": "豆浆要煮沸五分钟以上才能喝，没有煮熟会引起恶心。",
}
QUERIES = {"a": "豆浆煮多久才能喝", "b": "链条生锈怎么处理", "c": "哪里看银杏叶子"}


@pytest.fixture(autouse=True)
def bars_as_before():
    yield
    progress.quiet(False)


@pytest.fixture
def data(tmp_path):
    corpus = {key: Passage(text=text) for key, text in CORPUS.items()}
    qrels = {"test": {"a": {"p3": 1}, "b": {"p2": 1}, "c": {"p1": 1}}}
    write_beir(tmp_path / "small", RetrievalSet(name="small", corpus=corpus, queries=QUERIES, qrels=qrels))
    return tmp_path / "small"


@pytest.fixture
def model(tmp_path):
    settings = EncoderSettings(max_length=32, prompts={"query": "问：", "document": ""})
    export(build("tiny", [*CORPUS.values(), *QUERIES.values()], seed=0, settings=settings), tmp_path / "tiny")
    return tmp_path / "tiny"


def test_compares_what_eval_wrote(zhihui, data, model, tmp_path):
    assert zhihui("eval", "--data", data, "--out", tmp_path / "a").status == 0
    done = zhihui("eval", model, "--data", data, "--out", tmp_path / "b", "--device", "cpu", "--baseline", "none")
    assert done.status == 0, done.err
    out = tmp_path / "out"
    shown = zhihui("eval", "compare", tmp_path / "a", tmp_path / "b", "--data", data, "--out", out)
    assert shown.status == 0, shown.err
    assert "nDCG@10 × 100, small" in shown.out
    assert "may be chance" in shown.out
    assert f"report: {out / 'report.html'}" in shown.out.replace("\n", "")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert any(text in page for text in QUERIES.values())
    assert "Ids stand for" not in page
    taken = zhihui("eval", "compare", tmp_path / "a", tmp_path / "b", "--out", out)
    assert (taken.status, taken.err.count("\n")) == (2, 1)
    assert "holds a finished compare run with other inputs" in taken.err
    done = zhihui("eval", "compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "new", "--json")
    assert set(json.loads(done.out)["systems"]) == {"bm25", "tiny"}
    done = zhihui("eval", "compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "new", "--markdown")
    assert done.out.startswith("| system | small | average |\n")


def test_a_default_folder_is_made_anew_when_a_run_was(zhihui, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert zhihui("eval", "--data", data, "--out", "a").status == 0
    first = json.loads(zhihui("eval", "compare", "a", "--json").out)
    write = data / "queries.jsonl"
    write.write_text(write.read_text(encoding="utf-8").replace("豆浆煮多久才能喝", "公园里的游客"), encoding="utf-8")
    shutil.rmtree("a")
    assert zhihui("eval", "--data", data, "--out", "a").status == 0
    second = json.loads(zhihui("eval", "compare", "a", "--json").out)
    assert first["out"] == second["out"]
    assert first["systems"]["bm25"]["average"] != second["systems"]["bm25"]["average"]


def test_slices_and_curves_print_and_write(zhihui, data, model, tmp_path):
    done = zhihui("eval", "slices", model, "--data", data, "--out", tmp_path / "s", "--device", "cpu")
    assert done.status == 0, done.err
    assert "small talk" in done.out
    assert "tiny: reads 32 tokens, cuts 0.0% of the passages" in done.out
    again = zhihui("eval", "slices", model, "--data", data, "--out", tmp_path / "s", "--device", "cpu", "--json")
    assert json.loads(again.out)["systems"] == ["bm25", "tiny"]
    done = zhihui("eval", "curves", model, "--data", data, "--out", tmp_path / "c", "--dimensions", 32)
    assert done.status == 0, done.err
    assert "binary, rescored" in done.out
    assert (tmp_path / "c" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "nowhere"), "nowhere: no such folder; give one that zhihui eval wrote"),
        (("compare", "small"), "small: not a finished run"),
        (("compare", "small", "--json", "--markdown"), "--json and --markdown exclude each other"),
        (("slices", "--data", "small", "--baseline", "none"), "nothing to measure; name a model"),
        (("slices", "--data", "small", "--split", "dev"), "small: no split 'dev'; there are: test"),
        (("curves", "tiny", "--data", "small", "--dimensions", "4"), "dimensions 4 is too short"),
        (("curves", "tiny", "--data", "small", "--dimensions", "512"), "dimensions 512 is more than the model's 64"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_mistakes_are_one_line_and_leave_nothing(zhihui, data, model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = zhihui("eval", *arguments)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert message in done.err
    assert sorted(tmp_path.iterdir()) == before


def test_help_of_eval_names_its_variants(zhihui):
    assert "zhihui eval compare" in " ".join(zhihui("eval", "--help").out.split())
    assert "Usage: zhihui eval slices" in " ".join(zhihui("eval", "slices", "--help").out.split())
