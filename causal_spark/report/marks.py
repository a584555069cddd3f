"""Estimates with intervals on an axis around zero: the marks, the range, the ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_spark.report import canvas, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TONES = {"up": canvas.UP, "down": canvas.DOWN, "alarm": canvas.ALARM}


@dataclass(frozen=True)
class Mark:
    """An estimate with its interval; ``tone``: ``up``, ``down``, ``alarm`` or empty for not significant."""

    estimate: float
    low: float = math.nan
    high: float = math.nan
    tone: str = ""


@dataclass(frozen=True)
class Scale:
    """How the ticks of an axis are written: times ``factor``, then ``suffix``."""

    factor: float = 1.0
    suffix: str = ""


LEAST_TICKS = 3
# Signs and percents are wider than letters, and labels need room between them.
WIDER = 1.6
PERCENT = Scale(100.0, "%")
PLAIN = Scale()


def colour_of(mark: Mark) -> str:
    """The colour of a mark; muted if it is not significant."""
    return TONES.get(mark.tone, canvas.MUTED)


def range_of(marks: Sequence[Mark]) -> tuple[float, float]:
    """The ends of the axis: all of the intervals, unless a few would crush the others; zero is always inside."""
    ends = [(v, mark) for mark in marks for v in (mark.estimate, mark.low, mark.high) if math.isfinite(v)]
    reach = [max(abs(v) for v, owner in ends if owner is mark) for mark in marks if any(o is mark for _, o in ends)]
    if not reach or max(reach) == 0:
        return -0.01, 0.01
    usual = float(np.median([size for size in reach if size > 0]))
    middle = max([abs(mark.estimate) for mark in marks if math.isfinite(mark.estimate)] + [0.0])
    limit = max(6.0 * usual, min(1.3 * middle, 60.0 * usual))
    low = max(-limit, min(0.0, *(v for v, _ in ends), 0.0))
    high = min(limit, max(0.0, *(v for v, _ in ends), 0.0))
    room = 0.12 * (high - low)
    return min(low - room / 2, -room), max(high + room / 2, room)


def ticks(axis: Any, positions: Sequence[float], scale: Scale, inches: float = math.inf) -> None:
    """Fixed ticks with as many digits as their step needs, and no sign on zero. ``inches``: of 1 on the axis;
    labels that would touch one that is nearer to zero are left out.
    """
    step = abs(positions[-1] - positions[-2]) * scale.factor if len(positions) > 1 else 1.0
    places = next((d for d in range(9) if abs(round(step, d) - step) <= 1e-9 * step), 2)
    texts = [numbers.plain(round(float(value) * scale.factor, 12), places, True) + scale.suffix for value in positions]
    kept: list[int] = []
    for i in sorted(range(len(positions)), key=lambda i: abs(positions[i])):
        widths = {k: WIDER * (canvas.inches(texts[i]) + canvas.inches(texts[k])) / 2 for k in kept}
        if all(abs(positions[i] - positions[k]) * inches > widths[k] for k in kept):
            kept.append(i)
    # a blank is drawn where nothing is not, so that the markup does not depend on the width of names
    axis.set_ticks(list(positions), [text if i in kept else " " for i, text in enumerate(texts)])


def _round_positions(low: float, high: float, many: int) -> list[float]:
    """At most about ``many`` round positions with zero among them, away from the ends of the axis."""
    edge = 0.06 * (high - low)
    found: list[float] = []
    for finer in range(many, 4 * many):
        least = (high - low) / finer
        power = 10.0 ** math.floor(math.log10(least))
        step = next(size for size in (1.0, 2.0, 5.0, 10.0) if size * power >= least * (1 - 1e-12)) * power
        first, last = math.ceil((low + edge) / step), math.floor((high - edge) / step)
        found = [step * k for k in range(min(first, 0), max(last, 0) + 1)]
        if len(found) >= LEAST_TICKS:
            break
    return found


def frame(axes: Axes, span: tuple[float, float], rows: int, scale: Scale, label: str, many: int = 8) -> None:
    """A horizontal axis around zero for so many rows, the first on top."""
    axes.set_xlim(*span)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x", color=canvas.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvline(0, color=canvas.MUTED, linewidth=0.9)
    whole = axes.get_position().width * float(axes.get_figure().get_size_inches()[0])  # type: ignore[union-attr]
    ticks(axes.xaxis, _round_positions(*span, many), scale, whole / (span[1] - span[0]))
    axes.set_xlabel(canvas.clean(label), color=canvas.MUTED, fontsize=canvas.TEXT - 0.4)


def interval(axes: Axes, y: float, mark: Mark, span: tuple[float, float], hollow: bool = False) -> None:
    """A bar with a dot; an end beyond the axis becomes an arrow; a missing estimate becomes a cross on zero."""
    colour = canvas.FAINT if hollow or not mark.tone else colour_of(mark)
    if not math.isfinite(mark.estimate):
        if not hollow:
            axes.plot([0], [y], marker="x", color=canvas.MUTED, markersize=5, markeredgewidth=1.2)
        return
    low, high = _end(mark.low, mark.estimate), _end(mark.high, mark.estimate)
    style: dict[str, Any] = {"color": colour, "linewidth": 1.1 if hollow else 1.9, "solid_capstyle": "butt"}
    axes.plot([min(max(end, span[0]), span[1]) for end in (low, high)], [y, y], **style)
    tip: dict[str, Any] = {"color": colour, "markersize": 4.5, "clip_on": False}
    if low < span[0]:
        axes.plot([span[0]], [y], marker="<", **tip)
    if high > span[1]:
        axes.plot([span[1]], [y], marker=">", **tip)
    if span[0] <= mark.estimate <= span[1]:
        face = "white" if hollow else colour
        axes.plot([mark.estimate], [y], "o", color=colour, markersize=3.8 if hollow else 5.2, markerfacecolor=face)


def _end(value: float, estimate: float) -> float:
    return estimate if math.isnan(value) else value
