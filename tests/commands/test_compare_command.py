"""`zhihui eval compare`, `eval slices` and `eval curves` from the command line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
import hub_mirror

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


@pytest.fixture
def mirror(tmp_path):
    """T2Retrieval, in which a passage with the query's id does not count, and DuRetrieval, in which it does."""
    folder = tmp_path / "mirror"
    return hub_mirror.newer(hub_mirror.older(folder, "T2Retrieval"), "DuRetrieval", form="jsonl")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_texts_of_a_task_come_from_its_mirror(zhihui, mirror, data, tmp_path):
    tasks = ("--task", "T2Retrieval", "--data-dir", mirror)
    assert zhihui("eval", *tasks, "--data", data, "--out", tmp_path / "a").status == 0
    plain = zhihui("eval", "compare", tmp_path / "a", "--out", tmp_path / "plain")
    assert plain.status == 0, plain.err
    shown = zhihui("eval", "compare", tmp_path / "a", "--mirror", mirror, "--data", data, "--out", tmp_path / "b")
    assert shown.status == 0, shown.err
    pages = {name: (tmp_path / name / "report.html").read_text(encoding="utf-8") for name in ("plain", "b")}
    for texts in (hub_mirror.QUERIES, QUERIES):
        assert any(text in pages["b"] for text in texts.values())
        assert not any(text in pages["plain"] for text in texts.values())
    assert "Ids stand for" in pages["plain"]
    assert "Ids stand for" not in pages["b"]
    other = hub_mirror.older(tmp_path / "other", "T2Retrieval", corpus={**hub_mirror.PASSAGES, "1": "另一段"})
    (tmp_path / "none").mkdir()
    for given, message in (
        (other, "other: holds another version of T2Retrieval than was measured; leave out --mirror"),
        (tmp_path / "none", "T2Retrieval"),
        (tmp_path / "nowhere", "nowhere: no such folder"),
    ):
        done = zhihui("eval", "compare", tmp_path / "a", "--mirror", given, "--out", tmp_path / "refused")
        assert (done.status, done.err.count("\n")) == (2, 1), done.err
        assert message in done.err
    assert not (tmp_path / "refused").exists()


def test_slices_and_curves_of_a_task_leave_out_the_passage_with_the_querys_id(zhihui, mirror, model, tmp_path):
    found = {}
    for task in ("T2Retrieval", "DuRetrieval"):
        chosen = ("--task", task, "--data-dir", mirror, "--json")
        slices = zhihui("eval", "slices", *chosen, "--out", tmp_path / f"slices-{task}")
        assert slices.status == 0, slices.err
        asked = ("--instruction", "问", "--device", "cpu")  # the tasks' own would fill the model's 32 tokens
        curves = zhihui("eval", "curves", model, *chosen, *asked, "--out", tmp_path / f"curves-{task}")
        assert curves.status == 0, curves.err
        found[task] = json.loads(slices.out), json.loads(curves.out)
        assert {(one["set_name"], one["split"]) for one in found[task]} == {(task, "dev")}
    dropped, kept = found["T2Retrieval"], found["DuRetrieval"]
    for left, all_of_it in zip(dropped[0]["slices"], kept[0]["slices"], strict=True):
        pair = [one["scores"]["bm25"]["value"]["value"] for one in (left, all_of_it)]
        if left["name"] in ("all queries", "small talk"):
            assert pair[0] > pair[1], f"{left['name']}: query 5 finds passage 5 before its answer, where it counts"
    assert dropped[1]["points"][0]["value"]["value"] > kept[1]["points"][0]["value"]["value"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "nowhere"), "nowhere: no such folder; give one that zhihui eval wrote"),
        (("compare", "small"), "small: not a finished run"),
        (("compare", "small", "--json", "--markdown"), "--json and --markdown exclude each other"),
        (("slices", "--data", "small", "--baseline", "none"), "nothing to measure; name a model"),
        (("slices", "--data", "small", "--split", "dev"), "small: no split 'dev'; there are: test"),
        (("slices",), "one set is measured, and none is named; give data, a BEIR folder, or a task of C-MTEB"),
        (("curves", "tiny", "--data", "small", "--task", "T2Retrieval"), "both small and T2Retrieval are named"),
        (("slices", "--task", "all"), "one set is measured, and all are 8; name one, such as T2Retrieval"),
        (("curves", "tiny", "--task", "T2Retreival"), "task 'T2Retreival' is unknown; did you mean T2Retrieval?"),
        (("slices", "--data", "small", "--data-dir", "small"), "name a task in place of data"),
        (("slices", "--task", "T2Retrieval", "--data-dir", "small"), "T2Retrieval"),
        (("curves", "tiny", "--data", "small", "--dimensions", "4"), "dimensions 4 is too short"),
        (("curves", "tiny", "--data", "small", "--dimensions", "512"), "dimensions 512 is more than the model's 64"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
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
    assert "zhihui eval slices [OPTIONS]" in " ".join(zhihui("eval", "slices", "--help").out.split())
