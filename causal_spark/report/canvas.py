"""A quiet drawing surface: matplotlib without pyplot, to SVG text that can stand inside a page."""

from __future__ import annotations

import io
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT, GRID = "#1b2430", "#667282", "#9aa5b3", "#e3e8ee"
STRIPE = "#f5f7f9"
UP, DOWN, ALARM = "#1f5fc4", "#7a3aa8", "#b42318"  # a rise and a fall are neither good nor bad
SERIES = ("#1f5fc4", "#b4540a", "#6b4fa0", "#0f7b6c")
FONTS = ("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif")
WIDTH = 9.0
TEXT = 8.4
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": list(FONTS),
    "font.size": TEXT,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "path.simplify": False,
}
_PROLOG = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL)


def clean(text: object, limit: float = 30.0) -> str:
    """One line of printable text at most ``limit`` em wide, cut with an ellipsis."""
    flat = "".join(c if c.isprintable() else " " for c in str(text))
    if ems(flat) <= limit:
        return flat
    while flat and ems(flat) > limit - 1:
        flat = flat[:-1]
    return flat + "\u2026"


def ems(text: str) -> float:
    """The width of a text in em: Chinese characters are one, others a little more than half."""
    return sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.56 for c in text)


def inches(text: str, size: float = TEXT) -> float:
    """The width of a text in inches, whatever font the reader has."""
    return ems(text) * size / 72.0


@contextmanager
def surface(name: str) -> Iterator[None]:
    """Our drawing settings and no font complaints, for the time of one figure; ``name`` fixes the ids."""
    import matplotlib

    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
            warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
            warnings.filterwarnings("ignore", message=".*findfont.*")
            yield
    finally:
        log.setLevel(level)


def blank(height: float) -> Figure:
    """An empty figure of the width of the page and ``height`` inches, with a transparent ground."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(WIDTH, height), facecolor="none")
    FigureCanvasSVG(figure)
    return figure


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches, with only a light frame."""
    whole, tall = figure.get_size_inches()
    axes = figure.add_axes((left / whole, bottom / tall, width / whole, height / tall), facecolor="none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=TEXT - 0.6)
    return axes


def write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a place given in inches from the lower left corner."""
    whole, tall = figure.get_size_inches()
    figure.text(x / whole, y / tall, text, **{"va": "center", **style})


def stripe(figure: Figure, bottom: float, height: float) -> None:
    """A faint band across the figure that leads the eye along a row (inches)."""
    from matplotlib.patches import Rectangle

    tall = figure.get_size_inches()[1]
    style: dict[str, Any] = {"facecolor": STRIPE, "linewidth": 0, "zorder": -5}
    figure.add_artist(Rectangle((0, bottom / tall), 1, height / tall, transform=figure.transFigure, **style))


def legend(figure: Figure, entries: list[tuple[str, dict[str, Any]]], x: float, y: float) -> None:
    """Markers with their words, in one line from ``x``, ``y`` (inches)."""
    from matplotlib.lines import Line2D

    whole, tall = figure.get_size_inches()
    for text, style in entries:
        marks = {"marker": "o", "markersize": 4.5, "linestyle": "none", **style}
        figure.add_artist(Line2D([x / whole], [y / tall], transform=figure.transFigure, **marks))
        write(figure, x + 0.09, y, text, color=MUTED, fontsize=TEXT - 0.4)
        x += 0.3 + inches(text)


def svg(figure: Figure) -> str:
    """The SVG text of a figure: no prolog, no metadata, no doctype, no references outside itself."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = _PROLOG.sub("", buffer.getvalue()).replace("xlink:href", "href")
    text = text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    return re.sub(r"[ \t]+\n", "\n", text).strip() + "\n"
