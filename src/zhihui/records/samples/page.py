"""The page: one HTML file with everything in it, to be opened, mailed and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zhihui.records.rejects import RejectLog
from zhihui.records.samples.bars import counted as counted_chart
from zhihui.records.samples.bars import histogram
from zhihui.records.samples.counts import Counted, count_and_draw, rejected_beside
from zhihui.records.samples.shown import NEAR, show, show_reject
from zhihui.runs import atomic_open


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart ready for the page."""

    title: str
    svg: str
    legend: list[tuple[str, str]]
    """Class and label of each series; empty where there is one."""


def write_page(path: Path, data: Path, *, drawn: int = 20, seed: int = 0, rejects: RejectLog | None = None) -> None:
    """Write a self-contained HTML page about a data set: charts of all rows, sampled examples, rejected rows.

    The same data and seed give the same bytes.

    Args:
        path: the page, replaced atomically.
        data: file or folder of examples, or a BEIR folder; rejected.jsonl beside it is shown too.
        drawn: examples of the sample, and rejected rows at most.
        seed: of the draw.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        InputError: no such data, or an unusable row.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    counted, sample = count_and_draw(data, drawn=drawn, seed=seed, rejects=rejects)
    reasons, rejected = rejected_beside(data, drawn=drawn, seed=seed)
    examples = [show(example) for example in sample]
    environment = Environment(
        loader=PackageLoader("zhihui.records.samples"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("samples.html.j2").render(
        name=data.name or str(data),
        rows=counted.rows,
        charts=_charts(counted, reasons),
        examples=examples,
        miners=sorted({miner for example in examples for miner in example.miners}),
        near=NEAR,
        rejected=[show_reject(row) for row in rejected],
        reasons=sorted({str(row.get("reason", "")) for row in rejected}),
        set_aside=reasons.total(),
        seed=seed,
    )
    with atomic_open(path) as stream:
        stream.write(page)


def _charts(counted: Counted, reasons: Mapping[str, int]) -> list[Chart]:
    charts = [_histogram({"": counted.lengths["queries"]}, "Characters of a query")]
    passages = {name: counted.lengths[name] for name in ("positives", "negatives")}
    charts.append(_histogram(passages, "Characters of a passage"))
    charts.append(_histogram(counted.overlaps, "Share of the query's character pairs in the passage"))
    charts.append(_histogram(counted.grades, "Grades"))
    charts.append(_histogram(dict(sorted(counted.ranks.items())), "Rank of a mined negative"))
    for title, counts in (("Negatives by miner", counted.miners), ("Rows by source", counted.sources)):
        if len(counts) > 1:
            charts.append(Chart(title=title, svg=counted_chart(list(counts.items()), title=title), legend=[]))
    if reasons:
        title = "Rejected rows by reason"
        charts.append(Chart(title=title, svg=counted_chart(list(reasons.items()), title=title), legend=[]))
    return [chart for chart in charts if chart.svg]


def _histogram(series: Mapping[str, Mapping[float, int]], title: str) -> Chart:
    filled = {name: counts for name, counts in series.items() if counts}
    legend = [(f"s{place}", name) for place, name in enumerate(filled, start=1)]
    svg = histogram(filled, title=title) if filled else ""
    return Chart(title=title, svg=svg, legend=legend if len(series) > 1 else [])
