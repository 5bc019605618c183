"""`zhihui chunk`: from documents to a corpus."""

from __future__ import annotations

import json

import pytest

from zhihui import progress


@pytest.fixture(autouse=True)
def _bars_as_before():
    yield
    progress.quiet(False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# 退税\n\n在手机上可以申请退税。三个工作日以内到账。\n")
    (tmp_path / "docs" / "b.bin").write_bytes(b"\0")
    return tmp_path / "docs"


def test_what_was_done_is_said(zhihui, folder, tmp_path):
    done = zhihui("chunk", folder, "--out", tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    assert f"{tmp_path / 'out' / 'corpus.jsonl'}: 1 passages of 1 documents" in done.out
    assert "characters a passage (5 / 50 / 95 %, max): 21 / 21 / 21, 21" in done.out
    assert "set aside: 1 (unknown_format)" in done.out


def test_options_reach_the_stage(zhihui, folder, tmp_path):
    options = ["--tokens", "32", "--overlap", "0", "--least", "3", "--min-chinese", "0.2", "--script", "any"]
    options += ["--fold", "traditional", "--nfkc", "--repeated", "0.9", "--no-join", "--field", "text", "--json"]
    shown = json.loads(zhihui("chunk", folder, "--out", tmp_path / "out", *options).out)
    assert shown["manifest"]["config"] == {
        "size": 32,
        "overlap": 0,
        "least": 3,
        "min_chinese": 0.2,
        "script": "any",
        "fold": "traditional",
        "nfkc": True,
        "repeated": 0.9,
        "join": False,
        "field": "text",
    }
    (row,) = map(json.loads, (tmp_path / "out" / "corpus.jsonl").read_text().splitlines())
    assert row["text"] == "在手機上可以申請退稅。三個工作日以內到賬。"


def test_a_mistake_is_one_line(zhihui, folder, tmp_path):
    done = zhihui("chunk", folder, "--out", tmp_path / "out", "--size", "3")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "size 3 is too small" in done.err
    assert not (tmp_path / "out").exists()
