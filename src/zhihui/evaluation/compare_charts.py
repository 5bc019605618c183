"""The drawings of a comparison: a heat map of systems by sets, and bars of the averages and of each set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from zhihui.evaluation.charts import colour, cut, svg_of, tick_texts, ticks_of
from zhihui.evaluation.compare_tables import Table, TableRow

_NAMES = 232  # width of the column of names
_SHOWN_NAME = 34  # characters of a name that fit there
_ROW = 30
_WIDTH = 940
_STANDALONE = """
svg { background: #ffffff; color-scheme: light dark; font-family: system-ui, "Noto Sans CJK SC", sans-serif; }
svg { --ink: #1d1f23; --soft: #5d636d; --faint: #8b919b; --rule: #e3e1dc; --accent: #1f5fbf;
  --s1: #6b7280; --s2: #1f5fbf; --s3: #c2570c; --s4: #15803d; --s5: #8b3fb8; --s6: #b0893a; }
text { font-size: 11.5px; fill: var(--soft); } .name, .value { fill: var(--ink); font-size: 13px; }
.value { font-size: 12px; } .axis, .leading { font-weight: 600; } .grid { stroke: var(--rule); }
.cell { fill: var(--accent); } .bar { fill: currentColor; } .published { fill: var(--faint); opacity: .45; }
.whisker { stroke: var(--ink); stroke-width: 1.5; } .tick { stroke: var(--faint); } circle { fill: currentColor; }
.reach { stroke: currentColor; stroke-width: 2.5; stroke-linecap: round; opacity: .55; }
.s1 { color: var(--s1); } .s2 { color: var(--s2); } .s3 { color: var(--s3); }
.s4 { color: var(--s4); } .s5 { color: var(--s5); } .s6 { color: var(--s6); }
@media (prefers-color-scheme: dark) {
  svg { background: #1d2024; --ink: #e6e7e9; --soft: #a6acb6; --faint: #7d838d; --rule: #31353b; --accent: #7fb0ff;
    --s1: #9aa1ad; --s2: #7fb0ff; --s3: #ff9d5c; --s4: #5fce93; --s5: #cf95f0; --s6: #dfc078; }
}
"""
"""What the page's style sheet says of drawings, for one that leaves the page."""


def heat_map(table: Table) -> str:
    """Return the table as a drawing, each column shaded from its lowest to its highest value."""
    pitch = (_WIDTH - _NAMES) / len(table.columns)
    top = 26
    parts = []
    for place, name in enumerate(table.columns):
        x = _NAMES + (place + 0.5) * pitch
        kind = ' class="leading"' if place == len(table.columns) - 1 else ""
        parts.append(
            f'<text{kind} x="{x:.1f}" y="16" text-anchor="middle">{escape(cut(name, max(4, int(pitch / 7))))}'
            f"<title>{escape(name)}</title></text>"
        )
    columns = zip(*([cell.value for cell in row.cells] for row in table.rows), strict=True)
    shades = list(zip(*map(shades_of, columns), strict=True))
    for number, (row, shade) in enumerate(zip(table.rows, shades, strict=True)):
        y = top + number * _ROW
        parts.append(_name(row, y + _ROW / 2))
        for place, (cell, share) in enumerate(zip(row.cells, shade, strict=True)):
            x = _NAMES + place * pitch
            kind = "value leading" if cell.mark == "best" else "value"
            hint = f"<title>{escape(row.name)}, {escape(table.columns[place])}: {cell.value:.2f}</title>"
            parts.append(
                f'<g>{hint}<rect class="cell" x="{x + 1.5:.1f}" y="{y + 1.5}" width="{pitch - 3:.1f}"'
                f' height="{_ROW - 3}" rx="4" style="fill-opacity:{0.04 + 0.46 * share:.3f}"/>'
                f'<text class="{kind}" x="{x + pitch / 2:.1f}" y="{y + _ROW / 2 + 4}"'
                f' text-anchor="middle">{cell.value:.2f}</text></g>'
            )
    return svg_of("nDCG@10 of each system on each set", top + _ROW * len(table.rows) + 4, parts, width=_WIDTH)


def average_bars(table: Table) -> str:
    """Return a bar for each system's average, with its interval where the queries are known."""
    right, bottom = _WIDTH - 70, 6 + _ROW * len(table.rows)
    ticks = ticks_of(0.0, max(cell.high or cell.value for cell in (row.cells[-1] for row in table.rows)), about=5)

    def across(value: float) -> float:
        return _NAMES + value / ticks[-1] * (right - _NAMES)

    parts = _grid(ticks, across, bottom)
    for number, row in enumerate(table.rows):
        cell, y = row.cells[-1], 6 + number * _ROW
        parts.append(_name(row, y + _ROW / 2))
        kind = "published" if row.place is None else f"bar {colour(row.place)}"
        parts.append(
            f'<rect class="{kind}" x="{_NAMES}" y="{y + 6}" width="{across(cell.value) - _NAMES:.1f}"'
            f' height="{_ROW - 12}" rx="3"><title>{escape(row.name)}: {cell.value:.2f}</title></rect>'
        )
        if cell.low is not None and cell.high is not None:
            parts.append(
                f'<line class="whisker" x1="{across(cell.low):.1f}" x2="{across(cell.high):.1f}"'
                f' y1="{y + _ROW / 2}" y2="{y + _ROW / 2}"/>'
            )
        end = across(max(cell.value, cell.high or 0)) + 8
        kind = "value leading" if cell.mark == "best" else "value"
        parts.append(f'<text class="{kind}" x="{end:.1f}" y="{y + _ROW / 2 + 4}">{cell.value:.2f}</text>')
    parts.append(f'<text class="axis" x="{right}" y="{bottom + 34}" text-anchor="end">nDCG@10 × 100</text>')
    return svg_of("Average nDCG@10 of each system", bottom + 40, parts, width=_WIDTH)


def set_bars(table: Table) -> str:
    """Return a group of bars for each set, one bar a measured system; nothing where there is only one set."""
    rows = [row for row in table.rows if row.place is not None]
    names = table.columns[:-1]
    if len(names) < 2:
        return ""
    left, top, height = 40, 8, 190
    bottom = top + height
    pitch = (_WIDTH - left) / len(names)
    width = min(26.0, pitch * 0.78 / len(rows))
    highest = max(cell.high or cell.value for row in rows for cell in row.cells[:-1])
    ticks = ticks_of(0.0, highest, about=5)

    def up(value: float) -> float:
        return bottom - value / ticks[-1] * height

    parts = []
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">{text}</text>')
    slanted = max(map(len, names)) * 7 > pitch
    for place, name in enumerate(names):
        centre = left + (place + 0.5) * pitch
        for number, row in enumerate(rows):
            cell = row.cells[place]
            x = centre + (number - len(rows) / 2) * width
            parts.append(
                f'<rect class="bar {colour(row.place or 0)}" x="{x + 1:.1f}" y="{up(cell.value):.1f}"'
                f' width="{width - 2:.1f}" height="{bottom - up(cell.value):.1f}" rx="2">'
                f"<title>{escape(row.name)}, {escape(name)}: {cell.value:.2f}</title></rect>"
            )
            if cell.low is not None and cell.high is not None:
                middle = x + width / 2
                parts.append(
                    f'<line class="whisker" x1="{middle:.1f}" x2="{middle:.1f}" y1="{up(cell.low):.1f}"'
                    f' y2="{up(cell.high):.1f}"/>'
                )
        turn = f' transform="rotate(-30 {centre:.1f} {bottom + 18})"' if slanted else ""
        anchor = "end" if slanted else "middle"
        parts.append(
            f'<text x="{centre:.1f}" y="{bottom + 18}" text-anchor="{anchor}"{turn}>{escape(cut(name, 18))}</text>'
        )
    return svg_of("nDCG@10 of each system, set by set", bottom + (76 if slanted else 28), parts, width=_WIDTH)


def standalone(svg: str) -> str:
    """Return a drawing of the page as a file of its own, light or dark as its viewer is."""
    return svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace(
        "\n", f"\n<style>{_STANDALONE}</style>\n", 1
    )


def _name(row: TableRow, y: float) -> str:
    kind = ' class="name"' if row.place is not None else ""
    text = f"{escape(cut(row.name, _SHOWN_NAME))}<title>{escape(row.name)}</title>"
    return f'<text{kind} x="{_NAMES - 12}" y="{y + 4}" text-anchor="end">{text}</text>'


def shades_of(values: Sequence[float]) -> list[float]:
    """Return where each value lies between the lowest and the highest, in [0, 1]."""
    low, high = min(values), max(values)
    return [1.0 if high == low else (value - low) / (high - low) for value in values]


def _grid(ticks: Sequence[float], across: Callable[[float], float], bottom: float) -> list[str]:
    parts = []
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        x = f"{across(tick):.1f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="4" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
    return parts
