"""The report: one HTML file with everything in it, to be opened, mailed and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.evaluation import sections
from zhihui.evaluation.charts import Curve, interval_chart, line_charts
from zhihui.evaluation.run import Evaluation, as_json, average
from zhihui.runs import atomic_open, versions, write_json

__all__ = ["Curve", "markdown_table", "render", "write_pages", "write_report", "write_results_json"]


def write_report(
    path: Path,
    *,
    title: str,
    evaluation: Evaluation | Sequence[Evaluation],
    curves: Sequence[Curve] = (),
    settings: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Write a self-contained HTML page: headline, systems with intervals, curves, sample queries, settings.

    Args:
        path: the file, replaced atomically.
        title: heading of the page.
        evaluation: of one set, or of several by the same systems; the first system is the one the others are
            compared with.
        curves: lines over training; those with the same axes share a chart.
        settings: shown as a table, nested ones with dotted names.
        notes: paragraphs under the headline.
        seed: of the choice of sample queries and of the bootstrap.

    Raises:
        InputError: no evaluation, or sets measured with different systems.

    """
    evaluations = _several(evaluation)
    rows = sections.system_rows(evaluations, seed=seed)
    queries = sum(len(one.query_ids) for one in evaluations)
    passages = sum(len(one.data.corpus) for one in evaluations)
    # One set can afford more queries than each of many.
    many = 3 if len(evaluations) == 1 else 1
    page = render(
        "report.html.j2",
        title=title,
        headline=sections.headline(evaluations, seed=seed),
        notes=list(notes),
        evaluations=evaluations,
        about=f"{queries:,} {'query' if queries == 1 else 'queries'}, {passages:,} passages",
        metrics=list(sections.SHOWN_METRICS.values()),
        rows=rows,
        interval_chart=interval_chart([(row.name, row.cells[0].found) for row in rows], label="nDCG@10"),
        per_set=[(one, sections.system_rows([one], seed=seed)) for one in evaluations] if len(evaluations) > 1 else [],
        charts=line_charts(curves, [row.name for row in rows]),
        queries=[
            query for one in evaluations for query in sections.sample_queries(one, seed=seed, drawn=many, worst=many)
        ],
        absent=sections.depth_note(),
        settings=sections.flatten(settings or {}),
        facts=[
            *((f"fingerprint of {result.name}", result.fingerprint[:16]) for result in evaluations[0].systems),
            *versions().items(),
        ],
    )
    with atomic_open(path) as stream:
        stream.write(page)


def render(template: str, **values: Any) -> str:
    """Return a page of this room's templates, everything in it escaped that is not marked as safe."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zhihui.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": sections.signed, "points": sections.points}
    return environment.get_template(template).render(**values)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a table in Markdown, the first its head; all columns but the first are of numbers."""
    head, *body = [[text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for text in row] for row in rows]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_pages(folder: Path, found: Any, *, table: str, page: str) -> None:
    """Write what was found as results.json, as a table (table.md) and as a page (report.html)."""
    write_json(folder / "results.json", found)
    for name, text in (("table.md", table), ("report.html", page)):
        with atomic_open(folder / name) as stream:
            stream.write(text)


def write_results_json(path: Path, evaluation: Evaluation | Sequence[Evaluation], *, seed: int = 0) -> None:
    """Write system -> metric -> {"value", "low", "high"}; over several sets their average.

    Raises:
        InputError: no evaluation, or sets measured with different systems.

    """
    write_json(path, as_json(average(_several(evaluation), seed=seed)))


def _several(evaluation: Evaluation | Sequence[Evaluation]) -> list[Evaluation]:
    evaluations = [evaluation] if isinstance(evaluation, Evaluation) else list(evaluation)
    if not evaluations:
        raise InputError("no evaluation to report; evaluate at least one set")
    names = [[result.name for result in one.systems] for one in evaluations]
    if any(other != names[0] for other in names):
        raise InputError("the sets were measured with different systems; report those of the same systems together")
    return evaluations
