"""The files of a comparison: one page with everything in it, drawings true to the numbers, the same bytes again."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pages import Page
from run_folders import Scores, write_run

from zhihui.errors import InputError
from zhihui.evaluation.compare import compare
from zhihui.evaluation.compare_charts import average_bars, heat_map, set_bars, standalone
from zhihui.evaluation.compare_runs import read_run
from zhihui.evaluation.compare_stage import compare_files
from zhihui.evaluation.compare_tables import make_table
from zhihui.records import Passage, RetrievalSet, write_beir
from zhihui.runs import fingerprint_path, read_json

SCORES: Scores = {
    "alpha": {"bm25": [0.2, 0.4, 0.6], "模型<m>": [0.4, 0.8, 0.0]},
    "beta": {"bm25": [0.1, 0.3], "模型<m>": [0.9, 0.7]},
}


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", SCORES)


def svg_of(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def test_the_page_says_all_and_fetches_nothing(run, tmp_path):
    compare_files([run], tmp_path / "out")
    source = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    for part in ("2 systems on 2 sets", "模型<m>", "20.00", "80.00", "Heat map", "Differences, query by query"):
        assert part in page.text
    assert "Ids stand for the texts of alpha, beta" in page.text
    assert page.tags.count("svg") == 3
    assert page.addresses == []
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?://", source)
    assert "prefers-color-scheme: dark" in source


def test_the_same_runs_give_the_same_bytes_and_are_not_compared_twice(run, tmp_path):
    for name in ("a", "b"):
        compare_files([run], tmp_path / name, png=True)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [
        *("averages.png", "averages.svg", "heat.png", "heat.svg", "manifest.json", "queries.jsonl"),
        *("report.html", "results.json", "sets.svg", "table.md"),
    ]
    for file in files:
        if file != "manifest.json":
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert compare_files([run], tmp_path / "a", png=True).reused
    with pytest.raises(InputError, match=r"other settings \(seed\); choose another folder, or pass --overwrite"):
        compare_files([run], tmp_path / "a", png=True, seed=1)


def test_texts_are_shown_of_the_version_that_was_measured_only(tmp_path):
    data = RetrievalSet(
        name="alpha",
        corpus={key: Passage(text=f"讲{key}的段落") for key in ("p0", "p1", "p2", "p-other")},
        queries={f"q{number}": f"第{number}个问题" for number in range(3)},
        qrels={"test": {f"q{number}": {f"p{number}": 1} for number in range(3)}},
    )
    write_beir(tmp_path / "alpha", data)
    measured = {"alpha": fingerprint_path(tmp_path / "alpha")}
    run = write_run(tmp_path / "run", {"alpha": SCORES["alpha"]}, sets=measured)
    compare_files([run], tmp_path / "out", data=[tmp_path / "alpha"])
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "讲p-other的段落" in text
    assert "Ids stand for" not in text
    other = write_run(tmp_path / "other", {"alpha": SCORES["alpha"]})
    with pytest.raises(InputError, match="alpha: not the version of alpha that was measured"):
        compare_files([other], tmp_path / "refused", data=[tmp_path / "alpha"])
    stray = write_run(tmp_path / "stray", {"beta": SCORES["beta"]})
    with pytest.raises(InputError, match="--data holds alpha, and the runs share beta"):
        compare_files([stray], tmp_path / "refused", data=[tmp_path / "alpha"])
    assert not (tmp_path / "refused").exists()


def test_every_query_is_written(run, tmp_path):
    compare_files([run], tmp_path / "out")
    assert len((tmp_path / "out" / "queries.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    assert read_json(tmp_path / "out" / "results.json")["systems"]["bm25"]["average"]["value"] == pytest.approx(0.3)


def test_the_heat_map_shades_each_column_from_low_to_high(run):
    drawing = svg_of(heat_map(make_table(compare([read_run(run)]))))
    shades = [float(cell.attrib["style"].split(":")[1]) for cell in drawing.iter("rect")]
    # Rows: the model (0.4, 0.8, 0.6), then BM25 (0.4, 0.2, 0.3); equal scores are both highest.
    assert shades == [pytest.approx(value) for value in (0.5, 0.5, 0.5, 0.5, 0.04, 0.04)]
    texts = [text.text for text in drawing.iter("text")]
    assert {"40.00", "80.00", "60.00", "20.00", "30.00"} <= set(texts)


def test_bars_are_as_long_as_their_values(run):
    table = make_table(compare([read_run(run)]))
    widths = [float(bar.attrib["width"]) for bar in svg_of(average_bars(table)).iter("rect")]
    assert widths[0] / widths[1] == pytest.approx(0.6 / 0.3, rel=0.01)
    heights = [float(bar.attrib["height"]) for bar in svg_of(set_bars(table)).iter("rect")]
    assert heights[2] / heights[3] == pytest.approx(0.8 / 0.2, rel=0.01)


def test_one_set_needs_no_bars_of_its_own(tmp_path):
    run = write_run(tmp_path / "run", {"alpha": SCORES["alpha"]})
    assert set_bars(make_table(compare([read_run(run)]))) == ""
    compare_files([run], tmp_path / "out")
    assert not (tmp_path / "out" / "sets.svg").exists()


def test_a_drawing_alone_is_a_whole_file(run, tmp_path):
    drawing = standalone(heat_map(make_table(compare([read_run(run)]))))
    assert svg_of(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in drawing
    (Path(tmp_path) / "heat.svg").write_text(drawing, encoding="utf-8")
    assert ElementTree.parse(tmp_path / "heat.svg").getroot().attrib["role"] == "img"
