"""Line charts as inline SVG.

By hand and not by matplotlib: that takes seconds of the processor that the load generator shares, 60 MB of its image,
and draws colours that can't follow the reader's light or dark. Colours and text sizes are the page's (`page.css`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from loadtest.report.curves import Curve

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 12, 26
TICKS = 4
COLOURS = 6
"""Curves beyond so many have the colours of the first again."""
LIMIT_WITHIN = 3.0
"""A limit is drawn where it is at most so many times the largest value: farther off it would flatten the curve."""


@dataclass(frozen=True)
class Axis:
    """How a value is told: `scale` times it, with `unit` behind."""

    unit: str = ""
    scale: float = 1.0

    def told(self, value: float) -> str:
        """As a tick."""
        return f"{_short(value * self.scale)}{self.unit}"


def line_chart(
    curves: Sequence[Curve],
    axis: Axis,
    *,
    limit: float | None = None,
    marks: Sequence[float] = (),
    x_end: float,
    people: bool = False,
) -> str:
    """Curves over the time of a run, or over the number of people; `marks` are moments of incidents.

    A point that is infinite is drawn as an arrow at the upper edge: that was waited for without end.
    """
    finite = [y for curve in curves for y in curve.y if math.isfinite(y)]
    most = max(finite, default=0.0)
    drawn = limit if limit is not None and (not most or limit <= LIMIT_WITHIN * most) else None
    ticks = _ticks(max(most, drawn or 0.0) * axis.scale, axis.scale)
    top, x_end = ticks[-1], max(x_end, 1e-9)

    def x_of(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(x / x_end, 0.0), 1.0)

    def y_of(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (min(y / top, 1.0) if math.isfinite(y) else 1.0)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y_of(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y_of(tick) + 4:.1f}" text-anchor="end">{axis.told(tick)}</text>')
    for x in _ticks_of_people(x_end) if people else _ticks_of_time(x_end):
        label = f"{x:g}" if people else _clock(x, x_end)
        parts.append(f'<text x="{x_of(x):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    parts += [f'<path class="mark" d="M{x_of(mark):.1f} {TOP}V{HEIGHT - BOTTOM}"/>' for mark in marks]
    if drawn is not None:
        y = y_of(drawn)
        parts.append(f'<path class="limit" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        text_y = y + 14 if y < TOP + 14 else y - 5
        text = f'x="{WIDTH - RIGHT}" y="{text_y:.1f}" text-anchor="end">at most {axis.told(drawn)}'
        parts.append(f'<text class="limit-text" {text}</text>')
    for number, curve in enumerate(curves):
        parts += _line(curve, number % COLOURS, x_of, y_of, x_end)
    parts.append("</svg>")
    return "".join(parts) + _legend(curves, axis, limit if drawn is None else None)


def _line(
    curve: Curve, colour: int, x_of: Callable[[float], float], y_of: Callable[[float], float], x_end: float
) -> list[str]:
    points = [(x_of(x), y_of(y), y) for x, y in zip(curve.x, curve.y, strict=True) if 0 <= x <= x_end]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    parts = [f'<polyline class="curve c{colour}" points="{path}"/>'] if len(points) > 1 else []
    parts += [f'<circle class="c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y, _ in points if len(points) == 1]
    parts += [
        f'<path class="never c{colour}" d="M{x - 4:.1f} {y + 8:.1f}L{x:.1f} {y:.1f}L{x + 4:.1f} {y + 8:.1f}Z"/>'
        for x, y, value in points
        if not math.isfinite(value)
    ]
    return parts


def _legend(curves: Sequence[Curve], axis: Axis, limit_above: float | None) -> str:
    items = [f'<li><i class="c{number % COLOURS}"></i>{escape(curve.name)}</li>' for number, curve in enumerate(curves)]
    if limit_above is not None:
        items.append(f"<li>at most {axis.told(limit_above)}, above the chart</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _ticks(most: float, scale: float) -> list[float]:
    """From 0 to at least `most` (scaled, as it is told), evenly, at round numbers; not scaled."""
    if most <= 0:
        return [0.0, 1.0 / scale]
    magnitude = 10.0 ** math.floor(math.log10(most / TICKS))
    width = next(width * magnitude for width in (1, 2, 2.5, 5, 10) if width * magnitude * TICKS >= most * (1 - 1e-9))
    return [number * width / scale for number in range(math.ceil(most / width * (1 - 1e-9)) + 1)]


def _ticks_of_time(seconds: float) -> list[float]:
    steps = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
    step = next((step for step in steps if seconds / step <= 6), 7 * 86400)
    return [float(step * number) for number in range(int(seconds / step + 1e-9) + 1)]


def _ticks_of_people(most: float) -> list[float]:
    step = max(1.0, _ticks(most, 1.0)[1])
    return [step * number for number in range(int(most / step + 1e-9) + 1)]


def _clock(seconds: float, of: float) -> str:
    """As `4:30`, minutes and seconds; of a run of hours, hours and minutes."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h" if of >= 7200 else f"{whole // 60}:{whole % 60:02d}"
