"""The data engine in the quickstart's report: real decisions of each method, the same in every run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from zhihui.quickstart import QuickstartConfig, pipeline, quickstart
from zhihui.quickstart.engine import add_section, run_engine
from zhihui.quickstart.shown import Engine
from zhihui.records import read_examples, read_rows
from zhihui.records.shipped import ENGINE

REPORT = "<html><body><main>\n<h1>Report</h1>\n</main>\n</body></html>\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs") / "engine"


@pytest.fixture(scope="module")
def engine(run: Path) -> Engine:
    return run_engine(run)


def section(engine: Engine, folder: Path) -> str:
    report = folder / "report.html"
    report.write_text(REPORT, encoding="utf-8")
    add_section(report, engine)
    return report.read_text(encoding="utf-8")


def test_each_stage_is_counted(engine):
    assert [(step.name, step.wanted, step.accepted, step.answers) for step in engine.steps] == [
        ("queries", 80, 64, 40),
        ("topics", 50, 50, 5),
        ("triplets", 12, 12, 13),
        ("label", 12, 12, 24),
        ("refine", 40, 38, 79),
        ("rewrite", 15, 14, 42),
    ]
    assert (engine.examples, engine.contaminated) == (64, 0)


def test_a_passage_is_shown_with_its_queries_kept_and_refused(engine):
    (_, whole), (_, mixed) = engine.passages
    assert [query.accepted for query in whole] == [True, True]
    assert sorted(query.accepted for query in mixed) == [False, True]
    assert "the passage is not among the first 5" in next(query.verdict for query in mixed if not query.accepted)


def test_refined_examples_show_every_fate(engine):
    fates = {(one.was, one.to, one.why) for example in engine.refined for one in example.passages}
    assert {("neg", "pos", "promoted"), ("pos", "neg", "demoted"), ("neg", "removed", "borderline")} <= fates
    assert [example.kept for example in engine.refined] == [True, True, False]
    for example in engine.refined:
        for one in example.passages:
            assert (one.to == "pos") == (one.grade >= 3), one
            assert (one.to == "neg") == (one.grade <= 1.5), one


def test_rewritten_queries_are_new_and_their_grades_part_positives_from_negatives(engine):
    assert len(engine.rewritten) == 3
    for example in engine.rewritten:
        assert example.original
        assert example.original != example.query
        assert all(one.grade >= 3 if one.was == "pos" else one.grade < 2 for one in example.passages)


def test_a_document_in_pieces_is_the_document_and_its_coloured_pieces_are_the_positives(engine, run):
    (shown,) = engine.documents
    row = next(iter(read_rows(ENGINE / "documents.jsonl"))).data
    assert "".join(text for _, text in shown.pieces) == row["text"]
    assert [topic.colour for topic in shown.topics] == ["t1", "t2", "t3", "t4", "t5"]
    coloured = {text for colour, text in shown.pieces if colour}
    own = [one for one in read_examples(run / "topics" / "train.jsonl") if one.meta["document"] == row["_id"]]
    assert coloured == {line for example in own for line in example.pos[0].split("\n")}
    assert [query for topic in shown.topics for query in topic.queries] == [example.query for example in own]
    assert 0.8 < shown.coverage < 1


def test_the_section_stands_in_the_report_and_holds_what_is_shown(engine, tmp_path):
    page = section(engine, tmp_path)
    assert page.startswith("<html><body><main>\n<h1>Report</h1>\n")
    assert page.endswith("</section></main>\n</body></html>\n")
    assert not re.search(r'(src|href)="', page)
    for query in (
        engine.passages[0][1][0].text,
        engine.triplets[0].query,
        engine.refined[0].query,
        engine.rewritten[0].original,
        engine.documents[0].topics[-1].queries[-1],
    ):
        assert query in page


def test_the_same_run_gives_the_same_section(engine, run, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    again = run_engine(tmp_path / "engine")
    assert section(engine, tmp_path / "first") == section(again, tmp_path / "second")
    assert engine == run_engine(run), "a finished run is only looked at"


def test_texts_cannot_break_the_page(engine, tmp_path):
    hostile = replace(engine.rewritten[0], query="<script>alert(1)</script></main>")
    page = section(replace(engine, rewritten=[hostile]), tmp_path)
    assert "<script>" not in page
    assert page.count("</main>") == 1


def test_only_the_shipped_set_has_the_section(engine, folder, tmp_path, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    config = QuickstartConfig(shape="tiny", training_tokens=3000)
    monkeypatch.setattr(pipeline, "run_engine", lambda out: engine)
    monkeypatch.setattr(pipeline._Run, "start", stop)
    said: list[str] = []
    for data in (None, folder):
        with pytest.raises(KeyboardInterrupt):
            quickstart(tmp_path / "run", config, data=data, say=said.append)
    assert [("data engine" in line) for line in said] == [False, True, False]


@pytest.mark.slow
def test_a_quickstart_on_the_shipped_set_ends_with_the_section(engine, tmp_path):
    quickstart(tmp_path / "run", QuickstartConfig(shape="tiny", training_tokens=3000))
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count('<section class="engine" id="engine">') == 1
    assert engine.refined[0].query in page
    assert (tmp_path / "run" / "stages" / "engine" / "dedup" / "train.jsonl").is_file()
