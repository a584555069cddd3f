"""The generic parts of a page: tables, figures, lists, and the sections that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from causal_spark.report import numbers
from causal_spark.report.phrases import Phrases

MAX_ROWS = 200
MAX_TEXT = 400


@dataclass(frozen=True)
class Cell:
    """One cell: a main text, a smaller line under it, a tone (``up``, ``down``, ``pass``, ``warn``, …), a badge."""

    text: str
    sub: str = ""
    tone: str = ""
    badge: bool = False


@dataclass(frozen=True)
class Column:
    """The heading of a column and its alignment (``left`` or ``right``)."""

    title: str
    align: str = "left"


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells; a row of one cell is a heading across the table.

    With ``summary`` the table is folded behind that line.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    summary: str = ""
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """One SVG drawing: ``name`` is its fixed file name without ``.svg``."""

    name: str
    svg: str
    caption: str = ""
    title: str = ""
    kind: str = "figure"


@dataclass(frozen=True)
class Lines:
    """A list of sentences."""

    sentences: Sequence[str]
    kind: str = "lines"


@dataclass(frozen=True)
class Terms:
    """Pairs of a term and what is said about it; ``compact`` sets them in two columns of facts."""

    pairs: Sequence[tuple[str, str]]
    compact: bool = False
    kind: str = "terms"


Block = Table | Figure | Lines | Terms


@dataclass(frozen=True)
class Section:
    """A heading, a sentence that says how to read it, and its blocks."""

    title: str
    lead: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Answer:
    """A question of the reader, the short answer, and the sentences behind it, in groups with a heading."""

    question: str
    short: str
    groups: Sequence[tuple[str, Sequence[str]]] = ()
    tone: str = ""


@dataclass(frozen=True)
class Page:
    """All that a template needs. ``tone``: ``good``, ``care`` or ``stop``; ``scope``: which effect is told."""

    title: str
    eyebrow: str
    subtitle: str
    tone: str
    headline: str
    reasons: Sequence[str]
    answers: Sequence[Answer]
    tiles: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    footer: str
    scope: str = ""


def clip(text: object, limit: int = MAX_TEXT) -> str:
    """Text of bounded length without control characters; missing values are empty."""
    if text is None or (isinstance(text, float) and text != text):
        return ""
    clean = "".join(c if c.isprintable() or c == "\u3000" else " " for c in str(text)).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "\u2026"


def table(
    phrases: Phrases, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], summary: str = "", note: str = ""
) -> Table:
    """A table of at most ``MAX_ROWS`` rows; the note says so when rows were left out."""
    every = list(rows)
    if len(every) > MAX_ROWS:
        more = phrases("rows_shown", shown=f"{MAX_ROWS:,}", rows=f"{len(every):,}")
        note = f"{note} {more}".strip()
    return Table(columns, every[:MAX_ROWS], summary, note)


def value_cell(name: str, value: object) -> Cell:
    """A cell of a table nobody described: numbers formatted by what their column is called."""
    if isinstance(value, bool) or (not isinstance(value, (int, float)) and not hasattr(value, "dtype")):
        return Cell(clip(value))
    if name.startswith("p_"):
        return Cell(numbers.p_value(value))
    whole = numbers.as_float(value)
    return Cell(numbers.count(value) if whole == round_or_nan(whole) and abs(whole) >= 1 else numbers.plain(value))


def round_or_nan(value: float) -> float:
    """The nearest whole number; NaN and infinities unchanged."""
    return float(round(value)) if abs(value) < 1e15 else value


def frame_table(phrases: Phrases, frame: pd.DataFrame, summary: str = "") -> Table:
    """Any tidy table as it is: its column names as headings, its numbers made readable."""
    numeric = {name: pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns}
    columns = [Column(clip(name, 60), "right" if numeric[name] else "left") for name in frame.columns]
    shown = frame.head(MAX_ROWS + 1)
    rows = [[value_cell(str(n), v) for n, v in zip(frame.columns, row, strict=True)] for row in shown.to_numpy(object)]
    built = table(phrases, columns, rows, summary)
    if len(frame) <= MAX_ROWS:
        return built
    note = phrases("rows_shown", shown=f"{MAX_ROWS:,}", rows=f"{len(frame):,}")
    return Table(columns, built.rows, summary, note)
