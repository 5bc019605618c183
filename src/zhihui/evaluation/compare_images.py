"""The drawings of a comparison as PNG, for places that show no SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zhihui.errors import require
from zhihui.evaluation.compare_charts import shades_of
from zhihui.evaluation.compare_tables import Table
from zhihui.runs import atomic_open

_FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei")
"""Fonts that have Chinese characters; the first that is installed stands before matplotlib's own."""
_COLOURS = ("#6b7280", "#1f5fbf", "#c2570c", "#15803d", "#8b3fb8", "#b0893a")
"""The page's colours of series, in its light dress."""
_PUBLISHED = "#c9ccd2"
_DPI = 160


def write_images(folder: Path, table: Table) -> None:
    """Write heat.png and averages.png.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    matplotlib: Any = require("matplotlib", extra="eval", purpose="writing PNG")
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    fonts = [font for font in _FONTS if font in installed][:1]
    with matplotlib.rc_context({"font.family": [*fonts, "DejaVu Sans"], "font.size": 9}):
        _save(folder / "heat.png", _heat(table))
        _save(folder / "averages.png", _averages(table))


def _heat(table: Table) -> Any:
    from matplotlib.figure import Figure

    columns = zip(*([cell.value for cell in row.cells] for row in table.rows), strict=True)
    shades = list(zip(*map(shades_of, columns), strict=True))
    figure = Figure(figsize=(2.6 + 0.85 * len(table.columns), 0.9 + 0.32 * len(table.rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=30, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    axes.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    for number, row in enumerate(table.rows):
        for place, cell in enumerate(row.cells):
            weight = "bold" if cell.mark == "best" else "normal"
            axes.text(place, number, f"{cell.value:.2f}", ha="center", va="center", fontweight=weight)
    return figure


def _averages(table: Table) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.32 * len(table.rows)), layout="constrained")
    axes = figure.add_subplot()
    for number, row in enumerate(table.rows):
        cell = row.cells[-1]
        shade = _PUBLISHED if row.place is None else _COLOURS[row.place % len(_COLOURS)]
        reach = None
        if cell.low is not None and cell.high is not None:
            reach = [[cell.value - cell.low], [cell.high - cell.value]]
        axes.barh(number, cell.value, xerr=reach, color=shade, height=0.65, error_kw={"elinewidth": 1})
        axes.text(max(cell.value, cell.high or 0) + 0.6, number, f"{cell.value:.2f}", va="center")
    axes.set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.set_xlabel("average nDCG@10 × 100")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _save(path: Path, figure: Any) -> None:
    with atomic_open(path, "wb") as stream:
        # Without the version of matplotlib in it, the same comparison gives the same bytes.
        figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
