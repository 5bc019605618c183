"""The drawing of a robustness report: what each change of the queries does to each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from zhihui.evaluation.bootstrap import Interval
from zhihui.evaluation.charts import colour, cut, svg_of, tick_texts, ticks_of

_NAMES, _RIGHT, _WIDTH = 172, 24, 940
_ROW, _GAP = 17, 14


def change_chart(systems: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Interval]]]) -> str:
    """Return the changes as dots with their intervals left and right of zero, one group of rows a change.

    Args:
        systems: in the order of their colours.
        rows: name of the change, and by system the change of nDCG@10 in [-1, 1].

    """
    found = [one for _, changes in rows for one in changes.values()]
    low = 100 * min([0.0, *(one.low for one in found)])
    high = 100 * max([0.0, *(one.high for one in found)])
    ticks = ticks_of(low, high, about=7)
    pitch = _ROW * len(systems) + _GAP
    bottom = 4 + pitch * len(rows)

    def across(value: float) -> float:
        return _NAMES + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_WIDTH - _RIGHT - _NAMES)

    parts = []
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        kind = "tick" if tick == 0 else "grid"
        x, sign = f"{across(tick):.1f}", text.replace("-", "−")
        parts.append(f'<line class="{kind}" x1="{x}" x2="{x}" y1="4" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{sign}</text>')
    for number, (name, changes) in enumerate(rows):
        top = 4 + pitch * number
        middle = top + pitch / 2 + 4
        parts.append(f'<text class="name" x="0" y="{middle:.1f}">{escape(cut(name, 24))}</text>')
        for place, system in enumerate(systems):
            change, y = changes[system], top + _GAP / 2 + _ROW * (place + 0.5)
            start, end = 100 * change.low, 100 * change.high
            hint = f"{system}, {name}: {100 * change.value:+.2f} [{start:+.2f}, {end:+.2f}]"
            parts.append(
                f'<g class="{colour(place)}"><title>{escape(hint)}</title><line class="reach"'
                f' x1="{across(start):.1f}" x2="{across(end):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<circle cx="{across(100 * change.value):.1f}" cy="{y:.1f}" r="4.5"/></g>'
            )
    label = "change of nDCG@10, in points of 100"
    parts.append(f'<text class="axis" x="{_WIDTH - _RIGHT}" y="{bottom + 36}" text-anchor="end">{label}</text>')
    return svg_of("What each change of the queries does", bottom + 44, parts, width=_WIDTH)
