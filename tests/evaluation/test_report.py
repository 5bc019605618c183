"""The report: what it says, that it holds everything itself, and that nothing in it is taken for markup."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pages import Page

from zhihui.errors import InputError
from zhihui.evaluation import Bm25System, DenseSystem, HybridSystem, evaluate, sections
from zhihui.evaluation.bootstrap import Interval
from zhihui.evaluation.charts import Curve, interval_chart, line_charts, tick_texts, ticks_of
from zhihui.evaluation.report import write_report, write_results_json
from zhihui.evaluation.run import Evaluation
from zhihui.records import Passage, RetrievalSet
from zhihui.runs import read_json


@pytest.fixture
def evaluation(tiny: RetrievalSet, encoder: Any) -> Evaluation:
    bm25, dense = Bm25System(), DenseSystem(encoder)
    return evaluate(tiny, "test", [bm25, dense, HybridSystem.with_bm25(bm25, dense)])


def page_of(path: Path, **arguments: Any) -> Page:
    write_report(path, **{"title": "检索报告", **arguments})
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_holds_every_part(evaluation: Evaluation, tmp_path: Path) -> None:
    page = page_of(
        tmp_path / "report.html",
        evaluation=evaluation,
        curves=[
            Curve(label="loss", x=[0, 1, 2], y=[3.0, 2.0, 1.5]),
            Curve(label="bigrams", x=[0, 2], y=[0.1, 0.4], y_label="nDCG@10"),
            Curve(label="bm25", x=[0, 2], y=[0.3, 0.3], y_label="nDCG@10"),
        ],
        settings={"training": {"batch": 32}, "sources": ["甲", "乙"]},
        notes=["一句说明。"],
    )
    text = page.text
    for part in ("检索报告", "tiny (test): 7 queries, 24 passages", "一句说明。", "training.batch", "甲, 乙"):
        assert part in text
    for result in evaluation.systems:
        found = result.intervals["ndcg_at_10"]
        assert f"{found.value:.3f}" in text
        assert f"{found.low:.3f}–{found.high:.3f}" in text
    assert "loss by step" in text
    assert "nDCG@10 by step" in text
    assert page.tags.count("svg") == 3
    assert text.count("✓ relevant") > 0
    assert "not among the first 1,000" in text


def test_nothing_is_fetched(evaluation: Evaluation, tmp_path: Path) -> None:
    page = page_of(tmp_path / "report.html", evaluation=evaluation)
    assert page.addresses == []
    assert "script" not in page.tags
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://", source)
    assert "prefers-color-scheme: dark" in source


def test_texts_are_not_taken_for_markup(evaluation: Evaluation, tmp_path: Path) -> None:
    evil = "<script>alert('一')</script>&amp;"
    data = replace(
        evaluation.data,
        name=evil,
        corpus={key: Passage(text=evil, title=evil) for key in evaluation.data.corpus},
        queries=dict.fromkeys(evaluation.data.queries, evil),
    )
    systems = [replace(result, name=f"{evil}{place}") for place, result in enumerate(evaluation.systems)]
    page = page_of(
        tmp_path / "report.html",
        title=evil,
        evaluation=replace(evaluation, data=data, systems=systems),
        curves=[Curve(label=evil, x=[0, 1], y=[0, 1], x_label=evil, y_label=evil)],
        settings={evil: evil},
        notes=[evil],
    )
    assert "script" not in page.tags
    assert page.text.count(evil) > 10


def test_the_same_evaluation_gives_the_same_page(evaluation: Evaluation, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, title="t", evaluation=evaluation, seed=5)
    write_report(tmp_path / "c", title="t", evaluation=evaluation, seed=6)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_several_sets_are_averaged_and_listed(evaluation: Evaluation, tmp_path: Path) -> None:
    other = replace(evaluation, data=replace(evaluation.data, name="另一组"))
    page = page_of(tmp_path / "report.html", evaluation=[evaluation, other])
    assert "Average over 2 sets" in page.text
    assert "2 sets: 14 queries, 48 passages" in page.text
    assert "另一组: all measures" in page.text


def test_one_system_needs_no_comparison(evaluation: Evaluation, tmp_path: Path) -> None:
    page = page_of(tmp_path / "report.html", evaluation=replace(evaluation, systems=evaluation.systems[:1]))
    assert "vs bm25" not in page.text.split("Queries")[0].replace("“vs bm25”", "")
    high = evaluation.systems[0].intervals["ndcg_at_10"].high
    assert sections.headline([replace(evaluation, systems=evaluation.systems[:1])]).endswith(f"{high:.3f}).")


def with_scores(evaluation: Evaluation, *columns: list[float]) -> Evaluation:
    """The evaluation with other values of nDCG@10, the systems called a, b, ..."""
    systems = [
        replace(result, name=name, scores={**result.scores, "ndcg_at_10": np.array(column)})
        for name, result, column in zip("abc", evaluation.systems, columns, strict=False)
    ]
    return replace(evaluation, systems=systems)


def test_the_headline_names_the_best_and_doubts_small_differences(evaluation: Evaluation) -> None:
    clear = with_scores(evaluation, [0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1], [0.5, 0.7, 0.5, 0.7, 0.5, 0.7, 0.5])
    assert re.match(r"b reaches nDCG@10 0\.586 \(.*\): \+0\.443 over a \(\+0\.\d+ to", sections.headline([clear]))
    assert "chance" not in sections.headline([clear])
    assert [row.verdict for row in sections.system_rows([clear])] == ["unclear", "better"]
    back = with_scores(evaluation, [0.5, 0.7, 0.5, 0.7, 0.5, 0.7, 0.5], [0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1])
    assert sections.headline([back]).startswith("a reaches")
    assert "over b" in sections.headline([back])
    assert sections.system_rows([back])[1].verdict == "worse"
    close = with_scores(evaluation, [0.5, 0.7, 0.5, 0.7, 0.5, 0.7, 0.5], [0.7, 0.5, 0.7, 0.5, 0.7, 0.5, 0.7])
    assert sections.headline([close]).endswith("may be chance.")
    assert sections.system_rows([close])[1].verdict == "unclear"
    three = with_scores(evaluation, [0.1] * 7, [0.8] * 7, [0.7] * 7)
    assert "+0.700 over a" in sections.headline([three])


def test_samples_are_a_seeded_choice_and_the_worst(evaluation: Evaluation) -> None:
    scored = with_scores(evaluation, [0.9, 0.8, 0.0, 1.0, 0.7, 1.0, 0.1])
    queries = sections.sample_queries(scored, seed=1, drawn=2, worst=2)
    assert [query.why for query in queries] == ["drawn at random"] * 2 + ["among the worst of a"] * 2
    texts = [query.text for query in queries]
    assert len(set(texts)) == 4
    left = [
        (score, evaluation.data.queries[key])
        for key, score in zip(scored.query_ids, scored.systems[0].scores["ndcg_at_10"], strict=True)
        if evaluation.data.queries[key] not in texts[:2]
    ]
    assert texts[2:] == [text for _, text in sorted(left)[:2]]
    assert [query.text for query in sections.sample_queries(scored, seed=1, drawn=2, worst=0)] == texts[:2]
    perfect = with_scores(evaluation, [1.0] * 7)
    assert len(sections.sample_queries(perfect, drawn=2, worst=3)) == 2


def test_relevant_passages_are_marked_where_they_are(evaluation: Evaluation) -> None:
    for query in sections.sample_queries(evaluation, drawn=7, worst=0):
        key = next(key for key, text in evaluation.data.queries.items() if text == query.text)
        place = evaluation.query_ids.index(key)
        for ranking, result in zip(query.rankings, evaluation.systems, strict=True):
            marked = {shown.rank for shown in ranking.passages if shown.grade}
            assert marked == {rank for rank in result.found[place].ranks.values() if rank <= 5}
        for answer, relevant in zip(query.answers, evaluation.data.qrels["test"][key], strict=False):
            assert answer.ranks == [
                (result.name, result.found[place].ranks.get(relevant)) for result in evaluation.systems
            ]


def test_results_hold_value_low_and_high(evaluation: Evaluation, tmp_path: Path) -> None:
    write_results_json(tmp_path / "results.json", evaluation)
    found = read_json(tmp_path / "results.json")
    assert set(found) == {"bm25", "bigrams", "hybrid"}
    interval = evaluation.systems[0].intervals["recall_at_100"]
    expected = {"value": interval.value, "low": interval.low, "high": interval.high}
    assert found["bm25"]["recall_at_100"] == expected


def test_what_cannot_be_reported_is_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no evaluation"):
        write_report(tmp_path / "r", title="t", evaluation=[])
    fewer = replace(evaluation, systems=evaluation.systems[:1])
    with pytest.raises(InputError, match="different systems"):
        write_report(tmp_path / "r", title="t", evaluation=[evaluation, fewer])
    with pytest.raises(ValueError, match="2 x and 1 y"):
        Curve(label="c", x=[0, 1], y=[1])


# --------------------------------------------------------------------------- charts


def shapes(svg: str, tag: str) -> list[dict[str, str]]:
    return [dict(found.attrib) for found in ElementTree.fromstring(svg).iter(tag)]


def test_curves_with_the_same_axes_share_a_chart_and_colours_follow_the_systems() -> None:
    curves = [
        Curve(label="after", x=[0, 10], y=[0.1, 0.2], y_label="nDCG@10"),
        Curve(label="loss", x=[0, 10], y=[2, 1]),
        Curve(label="bm25", x=[0, 10], y=[0.3, 0.3], y_label="nDCG@10"),
    ]
    ndcg, loss = line_charts(curves, ["bm25", "before", "after"])
    assert (ndcg.title, loss.title) == ("nDCG@10 by step", "loss by step")
    assert ndcg.legend == [("s3", "after"), ("s1", "bm25")]
    assert loss.legend == []
    assert len(shapes(ndcg.svg, "polyline")) == 2


def test_points_lie_where_their_values_are() -> None:
    (chart,) = line_charts([Curve(label="loss", x=[0, 50, 100], y=[0.0, 1.0, 4.0])])
    points = [tuple(map(float, pair.split(","))) for pair in shapes(chart.svg, "polyline")[0]["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y1) * 4 == pytest.approx(y0 - y2, abs=0.5)
    assert y2 < y0


def test_a_log_axis_gives_each_doubling_one_width() -> None:
    (chart,) = line_charts([Curve(label="a", x=[4, 8, 32], y=[1.0, 2.0, 3.0], x_scale="log2")])
    xs = [float(pair.split(",")[0]) for pair in shapes(chart.svg, "polyline")[0]["points"].split()]
    assert (xs[2] - xs[1]) == pytest.approx(2 * (xs[1] - xs[0]), abs=0.3)
    texts = [found.text for found in ElementTree.fromstring(chart.svg).iter("text")]
    assert [text for text in texts if text in ("4", "8", "16", "32")] == ["4", "8", "16", "32"]
    with pytest.raises(ValueError, match="an x of 0; a log2 axis begins above 0"):
        Curve(label="a", x=[0, 1], y=[1, 2], x_scale="log2")


def test_gaps_single_points_and_long_curves_are_drawn() -> None:
    (gap,) = line_charts([Curve(label="a", x=range(5), y=[1.0, 2.0, math.nan, 3.0, 4.0])])
    assert len(shapes(gap.svg, "polyline")) == 2
    (point,) = line_charts([Curve(label="a", x=[7], y=[0.0])])
    assert len(shapes(point.svg, "circle")) == 1
    (long,) = line_charts([Curve(label="a", x=range(10_000), y=[float(n % 2) for n in range(10_000)])])
    drawn = shapes(long.svg, "polyline")[0]["points"].split()
    assert 200 < len(drawn) <= 300
    assert line_charts([Curve(label="a", x=[1], y=[math.nan])]) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.31, 0.62, ["0.3", "0.4", "0.5", "0.6", "0.7"]),
        (0, 12_000, ["0", "2,500", "5,000", "7,500", "10,000", "12,500"]),
        (-1, 1, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, expected: list[str]) -> None:
    ticks = ticks_of(low, high, about=5)
    assert tick_texts(ticks) == expected
    assert ticks[0] <= low < high <= ticks[-1]


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_flat_line_has_an_axis(value: float) -> None:
    ticks = ticks_of(value, value, about=5)
    assert ticks[0] < value < ticks[-1]


def test_whiskers_span_the_interval() -> None:
    svg = interval_chart([("a", Interval(0.5, 0.25, 0.75)), ("乙", Interval(0.5, 0.5, 0.5))], label="nDCG@10")
    whiskers = [shape for shape in shapes(svg, "line") if shape["class"] == "whisker"]
    dots = [float(shape["cx"]) for shape in shapes(svg, "circle")]
    assert float(whiskers[0]["x1"]) < dots[0] < float(whiskers[0]["x2"])
    assert dots[0] - float(whiskers[0]["x1"]) == pytest.approx(float(whiskers[0]["x2"]) - dots[0], abs=0.2)
    assert dots[0] == dots[1]
