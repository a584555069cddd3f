"""The drawing of looks under a plan: z against its bounds. Plain data in, SVG text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causal_spark.report import canvas, numbers
from causal_spark.report.marks import PLAIN, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_TOP = 4.0  # of the axis; bounds of early looks may lie far beyond and are not shown then


@dataclass(frozen=True)
class Path:
    """The looks of one panel, all of one length: share of the plan, z, and the bound for it on the tested side."""

    label: str
    fraction: Sequence[float]
    z: Sequence[float]
    bound: Sequence[float]
    alternative: str = "two-sided"


def looks(panels: Sequence[Path], *, name: str, axis: str, legend: Sequence[str]) -> str:
    """Small panels, three in a row; ``legend`` holds the words for z and for the bound."""
    with canvas.surface(name):
        across, height, gap, foot, head = 3, 1.45, 0.72, 0.5, 0.35
        lines = max(1, math.ceil(len(panels) / across))
        figure = canvas.blank(head + lines * (height + 0.72))
        tall = figure.get_size_inches()[1]
        width = (canvas.WIDTH - gap * across) / across
        for index, path in enumerate(panels):
            x = gap - 0.1 + (index % across) * (width + gap)
            y = tall - head - (index // across + 1) * (height + 0.72) + foot
            axes = canvas.place(figure, x, y, width, height)
            canvas.write(figure, x - gap + 0.3, y + height + 0.13, canvas.clean(path.label, 26), fontweight="bold")
            _panel(axes, path, axis)
        bar: dict[str, Any] = {"marker": "_", "markersize": 10, "markeredgewidth": 1.6, "color": canvas.ALARM}
        canvas.legend(figure, [(legend[0], {"color": canvas.UP}), (legend[1], bar)], gap - 0.1, tall - 0.15)
        return canvas.svg(figure)


def _panel(axes: Axes, path: Path, axis: str) -> None:
    from matplotlib.ticker import MaxNLocator

    top = 1.15 * max([LEAST_TOP, *(abs(z) for z in path.z if math.isfinite(z))])
    end = max([1.0, *(x for x in path.fraction if math.isfinite(x))])
    axes.set_xlim(0, 1.05 * end)
    axes.set_ylim(-top, top)
    axes.grid(axis="y", color=canvas.GRID, linewidth=0.6)
    axes.axhline(0, color=canvas.MUTED, linewidth=0.9)
    axes.axvline(1.0, color=canvas.GRID, linewidth=1.2)
    for side in {"two-sided": (1, -1), "greater": (1,)}.get(path.alternative, (-1,)):
        limits = [side * bound if math.isfinite(bound) else math.nan for bound in path.bound]
        line: dict[str, Any] = {
            "color": canvas.ALARM,
            "linewidth": 1.2,
            "marker": "_",
            "markersize": 8,
            "markeredgewidth": 1.6,
        }
        axes.plot(path.fraction, limits, **line)
    axes.plot(path.fraction, path.z, color=canvas.UP, linewidth=1.2, marker="o", markersize=4.2)
    ticks(axes.yaxis, [v for v in MaxNLocator(4).tick_values(-top, top) if -top <= v <= top], PLAIN)
    share = [v for v in MaxNLocator(4).tick_values(0, 1.05 * end) if 0 <= v <= 1.05 * end]
    axes.set_xticks(share, [numbers.short(100 * v) for v in share])
    axes.set_xlabel(canvas.clean(axis), color=canvas.MUTED, fontsize=canvas.TEXT - 0.4)
