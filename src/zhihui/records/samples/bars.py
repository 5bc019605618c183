"""Bar charts as inline SVG: no script, no external file, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH = 440
_LEFT, _RIGHT, _TOP, _HEIGHT, _FOOT = 44, 8, 12, 150, 26
_BINS = 20
_NAME = 150  # width of the names in a chart of counts
_SHOWN = 8


def histogram(series: Mapping[str, Mapping[float, int]], *, title: str) -> str:
    """Return counts of values in bins, the series beside one another; each in percent of its own total.

    Args:
        series: by name: how often each value occurs.
        title: read out in place of the picture.
    """
    values = sorted({value for counts in series.values() for value in counts})
    edges = _edges(values)
    shares = [_binned(counts, edges) for counts in series.values()]
    top = max(max(one) for one in shares)
    bins = len(edges) - 1
    across = (_WIDTH - _LEFT - _RIGHT) / bins
    thick = max(1.0, across * 0.84 / len(shares))
    base = _TOP + _HEIGHT
    parts = []
    for tick in (0.0, top / 2, top):
        y = base - _HEIGHT * tick / top
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
    for place, (name, one) in enumerate(zip(series, shares, strict=True)):
        bars = []
        for number, share in enumerate(one):
            if not share:
                continue
            height = max(1.0, _HEIGHT * share / top)
            x = _LEFT + across * number + across * 0.08 + thick * place
            span = _span(edges[number], edges[number + 1], last=number == bins - 1)
            hint = f"{escape(name)}, {span}: {share:.1%}" if name else f"{span}: {share:.1%}"
            bars.append(
                f'<rect x="{x:.1f}" y="{base - height:.1f}" width="{thick:.1f}" height="{height:.1f}" rx="1">'
                f"<title>{hint}</title></rect>"
            )
        parts.append(f'<g class="bars s{place + 1}">{"".join(bars)}</g>')
    every = max(1, math.ceil(bins / 6))
    single = edges[1] - edges[0] == 1 and edges[0] == round(edges[0])  # a bin is one number, named in its middle
    for number in range(0, bins + (not single), every):
        x = _LEFT + across * (number + 0.5 * single)
        parts.append(f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{_short(edges[number])}</text>')
    return _svg(title, base + _FOOT, parts)


def counted(counts: Sequence[tuple[str, int]], *, title: str) -> str:
    """Return named counts as bars, the largest first; beyond eight the rest is one bar.

    Args:
        counts: names and counts, in any order.
        title: read out in place of the picture.
    """
    ordered = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    shown = ordered[:_SHOWN]
    if rest := ordered[_SHOWN:]:
        shown.append((f"{len(rest)} others", sum(count for _, count in rest)))
    most = max(count for _, count in shown)
    pitch = 24
    parts = []
    for place, (name, count) in enumerate(shown):
        y = 4 + pitch * place
        width = max(1.5, (_WIDTH - _NAME - 60) * count / most)
        cut = name if len(name) <= 18 else f"{name[:17]}…"
        parts.append(f'<text class="name" x="{_NAME - 10}" y="{y + 14}" text-anchor="end">{escape(cut)}</text>')
        parts.append(
            f'<g class="bars s1"><rect x="{_NAME}" y="{y + 2}" width="{width:.1f}" height="16" rx="2">'
            f"<title>{escape(name)}: {count:,}</title></rect></g>"
        )
        parts.append(f'<text x="{_NAME + width + 7:.1f}" y="{y + 14}">{count:,}</text>')
    return _svg(title, pitch * len(shown) + 8, parts)


def _edges(values: Sequence[float]) -> list[float]:
    """Return the edges of about twenty bins of a round width; single values get one of their own where few."""
    low, high = values[0], values[-1]
    whole = all(value == round(value) for value in values)
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):  # one value, but for rounding
        return [low, low + 1] if whole else [low, low + 0.1]
    rough = (high - low) / _BINS
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    width = max(width, 1.0) if whole else width
    first = math.floor(low / width)
    last = math.floor(high / width) + 1
    return [round(number * width, 10) for number in range(first, last + 1)]


def _binned(counts: Mapping[float, int], edges: Sequence[float]) -> list[float]:
    width, total = edges[1] - edges[0], sum(counts.values())
    found = [0] * (len(edges) - 1)
    for value, count in counts.items():
        place = math.floor((value - edges[0]) / width + 1e-9)
        found[min(max(place, 0), len(found) - 1)] += count
    return [count / total if total else 0.0 for count in found]


def _span(low: float, high: float, *, last: bool) -> str:
    if high - low == 1 and low == round(low):
        return _short(low)
    return f"{_short(low)} to {'' if last else 'below '}{_short(high)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'
