"""Charts as inline SVG: no script, no external file, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from zhihui.evaluation.bootstrap import Interval

Scale = Literal["linear", "log2"]
COLOURS = 6
"""Classes s1 ... s6 of the page colour the series; a seventh begins again."""
_WIDTH = 440
_HEIGHT = 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 40
_POINTS = 300  # more than that cannot be told apart at this width
_MARKED = 25  # points a line may have for each to get a dot


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a chart; curves with the same axes share a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    """As long as `x`; values that are not finite leave a gap."""
    x_label: str = "step"
    y_label: str = "loss"
    x_scale: Scale = "linear"
    """On a "log2" axis doubling is a step of one width; every `x` is then above 0."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"curve {self.label!r} has {len(self.x)} x and {len(self.y)} y; give one y for each x")
        if self.x_scale == "log2" and any(x <= 0 for x in self.x):
            raise ValueError(f"curve {self.label!r} has an x of {min(self.x):g}; a log2 axis begins above 0")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart ready for the page."""

    title: str
    svg: str
    legend: list[tuple[str, str]]
    """Class and label of each series; empty when there is nothing to tell apart."""


def line_charts(curves: Sequence[Curve], systems: Sequence[str] = ()) -> list[Chart]:
    """Return one chart for each pair of axes, in the order they first appear.

    Args:
        curves: the lines.
        systems: names in the order of the page's tables; a curve of such a name takes its colour there.

    """
    groups: dict[tuple[str, str, Scale], list[Curve]] = {}
    for curve in curves:
        if _segments(curve):
            groups.setdefault((curve.y_label, curve.x_label, curve.x_scale), []).append(curve)
    charts = []
    for (y_label, x_label, _), group in groups.items():
        single = len(group) == 1 and group[0].label in ("", y_label)
        # The first colour is the baseline's grey: a line of no system begins with the second.
        places = {name: place for place, name in enumerate(systems)}
        colours = [colour(places.get(curve.label, place + 1)) for place, curve in enumerate(group)]
        charts.append(
            Chart(
                title=f"{y_label} by {x_label}",
                svg=_lines(group, colours),
                legend=[] if single else [(colour, curve.label) for colour, curve in zip(colours, group, strict=True)],
            )
        )
    return charts


def interval_chart(rows: Sequence[tuple[str, Interval]], *, label: str) -> str:
    """Return dots with their intervals, one row a system, on one axis.

    Args:
        rows: name and interval.
        label: of the axis.

    """
    left, pitch, top = 132, 30, 8
    bottom = top + pitch * len(rows)
    low, high = min(found.low for _, found in rows), max(found.high for _, found in rows)
    spread = max(high - low, 0.02)
    ticks = ticks_of(max(0.0, low - 0.15 * spread), min(1.0, high + 0.15 * spread), about=5)
    first, last = ticks[0], ticks[-1]

    def across(value: float) -> float:
        return left + (value - first) / (last - first) * (_WIDTH - left - 24)

    parts = []
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        parts.append(f'<line class="grid" x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>')
    for place, (name, found) in enumerate(rows):
        y = top + pitch * (place + 0.5)
        hint = f"<title>{escape(name)}: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]</title>"
        parts.append(
            f'<text class="name" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(cut(name, 18))}</text>'
        )
        parts.append(
            f'<g class="{colour(place)}">{hint}'
            f'<line class="whisker" x1="{across(found.low):.1f}" x2="{across(found.high):.1f}"'
            f' y1="{y}" y2="{y}"/>'
            f'<circle cx="{across(found.value):.1f}" cy="{y}" r="5"/></g>'
        )
    parts.append(f'<text class="axis" x="{_WIDTH - 24}" y="{bottom + 34}" text-anchor="end">{escape(label)}</text>')
    return svg_of(f"{label} of each system with its interval", bottom + 42, parts)


def _lines(curves: Sequence[Curve], colours: Sequence[str]) -> str:
    points = [point for curve in curves for segment in _segments(curve) for point in segment]
    scaled = math.log2 if curves[0].x_scale == "log2" else float
    along = [scaled(x) for curve in curves for x in curve.x if math.isfinite(x)]
    x_ticks, x_texts = _x_ticks(min(along), max(along), curves[0].x_scale)
    y_ticks = ticks_of(min(y for _, y in points), max(y for _, y in points), about=5)
    x_first, x_last = min(along), max(along)
    if x_first == x_last:
        x_first, x_last = x_ticks[0], x_ticks[-1]

    def across(x: float) -> float:
        return _LEFT + (scaled(x) - x_first) / (x_last - x_first) * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for tick, text in zip(y_ticks, tick_texts(y_ticks), strict=True):
        y = f"{up(tick):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">{text}</text>')
    for tick, text in zip(x_ticks, x_texts, strict=True):
        if x_first <= tick <= x_last:
            share = (tick - x_first) / (x_last - x_first)
            x, base = f"{_LEFT + share * (_WIDTH - _LEFT - _RIGHT):.1f}", _HEIGHT - _BOTTOM
            parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>')
            parts.append(f'<text x="{x}" y="{base + 17}" text-anchor="middle">{text}</text>')
    for curve, colour in zip(curves, colours, strict=True):
        parts.append(_line(curve, colour, across, up))
    y_label, x_label = escape(curves[0].y_label), escape(curves[0].x_label)
    parts.append(f'<text class="axis" x="{_LEFT - 44}" y="13">{y_label}</text>')
    parts.append(f'<text class="axis" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{x_label}</text>')
    return svg_of(f"{curves[0].y_label} by {curves[0].x_label}", _HEIGHT, parts)


def _line(curve: Curve, colour: str, across: Callable[[float], float], up: Callable[[float], float]) -> str:
    segments = _segments(curve)
    marked = sum(map(len, segments)) <= _MARKED
    drawn = []
    for segment in segments:
        places = [(across(x), up(y)) for x, y in segment]
        if len(places) > 1:
            drawn.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
        if marked or len(places) == 1:
            for (x, y), (at, value) in zip(places, segment, strict=True):
                hint = f"<title>{escape(curve.label)}: {value:.4g} at {_number(at)}</title>"
                drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3">{hint}</circle>')
    return f'<g class="line {colour}">{"".join(drawn)}</g>'


def _segments(curve: Curve) -> list[list[tuple[float, float]]]:
    """Return the finite stretches of a curve, thinned to what can be seen by averaging neighbours."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(curve.x, curve.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            stretches[-1].append((float(x), float(y)))
        elif stretches[-1]:
            stretches.append([])
    size = max(1, math.ceil(len(curve.x) / _POINTS))
    thinned = []
    for stretch in filter(None, stretches):
        buckets = [stretch[start : start + size] for start in range(0, len(stretch), size)]
        thinned.append([(math.fsum(x for x, _ in b) / len(b), math.fsum(y for _, y in b) / len(b)) for b in buckets])
    return thinned


def _x_ticks(low: float, high: float, scale: Scale) -> tuple[list[float], list[str]]:
    """Return the ticks of the lower axis, in its own units, and what is written at them."""
    if scale == "linear":
        ticks = ticks_of(low, high, about=5)
        return ticks, tick_texts(ticks)
    first, last = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    step = max(1, math.ceil((last - first) / 9))
    powers = range(first, last + 1, step)
    return [float(power) for power in powers], [f"{2.0**power:,g}" for power in powers]


def ticks_of(low: float, high: float, *, about: int) -> list[float]:
    """Return round numbers at even distances that enclose the range."""
    if high <= low:
        reach = abs(low) / 2 or 0.5
        low, high = low - reach, high + reach
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Write the ticks of one axis with one number of decimals."""
    for decimals in range(7):
        if all(math.isclose(round(tick, decimals), tick, rel_tol=0, abs_tol=1e-9) for tick in ticks):
            return [f"{tick:,.{decimals}f}" for tick in ticks]
    return [f"{tick:.3g}" for tick in ticks]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def colour(place: int) -> str:
    """Return the class that colours the series of a place."""
    return f"s{place % COLOURS + 1}"


def svg_of(title: str, height: float, parts: Sequence[str], *, width: float = _WIDTH) -> str:
    """Return a drawing; one wider than the others gets the class "wide"."""
    body = "\n".join(parts)
    kind = ' class="wide"' if width > _WIDTH else ""
    return f'<svg{kind} viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'


def cut(text: str, length: int) -> str:
    """Shorten a label to so many characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
