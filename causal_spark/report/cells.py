"""The cells that several tables of an experiment share."""

from __future__ import annotations

from collections.abc import Iterable

from causal_spark.report import numbers
from causal_spark.report.effects import EVERYONE, Change, Effect
from causal_spark.report.parts import Block, Cell, clip
from causal_spark.report.phrases import Phrases


def blocks(*some: Block | None) -> tuple[Block, ...]:
    """Those that are there."""
    return tuple(block for block in some if block)


def change_places(change: Change, unit: str, least: int | None = None) -> int | None:
    """Digits of a change and its interval, as many as its column has."""
    return numbers.at_least(numbers.interval_places(change.estimate, change.low, change.high, unit), least)


def lift_places(every: Iterable[Effect]) -> int | None:
    """The digits that all relative changes of a page share."""
    return numbers.column_places(((e.lift.estimate, e.lift.low, e.lift.high) for e in every), "percent")


def points_places(every: Iterable[Effect]) -> int | None:
    """The digits that all differences in percentage points share."""
    changes = (effect.difference for effect in every if effect.unit == "points")
    return numbers.column_places(((c.estimate, c.low, c.high) for c in changes), "points")


def p_cell(value: object) -> Cell:
    """p with the digits of its column."""
    return Cell(numbers.p_value(value, 4))


def change_cell(change: Change, unit: str, phrases: Phrases, tone: str = "", least: int | None = None) -> Cell:
    """An estimate above its interval; a dash above the reason where there is none. ``least``: the column's digits."""
    if not change.known:
        return Cell(numbers.DASH, clip(change.note, 80) if change.method else "")
    places = change_places(change, unit, least)
    text = numbers.FORMATTERS[unit](change.estimate, places, True)
    return Cell(phrases.with_unit(text, unit), numbers.interval(change.low, change.high, unit, places), tone)


def reading(phrases: Phrases, effect: Effect, trusted: bool) -> Cell:
    """The badge that says what a reader may say."""
    if not effect.main.known:
        code, tone = "unknown", "muted"
    elif not trusted:
        code, tone = "untrusted", "invalid"
    elif effect.moved:
        code, tone = ("up", "up") if effect.moved > 0 else ("down", "down")
    else:
        code, tone = ("hint", "warn") if effect.hinted else ("none", "muted")
    return Cell(phrases("reading_" + code), tone=tone, badge=True)


def segment_text(phrases: Phrases, segment: object) -> str:
    """The name of a segment, with a word for everyone."""
    return phrases("everyone") if str(segment) == EVERYONE else clip(segment, 80)
