"""The drawing of an ablation: a forest plot of the variants' differences, with their intervals and single seeds."""

from __future__ import annotations

from html import escape

from zhihui.evaluation.ablation import Ablation
from zhihui.evaluation.charts import colour, cut, svg_of, tick_texts, ticks_of

_NAMES, _RIGHT, _WIDTH = 240, 24, 940
_ROW, _HEAD = 22, 24
_COLOURS = {"better": colour(3), "worse": colour(2), "unclear": colour(0)}


def forest_plot(found: Ablation) -> str:
    """Return the differences left and right of zero: a dot and its interval a variant, a small ring a seed."""
    values = [value for one in found.effects for value in (one.average.low, one.average.high, *one.seeds)]
    ticks = ticks_of(100 * min([0.0, *values]), 100 * max([0.0, *values]), about=7)
    bottom = 4 + _ROW * len(found.effects) + _HEAD * len(found.points)

    def across(value: float) -> float:
        return _NAMES + (100 * value - ticks[0]) / (ticks[-1] - ticks[0]) * (_WIDTH - _RIGHT - _NAMES)

    parts = []
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        kind, x = "tick" if tick == 0 else "grid", f"{across(tick / 100):.1f}"
        parts.append(f'<line class="{kind}" x1="{x}" x2="{x}" y1="4" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{text.replace("-", "−")}</text>')
    top = 4
    for point, effects in found.points.items():
        parts.append(f'<text class="axis" x="0" y="{top + _HEAD - 7}">{escape(cut(point, 34))}</text>')
        top += _HEAD
        for one in effects:
            y = top + _ROW / 2
            low, high = 100 * one.average.low, 100 * one.average.high
            hint = f"{point}, {one.variant}: {100 * one.average.value:+.2f} [{low:+.2f}, {high:+.2f}]"
            rings = "".join(
                f'<circle class="ring" cx="{across(value):.1f}" cy="{y:.1f}" r="2.5" style="fill-opacity:.35"/>'
                for value in one.seeds
            )
            parts.append(f'<text class="name" x="14" y="{y + 4:.1f}">{escape(cut(one.variant, 30))}</text>')
            parts.append(
                f'<g class="{_COLOURS[one.verdict]}"><title>{escape(hint)}</title><line class="reach"'
                f' x1="{across(one.average.low):.1f}" x2="{across(one.average.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'{rings}<circle cx="{across(one.average.value):.1f}" cy="{y:.1f}" r="4.5"/></g>'
            )
            top += _ROW
    label = "difference of nDCG@10 from the baseline, in points of 100"
    parts.append(f'<text class="axis" x="{_WIDTH - _RIGHT}" y="{bottom + 36}" text-anchor="end">{label}</text>')
    return svg_of("What each change of the baseline does", bottom + 44, parts, width=_WIDTH)
