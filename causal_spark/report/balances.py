"""The two drawings of balance: differences of covariates before and after, and the propensities of both groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_spark.report import canvas, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.24
MAX_ROWS = 60
WIDEST = 1.5  # beyond it a point becomes an arrow at the edge
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "h")
DECADES = 1e4  # from the tallest bar of a histogram down to one that can hardly be seen


@dataclass(frozen=True)
class Dots:
    """One covariate: its differences, the first before any adjustment; NaN where one is not known."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True)
class Histogram:
    """Counts of treated and untreated units in bins of equal width, from 0 to 1."""

    label: str
    treated: Sequence[float]
    control: Sequence[float]


def love(rows: Sequence[Dots], series: Sequence[str], limits: Sequence[float], *, name: str, axis: str) -> str:
    """A love plot: sizes of differences, hollow before and filled after, with a line at each of the ``limits``."""
    shown = list(rows)[:MAX_ROWS]
    with canvas.surface(name):
        labels = [canvas.clean(row.label, 26) for row in shown]
        left = max([canvas.inches(label) for label in labels] + [0.0]) + 0.25
        keys = _key_lines(series, left)
        height, foot, head = ROW * max(1, len(shown)), 0.42, 0.1 + 0.22 * len(keys)
        figure = canvas.blank(height + foot + head)
        for index, label in enumerate(labels):
            y = foot + height - (index + 0.5) * ROW
            if index % 2:
                canvas.stripe(figure, y - ROW / 2, ROW)
            canvas.write(figure, 0.0, y, label)
        axes = canvas.place(figure, left, foot, canvas.WIDTH - left - 0.15, height)
        widest = _sizes_axis(axes, shown, limits, axis)
        for index, row in enumerate(shown):
            for place in reversed(range(len(row.values))):
                _dot(axes, index, place, row.values[place], widest)
        for index, entries in enumerate(keys):
            canvas.legend(figure, entries, left + 0.06, foot + height + head - 0.14 - 0.22 * index)
        return canvas.svg(figure)


def _style(place: int) -> dict[str, Any]:
    """The marker of a series: hollow for what was before, a shape and a colour for each estimator."""
    if place == 0:
        return {"marker": "o", "color": canvas.FAINT, "markerfacecolor": "white", "markeredgewidth": 1.2}
    return {
        "marker": MARKERS[(place - 1) % len(MARKERS)],
        "color": canvas.SERIES[(place - 1) % len(canvas.SERIES)],
        "markeredgewidth": 0.6,
        "markeredgecolor": "white",
    }


def _key_lines(series: Sequence[str], left: float) -> list[list[tuple[str, dict[str, Any]]]]:
    """The legend in as many lines as it needs."""
    found: list[list[tuple[str, dict[str, Any]]]] = [[]]
    x = left
    for place, label in enumerate(series):
        text = canvas.clean(label)
        x += 0.3 + canvas.inches(text)
        if x > canvas.WIDTH and found[-1]:
            found.append([])
            x = left + 0.3 + canvas.inches(text)
        found[-1].append((text, {"markersize": 5.5, **_style(place)}))
    return found


def _sizes_axis(axes: Axes, rows: Sequence[Dots], limits: Sequence[float], label: str) -> float:
    """An axis from 0 with the limits as lines; its right end."""
    from matplotlib.ticker import MaxNLocator

    known = [value for row in rows for value in row.values if math.isfinite(value)]
    widest = min(max([*known, 1.2 * max(limits)]), WIDEST)
    axes.set_xlim(0, 1.03 * widest)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_yticks([])
    positions = [value for value in MaxNLocator(8).tick_values(0, widest) if 0 <= value <= 1.03 * widest]
    axes.set_xticks(positions, [numbers.short(round(float(value), 9)) if value else "0" for value in positions])
    axes.grid(axis="x", color=canvas.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for limit, colour in zip(limits, (canvas.MUTED, canvas.ALARM), strict=False):
        axes.axvline(limit, color=colour, linewidth=1.0, linestyle=(0, (3, 2)))
    axes.set_xlabel(canvas.clean(label, 60), color=canvas.MUTED, fontsize=canvas.TEXT - 0.4)
    return widest


def _dot(axes: Axes, y: int, place: int, value: float, widest: float) -> None:
    if not math.isfinite(value):
        return
    style = _style(place)
    if value > widest:
        style |= {"marker": ">"}
    axes.plot([min(value, widest)], [y], linestyle="none", markersize=5.2 if place else 5.6, clip_on=False, **style)


def mirrored(panels: Sequence[Histogram], *, name: str, axis: str, treated: str, control: str) -> str:
    """Units by propensity, the treated upwards and the untreated downwards; heights are logarithms."""
    with canvas.surface(name):
        across = min(2, max(1, len(panels)))
        height, gap, foot, top = 1.5, 0.62, 0.46, 0.3 if len(panels) > 1 else 0.06
        down = max(1, math.ceil(len(panels) / across))
        figure = canvas.blank(0.3 + down * (height + foot + top))
        tall = figure.get_size_inches()[1]
        width = (canvas.WIDTH - gap * across - 0.1) / across
        for index, panel in enumerate(panels):
            x = gap + (index % across) * (width + gap)
            y = tall - 0.3 - (index // across + 1) * (height + foot + top) + foot
            axes = canvas.place(figure, x, y, width, height)
            if len(panels) > 1:
                title = canvas.clean(panel.label, 30)
                canvas.write(figure, x, y + height + 0.13, title, fontweight="bold")
            _bars(axes, panel, axis)
        square = {"marker": "s", "markersize": 6}
        entries: list[tuple[str, dict[str, Any]]] = [
            (canvas.clean(treated), {**square, "color": canvas.UP}),
            (canvas.clean(control), {**square, "color": canvas.FAINT}),
        ]
        canvas.legend(figure, entries, gap + 0.06, tall - 0.13)
        return canvas.svg(figure)


def _bars(axes: Axes, panel: Histogram, label: str) -> None:
    """One panel; an empty group draws nothing."""
    counts = [np.nan_to_num(np.asarray(group, float)) for group in (panel.treated, panel.control)]
    most = max([float(group.max(initial=0.0)) for group in counts])
    floor = max(1.0, most / DECADES)
    reach = 1.05 * math.log10(1 + most / floor) or 1.0
    for group, sign, colour in zip(counts, (1, -1), (canvas.UP, canvas.FAINT), strict=True):
        if len(group):
            edges = np.arange(len(group) + 1) / len(group)
            axes.stairs(sign * np.log10(1 + group / floor), edges, fill=True, color=colour)
    axes.set_ylim(-reach, reach)
    axes.set_xlim(0, 1)
    powers = [10.0**k for k in range(math.floor(math.log10(floor)), math.floor(math.log10(max(most, 1.0))) + 1)]
    shown = [power for power in powers if math.log10(1 + power / floor) / reach > 0.15][-4:]
    axes.set_yticks(
        [sign * math.log10(1 + power / floor) for power in shown for sign in (1, -1)],
        [numbers.count(power) for power in shown for _ in (1, -1)],
    )
    axes.grid(axis="y", color=canvas.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axhline(0, color=canvas.MUTED, linewidth=0.9)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1"])
    axes.set_xlabel(canvas.clean(label, 60), color=canvas.MUTED, fontsize=canvas.TEXT - 0.4)
