"""Drawings of attributions and budgets: plain data in, SVG text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causal_spark.report import canvas, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.27
MAX_ROWS, MAX_PANELS, MAX_CELLS = 40, 6, 20
COLOURS = (*canvas.SERIES, "#8a6d00", "#a3246e", "#3d7a1c", "#455a73", "#c0392b", "#2b8fa3")


@dataclass(frozen=True)
class Bar:
    """One bar: its length and the ends of its interval (NaN: none)."""

    value: float
    low: float = math.nan
    high: float = math.nan


def bars(rows: Sequence[str], panels: Sequence[tuple[str, Sequence[Bar]]], *, name: str) -> str:
    """Horizontal bars with intervals, one panel for each model, one row for each channel."""
    rows, panels = list(rows)[:MAX_ROWS], list(panels)[:MAX_PANELS]
    with canvas.surface(name):
        labels = [canvas.clean(row, 22) for row in rows]
        left = max([canvas.inches(label) for label in labels] + [0.0]) + 0.2
        height, foot, head, gap = ROW * max(1, len(rows)), 0.3, 0.3, 0.22
        figure = canvas.blank(height + foot + head)
        width = (canvas.WIDTH - left - gap * max(len(panels) - 1, 0)) / max(1, len(panels))
        _labels(figure, labels, foot, height)
        ends = [end for _, values in panels for bar in values for end in (bar.value, bar.high) if math.isfinite(end)]
        low = min([0.0, *(bar.low for _, values in panels for bar in values if math.isfinite(bar.low))])
        for place, (title, values) in enumerate(panels):
            axes = canvas.place(figure, left + place * (width + gap), foot, width, height)
            canvas.write(figure, left + place * (width + gap), foot + height + 0.14, canvas.clean(title, 16),
                         fontweight="bold")  # fmt: skip
            _frame(axes, len(rows), (low, 1.06 * max([*ends, 1e-9])))
            for index, bar in enumerate(values[:MAX_ROWS]):
                if math.isfinite(bar.value):
                    axes.barh(index, bar.value, height=0.55, color=canvas.UP, alpha=0.75)
                if math.isfinite(bar.low) and math.isfinite(bar.high):
                    axes.plot([bar.low, bar.high], [index, index], color=canvas.INK, linewidth=1.1)
        return canvas.svg(figure)


def _labels(figure: Any, labels: Sequence[str], foot: float, height: float) -> None:
    for index, label in enumerate(labels):
        y = foot + height * (1 - (index + 0.5) / len(labels))
        if index % 2:
            canvas.stripe(figure, y - height / len(labels) / 2, height / len(labels))
        canvas.write(figure, 0.0, y, label, fontweight="bold")


def _frame(axes: Axes, rows: int, span: tuple[float, float], percent: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(*span)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x", color=canvas.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    inside = [v for v in MaxNLocator(3).tick_values(*span) if span[0] <= v <= span[1]]
    axes.set_xticks(inside, [numbers.percent(v, 0) if percent else short(v) for v in inside])


def short(value: float) -> str:
    """``12,000`` as ``12k``, ``3,400,000`` as ``3.4M``."""
    for size, mark in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return numbers.short(value / (1e3 if mark == "k" else size)) + mark
    return numbers.short(value) if value else "0"


def dots(rows: Sequence[str], models: Mapping[str, Sequence[float]], *, name: str) -> str:
    """One row for each channel, one dot for each model: the wider the row, the less the models agree (shares)."""
    rows = list(rows)[:MAX_ROWS]
    with canvas.surface(name):
        labels = [canvas.clean(row, 22) for row in rows]
        left = max([canvas.inches(label) for label in labels] + [0.0]) + 0.25
        legend = [(canvas.clean(model, 16), {"color": COLOURS[i % len(COLOURS)]}) for i, model in enumerate(models)]
        lines = _legend_lines(legend)
        height, foot, head = ROW * max(1, len(rows)), 0.3, 0.1 + 0.24 * len(lines)
        figure = canvas.blank(height + foot + head)
        axes = canvas.place(figure, left, foot, canvas.WIDTH - left - 0.1, height)
        _labels(figure, labels, foot, height)
        every = [v for values in models.values() for v in values if math.isfinite(v)]
        _frame(axes, len(rows), (min([0.0, *every]) * 1.05, max([*every, 0.01]) * 1.05), percent=True)
        for index in range(len(rows)):
            mine = [values[index] for values in models.values() if math.isfinite(values[index])]
            if mine:
                axes.plot([min(mine), max(mine)], [index, index], color=canvas.FAINT, linewidth=1.4, zorder=1)
        for i, values in enumerate(models.values()):
            axes.plot(values[: len(rows)], range(len(rows)), "o", color=COLOURS[i % len(COLOURS)], markersize=5)
        for i, line in enumerate(lines):
            canvas.legend(figure, line, left + 0.06, foot + height + head - 0.14 - 0.24 * i)
        return canvas.svg(figure)


def _legend_lines(entries: Sequence[tuple[str, dict[str, Any]]]) -> list[list[tuple[str, dict[str, Any]]]]:
    """Entries broken into lines that fit the page."""
    lines: list[list[tuple[str, dict[str, Any]]]] = [[]]
    used = 0.0
    for entry in entries:
        width = 0.3 + canvas.inches(entry[0])
        if used + width > canvas.WIDTH - 2 and lines[-1]:
            lines.append([])
            used = 0.0
        lines[-1].append(entry)
        used += width
    return lines


def heat(rows: Sequence[str], columns: Sequence[str], shares: np.ndarray, *, name: str) -> str:
    """A table of shares, darker where larger: where journeys go next from each place."""
    rows, columns = list(rows)[:MAX_CELLS], list(columns)[:MAX_CELLS]
    with canvas.surface(name):
        labels = [canvas.clean(row, 18) for row in rows]
        tops = [canvas.clean(column, 12) for column in columns]
        left = max([canvas.inches(label) for label in labels] + [0.0]) + 0.2
        head = max([canvas.inches(top) for top in tops] + [0.0]) + 0.15
        height = ROW * max(1, len(rows))
        figure = canvas.blank(height + head + 0.1)
        width = (canvas.WIDTH - left) / max(1, len(columns))
        axes = canvas.place(figure, left, 0.05, canvas.WIDTH - left, height)
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        axes.axis("off")
        for index, label in enumerate(labels):
            canvas.write(figure, 0.0, 0.05 + height - (index + 0.5) * ROW, label, fontweight="bold")
        for place, top in enumerate(tops):
            x = left + (place + 0.5) * width
            canvas.write(figure, x, 0.1 + height, top, rotation=90, va="bottom", ha="center", color=canvas.MUTED)
        _cells(axes, np.asarray(shares)[: len(rows), : len(columns)])
        return canvas.svg(figure)


def _cells(axes: Axes, shares: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    most = max(float(np.nanmax(shares)) if shares.size else 0.0, 1e-9)
    for (row, column), share in np.ndenumerate(shares):
        if not share > 0:
            continue
        style: dict[str, Any] = {"facecolor": canvas.UP, "alpha": 0.08 + 0.82 * share / most, "linewidth": 0}
        axes.add_patch(Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, **style))
        if share >= 0.005:
            ink = "white" if share / most > 0.55 else canvas.INK
            axes.text(column + 0.5, row + 0.5, f"{share:.0%}", ha="center", va="center", fontsize=6.6, color=ink)


def lines(panels: Sequence[tuple[str, Sequence[float], Mapping[str, Sequence[float]]]], *, name: str, axis: str,
          percent: bool = True) -> str:  # fmt: skip
    """Curves side by side: a title, x, and one or more named lines."""
    panels = list(panels)[:MAX_PANELS]
    with canvas.surface(name):
        height, foot, head, gap = 1.7, 0.5, 0.3, 0.7
        figure = canvas.blank(height + foot + head)
        width = (canvas.WIDTH - gap * len(panels)) / max(1, len(panels))
        for place, (title, x, series) in enumerate(panels):
            left = gap - 0.1 + place * (width + gap)
            axes = canvas.place(figure, left, foot, width, height)
            canvas.write(figure, left, foot + height + 0.15, canvas.clean(title, 34), fontweight="bold")
            for i, values in enumerate(series.values()):
                axes.plot(x, values, color=COLOURS[i % len(COLOURS)], linewidth=1.6)
            axes.grid(axis="y", color=canvas.GRID, linewidth=0.6)
            axes.set_ylim(bottom=0)
            axes.set_xlabel(canvas.clean(axis), color=canvas.MUTED, fontsize=canvas.TEXT - 0.4)
            _left_ticks(axes, percent)
        return canvas.svg(figure)


def _left_ticks(axes: Axes, percent: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_ylim()
    inside = [v for v in MaxNLocator(4).tick_values(low, high) if low <= v <= high]
    axes.set_yticks(inside, [numbers.percent(v, 0) if percent else short(v) for v in inside])


@dataclass(frozen=True)
class Response:
    """A curve with its band over spend, the past points, and the spend now and planned."""

    title: str
    spend: Sequence[float]
    outcome: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    past: Sequence[tuple[float, float]]
    now: float
    planned: float


def responses(curves: Sequence[Response], *, name: str, now: str, planned: str, axis: str) -> str:
    """Response curves three in a row, with the spend now (hollow) and planned (full)."""
    curves = list(curves)[:12]
    with canvas.surface(name):
        across, height, gap, foot, head = 3, 1.55, 0.72, 0.5, 0.35
        down = max(1, math.ceil(len(curves) / across))
        figure = canvas.blank(head + down * (height + 0.8))
        tall = figure.get_size_inches()[1]
        width = (canvas.WIDTH - gap * across) / across
        for index, curve in enumerate(curves):
            x = gap - 0.1 + (index % across) * (width + gap)
            y = tall - head - (index // across + 1) * (height + 0.8) + foot
            axes = canvas.place(figure, x, y, width, height)
            canvas.write(figure, x, y + height + 0.12, canvas.clean(curve.title, 26), fontweight="bold")
            _response(axes, curve)
            axes.set_xlabel(canvas.clean(axis), color=canvas.MUTED, fontsize=canvas.TEXT - 0.4)
        marks: list[tuple[str, dict[str, Any]]] = [
            (now, {"color": canvas.INK, "markerfacecolor": "white"}),
            (planned, {"color": canvas.UP}),
        ]
        canvas.legend(figure, marks, gap - 0.05, tall - 0.15)
        return canvas.svg(figure)


def _response(axes: Axes, curve: Response) -> None:
    from matplotlib.ticker import MaxNLocator

    spend, outcome = np.asarray(curve.spend), np.asarray(curve.outcome)
    axes.fill_between(spend, np.asarray(curve.low), np.asarray(curve.high), color=canvas.UP, alpha=0.13, linewidth=0)
    axes.plot([x for x, _ in curve.past], [y for _, y in curve.past], ".", color=canvas.FAINT, markersize=2.6)
    axes.plot(spend, outcome, color=canvas.UP, linewidth=1.5)
    styles: list[dict[str, Any]] = [{"color": canvas.INK, "markerfacecolor": "white"}, {"color": canvas.UP}]
    for at, style in zip((curve.now, curve.planned), styles, strict=True):
        axes.plot([at], [float(np.interp(at, spend, outcome))], "o", markersize=6, **style)
    axes.grid(axis="y", color=canvas.GRID, linewidth=0.6)
    top = max([float(np.max(outcome)), *(y for _, y in curve.past)])
    axes.set_ylim(0, 1.1 * top)
    _left_ticks(axes, percent=False)
    low, high = axes.get_xlim()
    inside = [v for v in MaxNLocator(4).tick_values(low, high) if 0 <= v <= high]
    axes.set_xticks(inside, [short(v) for v in inside])


def pairs(rows: Sequence[str], before: Sequence[float], after: Sequence[float], texts: Sequence[str], *, name: str,
          words: tuple[str, str]) -> str:  # fmt: skip
    """Two bars for each row, before and after, with a text at the end."""
    rows = list(rows)[:MAX_ROWS]
    with canvas.surface(name):
        labels = [canvas.clean(row, 22) for row in rows]
        notes = [canvas.clean(text, 44) for text in texts[: len(rows)]]
        left = max([canvas.inches(label) for label in labels] + [0.0]) + 0.25
        right = max([canvas.inches(note) for note in notes] + [0.0]) + 0.25
        line, head, foot = 0.42, 0.3, 0.3
        height = line * max(1, len(rows))
        figure = canvas.blank(height + head + foot)
        axes = canvas.place(figure, left, foot, canvas.WIDTH - left - right, height)
        _labels(figure, labels, foot, height)
        _frame(axes, len(rows), (0.0, 1.05 * max([*before, *after, 1e-9])))
        for index, (a, b, note) in enumerate(zip(before, after, notes, strict=False)):
            axes.barh(index - 0.19, a, height=0.32, color=canvas.FAINT)
            axes.barh(index + 0.19, b, height=0.32, color=canvas.UP, alpha=0.8)
            y = foot + height * (1 - (index + 0.5) / len(rows))
            canvas.write(figure, canvas.WIDTH, y, note, ha="right", color=canvas.MUTED)
        marks: list[tuple[str, dict[str, Any]]] = [
            (words[0], {"marker": "s", "color": canvas.FAINT}),
            (words[1], {"marker": "s", "color": canvas.UP}),
        ]
        canvas.legend(figure, marks, left + 0.06, foot + height + head / 2 + 0.03)
        return canvas.svg(figure)
