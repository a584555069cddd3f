"""The drawings: plain data in, SVG text out. No figure knows a method, a language or a cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_spark.report import canvas
from causal_spark.report.marks import PERCENT, Mark, Scale, colour_of, frame, interval, range_of, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.27
MAX_FOREST_ROWS = 60


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot: two labels, a mark, its unadjusted twin, and the number as text."""

    label: str
    sub: str
    mark: Mark
    twin: Mark | None = None
    text: str = ""


@dataclass(frozen=True)
class Band:
    """One line over time: points, estimates and interval ends, all of one length."""

    label: str
    x: Sequence[float]
    estimate: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Share:
    """One bar: the observed share of an arm and the planned one."""

    label: str
    share: float
    planned: float
    text: str = ""
    flagged: bool = False


def forest(
    rows: Sequence[ForestRow], *, name: str, axis: str, legend: Sequence[str] = (), scale: Scale = PERCENT
) -> str:
    """A forest plot. ``legend`` holds the words for the main mark and its twin; open ends get an arrow."""
    shown = list(rows)[:MAX_FOREST_ROWS]
    with canvas.surface(name):
        labels = [canvas.clean(row.label, 18 if row.sub else 30) for row in shown]
        subs = [canvas.clean(row.sub, 23) for row in shown]
        texts = [canvas.clean(row.text, 24) for row in shown]
        widths = [max([canvas.inches(text) for text in column] + [0.0]) for column in (labels, subs)]
        left = widths[0] + (widths[1] + 0.25 if widths[1] else 0.0) + 0.25
        right = max([canvas.inches(text) for text in texts] + [0.0]) + 0.25
        height, foot, head = ROW * max(1, len(shown)), 0.42, 0.3 if legend else 0.1
        figure = canvas.blank(height + foot + head)
        axes = canvas.place(figure, left, foot, canvas.WIDTH - left - right, height)
        span = range_of([mark for row in shown for mark in (row.mark, row.twin) if mark])
        frame(axes, span, len(shown), scale, axis)
        for index, (row, label, sub, text) in enumerate(zip(shown, labels, subs, texts, strict=True)):
            y = foot + height - (index + 0.5) * ROW
            repeated = index > 0 and shown[index - 1].label == row.label
            if not repeated:
                canvas.write(figure, 0.0, y, label, fontweight="bold")
                _rule(figure, y + ROW / 2, index)
            canvas.write(figure, widths[0] + 0.25, y, sub, color=canvas.MUTED)
            canvas.write(figure, canvas.WIDTH, y, text, ha="right", color=colour_of(row.mark))
            interval(axes, index - (0.16 if row.twin else 0.0), row.mark, span)
            if row.twin:
                interval(axes, index + 0.2, row.twin, span, hollow=True)
        if legend:
            styles: list[dict[str, Any]] = [{"color": canvas.INK}, {"color": canvas.FAINT, "markerfacecolor": "white"}]
            entries = list(zip(legend, styles, strict=False))
            canvas.legend(figure, entries, left + 0.1, foot + height + head / 2)
        return canvas.svg(figure)


def _rule(figure: Figure, y: float, index: int) -> None:
    from matplotlib.lines import Line2D

    if index:
        tall = figure.get_size_inches()[1]
        figure.add_artist(
            Line2D([0, 1], [y / tall] * 2, transform=figure.transFigure, color=canvas.GRID, linewidth=0.6)
        )


def matrix(
    columns: Sequence[str], rows: Sequence[str], marks: Sequence[Sequence[Mark | None]], *, name: str, axis: str
) -> str:
    """Small forest plots side by side: one column per metric, one row per segment; the first row is everyone.

    ``marks[r][c]`` belongs to ``rows[r]`` and ``columns[c]``. The overall estimate is a dotted line.
    """
    rows, marks = list(rows)[:MAX_FOREST_ROWS], list(marks)[:MAX_FOREST_ROWS]
    with canvas.surface(name):
        labels = [canvas.clean(row, 24) for row in rows]
        left = max(canvas.inches(label) for label in labels) + 0.2
        height, foot, head, gap = ROW * 0.86 * len(rows), 0.42, 0.32, 0.22
        figure = canvas.blank(height + foot + head)
        width = (canvas.WIDTH - left - gap * (len(columns) - 1) - 0.15) / max(1, len(columns))
        for index, label in enumerate(labels):
            y = foot + height * (1 - (index + 0.5) / len(rows))
            if index % 2:
                canvas.stripe(figure, y - height / len(rows) / 2, height / len(rows))
            canvas.write(figure, 0.0, y, label, fontweight="bold" if index == 0 else "normal")
        for position, column in enumerate(columns):
            x = left + position * (width + gap)
            axes = canvas.place(figure, x, foot, width, height)
            title = canvas.clean(column, width * 72 / canvas.TEXT)
            canvas.write(figure, x + width / 2, foot + height + 0.16, title, ha="center", fontweight="bold")
            _matrix_column(axes, [line[position] for line in marks], axis)
        return canvas.svg(figure)


def _matrix_column(axes: Axes, marks: Sequence[Mark | None], axis: str) -> None:
    span = range_of([mark for mark in marks if mark])
    frame(axes, span, len(marks), PERCENT, axis, many=3)
    axes.axhline(0.5, color=canvas.GRID, linewidth=0.8)
    first = marks[0]
    if first and span[0] <= first.estimate <= span[1]:
        axes.axvline(first.estimate, color=colour_of(first), linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.6)
    for index, mark in enumerate(marks):
        if mark:
            interval(axes, index, mark, span)


def curves(panels: Sequence[tuple[str, Sequence[Band], Scale]], *, name: str, axis: str) -> str:
    """Small multiples over time, three in a row: a line with a band for each contrast, and a zero line."""
    with canvas.surface(name):
        names = list(dict.fromkeys(band.label for _, bands, _ in panels for band in bands))
        colours = {label: canvas.SERIES[i % len(canvas.SERIES)] for i, label in enumerate(names)}
        across, height, gap, foot = 3, 1.45, 0.72, 0.5
        lines = max(1, math.ceil(len(panels) / across))
        head = 0.35 if len(names) > 1 else 0.05
        figure = canvas.blank(head + lines * (height + 0.72))
        tall = figure.get_size_inches()[1]
        width = (canvas.WIDTH - gap * across) / across
        for index, (title, bands, scale) in enumerate(panels):
            x = gap - 0.1 + (index % across) * (width + gap)
            y = tall - head - (index // across + 1) * (height + 0.72) + foot
            axes = canvas.place(figure, x, y, width, height)
            canvas.write(figure, x - gap + 0.3, y + height + 0.13, canvas.clean(title, 26), fontweight="bold")
            _panel(axes, bands, colours, scale, axis)
        if len(names) > 1:
            entries = [(canvas.clean(label), {"color": colours[label]}) for label in names]
            canvas.legend(figure, entries, gap - 0.1, tall - 0.15)
        return canvas.svg(figure)


def _panel(axes: Axes, bands: Sequence[Band], colours: dict[str, str], scale: Scale, axis: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ends = [v for band in bands for v in (*band.estimate, *band.low, *band.high) if math.isfinite(v)]
    bottom, top = min([0.0, *ends]), max([0.0, *ends])
    room = 0.08 * (top - bottom) or 1.0
    axes.set_ylim(bottom - room, top + room)
    axes.grid(axis="y", color=canvas.GRID, linewidth=0.6)
    axes.axhline(0, color=canvas.MUTED, linewidth=0.9)
    for band in bands:
        x, colour = np.asarray(band.x, float), colours[band.label]
        low = np.clip(
            np.nan_to_num(band.low, nan=math.nan, posinf=top + room, neginf=bottom - room), bottom - room, None
        )
        high = np.clip(
            np.nan_to_num(band.high, nan=math.nan, posinf=top + room, neginf=bottom - room), None, top + room
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.11, linewidth=0)
        finite = np.where(np.isfinite(band.estimate), band.estimate, math.nan)
        axes.plot(x, finite, color=colour, linewidth=1.5, marker="o", markersize=2.4)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    inside = [v for v in MaxNLocator(4).tick_values(bottom - room, top + room) if bottom - room <= v <= top + room]
    ticks(axes.yaxis, inside, scale)
    axes.set_xlabel(canvas.clean(axis), color=canvas.MUTED, fontsize=canvas.TEXT - 0.4)


def shares(rows: Sequence[Share], *, name: str, planned: str, observed: str) -> str:
    """Horizontal bars of the observed share of each arm, with a tick at the planned share."""
    shown = list(rows)[:MAX_FOREST_ROWS]
    with canvas.surface(name):
        labels = [canvas.clean(row.label, 26) for row in shown]
        texts = [canvas.clean(row.text, 34) for row in shown]
        left = max([canvas.inches(label) for label in labels] + [0.0]) + 0.25
        right = max([canvas.inches(text) for text in texts] + [0.0]) + 0.3
        height, head = 0.34 * max(1, len(shown)), 0.3
        figure = canvas.blank(height + head + 0.05)
        axes = canvas.place(figure, left, 0.05, canvas.WIDTH - left - right, height)
        finite = [v for row in shown for v in (row.share, row.planned) if math.isfinite(v)]
        axes.set_xlim(0, max([*finite, 0.01]) * 1.04)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.axis("off")
        for index, (row, label, text) in enumerate(zip(shown, labels, texts, strict=True)):
            y = 0.05 + height - (index + 0.5) * 0.34
            colour = canvas.ALARM if row.flagged else canvas.UP
            canvas.write(figure, 0.0, y, label, fontweight="bold")
            canvas.write(figure, canvas.WIDTH, y, text, ha="right", color=canvas.ALARM if row.flagged else canvas.MUTED)
            if math.isfinite(row.share):
                axes.barh(index, row.share, height=0.5, color=colour, alpha=0.75)
            if math.isfinite(row.planned):
                axes.plot([row.planned] * 2, [index - 0.4, index + 0.4], color=canvas.INK, linewidth=1.6)
        marks: list[tuple[str, dict[str, Any]]] = [(observed, {"marker": "s", "color": canvas.UP})]
        marks.append((planned, {"marker": "|", "color": canvas.INK, "markersize": 9, "markeredgewidth": 1.6}))
        canvas.legend(figure, marks, left + 0.06, height + head / 2 + 0.05)
        return canvas.svg(figure)
