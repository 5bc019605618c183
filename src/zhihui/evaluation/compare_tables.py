"""A comparison as a table: systems by sets, the best and the second best of each column marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from zhihui.evaluation.bootstrap import Interval
from zhihui.evaluation.compare import Comparison, Difference
from zhihui.evaluation.report import markdown_table

AVERAGE = "average"
BASELINE = "bm25"
_TASK = "Retrieval"
Mark = Literal["best", "second", ""]
_MARKDOWN: dict[Mark, str] = {"best": "**{}**", "second": "*{}*", "": "{}"}


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One score, times 100 as benchmarks print it."""

    value: float
    low: float | None = None
    """Ends of the 95% interval; None for published scores, whose queries are unknown."""
    high: float | None = None
    mark: Mark = ""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One system."""

    name: str
    place: int | None
    """Of its colour: 0 for the baseline, from 1 on for the other systems of the runs; None for a published one."""
    cells: list[TableCell]
    """One a set, then the average."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The systems, best average first."""

    columns: list[str]
    """Short names of the sets, and "average"."""
    rows: list[TableRow]


def make_table(comparison: Comparison) -> Table:
    """Return the table of a comparison, measured and published systems together."""
    names = [one.name for one in comparison.sets]
    rows: list[tuple[str, int | None, list[TableCell]]] = [
        (system.name, place, [*map(_measured, system.per_set), _measured(system.average)])
        for place, system in zip(_places(comparison), comparison.systems, strict=True)
    ]
    for one in comparison.published:
        cells = [TableCell(value=100 * value) for value in (*(one.scores[name] for name in names), one.average)]
        rows.append((one.name, None, cells))
    rows.sort(key=lambda row: -row[2][-1].value)
    columns = zip(*([cell.value for cell in cells] for _, _, cells in rows), strict=True)
    marks = list(zip(*map(_marks, columns), strict=True))
    return Table(
        columns=[*map(short, names), AVERAGE],
        rows=[
            TableRow(
                name=name,
                place=place,
                cells=[
                    TableCell(value=cell.value, low=cell.low, high=cell.high, mark=mark)
                    for cell, mark in zip(cells, marked, strict=True)
                ],
            )
            for (name, place, cells), marked in zip(rows, marks, strict=True)
        ],
    )


def short(name: str) -> str:
    """Return a task's name without the word that all of them end with."""
    return name.removesuffix(_TASK) or name


def as_markdown(table: Table) -> str:
    """Return the table in Markdown: the best of a column bold, the second best in italics."""
    rows = [["system", *table.columns]]
    for row in table.rows:
        cells = [_MARKDOWN[one.mark].format(f"{one.value:.2f}") for one in row.cells]
        rows.append([f"{row.name}{' (published)' if row.place is None else ''}", *cells])
    return markdown_table(rows)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything a machine may want of a comparison but the queries; scores in [0, 1]."""
    names = [one.name for one in comparison.sets]
    return {
        "sets": [{"name": one.name, "split": one.split, "queries": len(one.query_ids)} for one in comparison.sets],
        "left_out": comparison.left_out,
        "systems": {
            system.name: {
                "run": system.run,
                "fingerprint": system.fingerprint,
                "average": system.average,
                "sets": dict(zip(names, system.per_set, strict=True)),
            }
            for system in comparison.systems
        },
        "published": {one.name: {"average": one.average, "sets": one.scores} for one in comparison.published},
        "differences": [_as_json(one, names) for one in comparison.differences],
    }


def _as_json(one: Difference, names: Sequence[str]) -> dict[str, Any]:
    return {
        "a": one.a,
        "b": one.b,
        "average": one.average,
        "p": one.p,
        "significant": one.significant,
        "sets": dict(zip(names, one.per_set, strict=True)),
    }


def _measured(found: Interval) -> TableCell:
    return TableCell(value=100 * found.value, low=100 * found.low, high=100 * found.high)


def _marks(values: Sequence[float]) -> list[Mark]:
    """Mark the highest and the second highest value as printed; nothing where there is nothing to choose from."""
    printed = [round(value, 2) for value in values]
    levels = sorted(set(printed), reverse=True)
    if len(values) < 2:
        return [""] * len(values)
    names: dict[float, Mark] = dict(zip(levels, ("best", "second"), strict=False))
    return [names.get(value, "") for value in printed]


def _places(comparison: Comparison) -> list[int]:
    """Return the place of each system among the colours, of which the first is the baseline's grey."""
    others = count(1)
    return [0 if system.name == BASELINE else next(others) for system in comparison.systems]
