"""`zhihui index`, `zhihui search` and `zhihui index export`: from documents to hits, and what is said on the way."""

from __future__ import annotations

import io
import json
import re

import pytest

from zhihui import progress
from zhihui.encoder import build
from zhihui.search import open_index

TEXTS = ["租房合同到期后，房东应当在七日内退还押金。", "高铁从北京到上海最快只要四个多小时。", "空调漏水先看排水管。"]


@pytest.fixture(autouse=True)
def _bars_as_before():
    yield
    progress.quiet(False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "model"
    encoder = build("tiny", TEXTS, seed=0)
    encoder.backbone.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def docs(tmp_path):
    root = tmp_path / "docs"
    root.mkdir()
    (root / "rent.md").write_text(f"# 租房\n\n{TEXTS[0]}\n")
    (root / "rows.jsonl").write_text(
        "".join(json.dumps({"text": t, "year": 2020 + n}) + "\n" for n, t in enumerate(TEXTS[1:]))
    )
    return root


@pytest.fixture
def index(zhihui, docs, model, tmp_path):
    done = zhihui("index", docs, "--model", model, "--out", tmp_path / "idx", "--device", "cpu")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{tmp_path / 'idx'}: 3 passages of 2 files\n  added 3, kept 0, removed 0; 3 encoded, ")
    return tmp_path / "idx"


def test_an_index_is_brought_up_to_date_with_its_own_settings(zhihui, docs, model, index):
    (docs / "clip.mp4").write_bytes(b"\0")
    (docs / "rows.jsonl").unlink()
    done = zhihui("index", docs, "--out", index)
    assert (done.status, done.err) == (0, "")
    assert "1 passages of 2 files\n  added 0, kept 1, removed 2; 0 encoded, " in done.out
    assert "  set aside: 1 (unknown_format); see rejected.jsonl in" in done.out
    assert "nothing changed" in zhihui("index", docs, "--out", index).out
    done = zhihui("index", docs, "--out", index, "--size", 64)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "was made with other settings (size 256 became 64); give the same ones, or --rebuild" in done.err
    options = ["--size", 64, "--overlap", 0, "--least", 2, "--whole", "--field", "text", "--backend", "flat"]
    options += ["--ann-from", 9, "--store-dtype", "float16", "--dimensions", 16, "--rebuild", "--json"]
    shown = json.loads(zhihui("index", docs, "--out", index, *options).out)
    config = shown["description"]["config"]
    assert {name: config["chunk"][name] for name in ("size", "overlap", "least", "field")} == {
        "size": 64,
        "overlap": 0,
        "least": 2,
        "field": "text",
    }
    own = {name: config[name] for name in ("whole", "backend", "ann_from", "store_dtype", "dimensions")}
    assert list(own.values()) == [True, "flat", 9, "float16", 16]


def test_hits_are_shown_with_their_scores(zhihui, index):
    for fusion, share, score in (("scores", 0.3, r"[01]\.[7-9]?\d{3,4}"), ("ranks", 0.5, r"0\.03\d\d")):
        options = ["--device", "cpu", "--top-k", 2, "--fusion", fusion, "--dense-share", share]
        done = zhihui("search", "房東怎麼退押金", "--index", index, *options)
        assert (done.status, done.err) == (0, "")
        first, text, *_ = done.out.splitlines()
        parts = r"dense -?0\.\d{4} \(#[123]\), bm25 0\.\d{4} \(#1\)"
        assert re.fullmatch(rf"1\. 租房  rent\.md@0  {score}: {parts}", first)
        assert text == f"   {TEXTS[0]}"
        assert done.out.count("\n") == 4


def test_matches_are_in_colour_on_a_terminal(zhihui, index, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    done = zhihui("search", "押金", "--index", index, "--mode", "bm25")
    assert "\x1b[1;33m押金\x1b[0m" in done.out


def test_json_gives_offsets_and_filters_are_kept(zhihui, index):
    options = ["--index", index, "--mode", "bm25", "--json", "--where", "year >= 2020", "--where", "year != 2021"]
    shown = json.loads(zhihui("search", "北京的空调押金", *options).out)
    assert shown["query"] == "北京的空调押金"
    (hit,) = shown["hits"]
    assert (hit["text"], hit["source"], hit["rank"]) == (TEXTS[1], "rows.jsonl", 1)
    assert [hit["text"][start:end] for start, end in hit["highlights"]] == ["北京"]
    assert hit["bm25"] == {"value": hit["score"], "rank": 1}
    assert hit["dense"] is hit["fused"] is None
    assert hit["metadata"] == {"document": "rows.jsonl:1", "headings": [], "year": 2020}


def test_a_query_is_cut_and_that_is_told(zhihui, index):
    done = zhihui("search", "押金怎么退" * 300, "--index", index, "--device", "cpu", "--top-k", 1)
    assert done.status == 0
    assert done.err.startswith("the query has ")
    assert done.err.endswith("tokens, the model reads 512 of them\n")


def test_queries_are_read_one_after_another(zhihui, index, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("押金\n\n空调\n量子力学\n"))
    done = zhihui("search", "--index", index, "--mode", "bm25")
    assert (done.status, done.err) == (0, "")
    assert [line.strip() for line in done.out.splitlines()[1::2]] == [TEXTS[0], TEXTS[2]]
    assert done.out.endswith("nothing found\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("押金\n空调\n"))
    lines = zhihui("search", "--index", index, "--mode", "bm25", "--json").out.splitlines()
    assert [json.loads(line)["query"] for line in lines] == ["押金", "空调"]


def test_a_terminal_is_asked_until_an_empty_line(zhihui, index, monkeypatch):
    typed = io.StringIO("押金\n\n空调\n")
    typed.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", typed)
    done = zhihui("search", "--index", index, "--mode", "bm25")
    assert done.err.startswith("3 passages; a query, or an empty line to end")
    assert TEXTS[0] in done.out
    assert TEXTS[2] not in done.out


def test_a_new_index_takes_the_shipped_model_unless_another_is_named(zhihui, docs, tmp_path):
    done = zhihui("index", docs, "--out", tmp_path / "new", "--device", "cpu")
    assert (done.status, done.err) == (0, "")
    hits = json.loads(
        zhihui("search", "退押金", "--index", tmp_path / "new", "--mode", "dense", "--json").out.splitlines()[0]
    )
    assert TEXTS[0] in json.dumps(hits, ensure_ascii=False)
    assert open_index(tmp_path / "new").description.model == "nano"


def test_an_index_is_exported(zhihui, index, tmp_path):
    done = zhihui("index", "export", index, tmp_path / "out", "--to", "qdrant")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{tmp_path / 'out'}: 3 passages, vectors of 64 numbers, for qdrant\n"
    assert len((tmp_path / "out" / "points.jsonl").read_text().splitlines()) == 3
    shown = json.loads(zhihui("index", "export", index, tmp_path / "out", "--to", "qdrant", "--json").out)
    assert shown["manifest"]["counts"] == {"passages": 3, "dimension": 64}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "none", "--out", "idx"], "none: no such file or folder"),
        (["index", "docs", "--out", "docs/idx"], "lies within docs"),
        (["index", "docs", "--out", "docs/rent.md"], "rent.md: lies within docs"),
        (["index", "docs", "--out", "model"], "model: exists and is not an index"),
        (["index", "docs", "--out", "idx", "--overlap", "-1"], "overlap -1 is negative"),
        (["search", "押金", "--index", "docs"], "docs: not an index; write one with zhihui index"),
        (["search", "押金", "--index", "none"], "none: no such index"),
        (["search", " ", "--index", "idx"], "the query is blank"),
        (["search", "押金", "--index", "idx", "--mode", "bm25", "--where", "yaer=1"], "did you mean year?"),
        (["search", "押金", "--index", "idx", "--mode", "bm25", "--top-k", "0"], "top_k is 0"),
        (["search", "押金", "--index", "idx", "--model", "none/at/all"], "no such model folder"),
        (["index", "export", "docs", "out", "--to", "faiss"], "docs: not an index"),
    ],
)
def test_a_mistake_is_one_line(zhihui, index, model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(model)
    done = zhihui(*arguments)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert message in done.err
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_gone_is_said(zhihui, docs, model, tmp_path):
    import shutil

    shutil.copytree(model, tmp_path / "copy")
    assert zhihui("index", docs, "--model", tmp_path / "copy", "--out", tmp_path / "idx").status == 0
    shutil.rmtree(tmp_path / "copy")
    for arguments in (["index", docs, "--out", tmp_path / "idx"], ["search", "押金", "--index", tmp_path / "idx"]):
        done = zhihui(*arguments)
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert "copy is not there any more; say where it is with --model" in done.err
    assert zhihui("search", "押金", "--index", tmp_path / "idx", "--model", model, "--device", "cpu").status == 0
