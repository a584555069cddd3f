"""Journeys as arrays: the rules that cut them, the events they are cut from, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from causal_spark.solve import positions

DAY = 86_400_000_000
MINUTE = 60_000_000
# A journey without conversion counts in these units, so that censored ones can count in part.
WHOLE = 1_000_000
# Frequencies from this one on are one token of the frequency transform.
OFTEN = 9

Whole = NDArray[np.int64]
Mask = NDArray[np.bool_]
Real = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """How journeys are cut, times in microseconds; ``None`` is "no limit". ``session``: which touch stands for its
    session, the first or the last; None: sessions are not known. ``gap``: the longest between touches that are one.
    ``lag``: share of conversions by whole days since the last touch, for censored journeys that count in part.
    ``period``: the last segment column is read at the end of a journey, not at its first touch."""

    window: int
    view_window: int
    max_touches: int | None
    gap: int | None
    session: str | None
    once: bool
    reuse: bool
    as_of: int
    censoring: str
    change: str
    drop_last: tuple[int, ...]
    tokens: int
    lag: tuple[float, ...] = ()
    period: bool = False

    @property
    def reach(self) -> int:
        """The longest window of any touch: a journey without conversion is open so long after its last."""
        return max(self.window, self.view_window)


@dataclass(frozen=True, eq=False)
class Events:
    """Touches or conversions of a bucket in order of (person, time, id). ``person`` from 0, ``time`` microseconds.

    ``code``: the channel of a touch; ``view``: whether it is one; ``session``: its hash, 0 for none (None where the
    rules do not ask); ``segments`` (n, s); ``amounts`` (n, v) of conversions.
    """

    person: Whole
    time: Whole
    code: Whole
    view: Mask | None
    session: Whole | None
    segments: Whole
    amounts: Whole


@dataclass(frozen=True, eq=False)
class Journeys:
    """J journeys in the order of their persons: ``starts`` (J + 1,) into the touches, their ``codes`` (n,), and where
    ``clock`` holds their times, ``index`` (n,).

    ``person`` (J,), ``conversions`` (J,) counts, ``nulls`` (J,) in millionths, ``amounts`` (J, v) fixed point,
    ``segments`` (J, s), ``ends`` (J,) microseconds. A conversion without touches is a journey of length 0 with
    segment -1.
    """

    starts: Whole
    codes: Whole
    clock: Whole
    index: Whole
    person: Whole
    conversions: Whole
    nulls: Whole
    amounts: Whole
    segments: Whole
    ends: Whole

    @cached_property
    def sizes(self) -> Whole:
        return np.diff(self.starts)

    @cached_property
    def journey(self) -> Whole:
        """The journey of each touch."""
        return positions.owners(self.starts)

    @cached_property
    def place(self) -> Whole:
        """The place of each touch in its journey, from 0."""
        return np.arange(len(self.codes)) - self.starts.take(self.journey)

    @cached_property
    def times(self) -> Whole:
        """The moment of each touch, in microseconds."""
        return self.clock.take(self.index)

    @property
    def ages(self) -> Whole:
        """Microseconds from each touch to the end of its journey."""
        return self.ends.take(self.journey) - self.times

    def touches(self, kept: Mask) -> Journeys:
        """The same journeys with only the ``kept`` touches."""
        if kept.all():
            return self
        return replace(self, starts=before(kept)[self.starts], codes=self.codes[kept], index=self.index[kept])

    def chosen(self, kept: Mask) -> Journeys:
        """Only the ``kept`` journeys."""
        if kept.all():
            return self
        sizes, codes, index = self.sizes[kept], self.codes, self.index
        if sizes.sum() < len(codes):
            touch = np.flatnonzero(kept.take(self.journey))
            codes, index = codes.take(touch), index.take(touch)
        return Journeys(offsets(sizes), codes, self.clock, index, self.person[kept], self.conversions[kept],
                        self.nulls[kept], self.amounts[kept], self.segments[kept], self.ends[kept])  # fmt: skip


@dataclass(frozen=True)
class Left:
    """What was counted on the way: journeys too young to be nulls, touches that stood twice."""

    censored: int
    repeated: int


def offsets(sizes: Whole) -> Whole:
    """0 and the running totals."""
    found = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=found[1:])
    return found


def before(kept: Mask) -> Whole:
    """How many are kept before each place, and in all, (n + 1,)."""
    return offsets(kept.astype(np.int64))


def between(first: Whole, sizes: Whole) -> Whole:
    """The numbers first, first + 1, … of each range, one range after the other."""
    starts = offsets(sizes)
    return np.asarray(np.arange(starts[-1]) + (first - starts[:-1]).take(positions.owners(starts)), np.int64)


def within(values: Whole, starts: Whole) -> Whole:
    """The sum of the values between ``starts``, exact in whole numbers."""
    return np.asarray(np.diff(offsets(values)[starts]), np.int64)


def columns(*parts: Whole) -> Whole:
    """Arrays (n,) side by side, (n, parts), each of them in one piece of memory."""
    return np.asarray(np.array(parts).T, np.int64)


def tokens(channels: Sequence[str], change: str) -> tuple[str, ...]:
    """The names of the codes after the transform: "tv (2)" is tv met twice, with frequencies up to 9."""
    if change != "frequency":
        return tuple(channels)
    return tuple(f"{name} ({n}{'+' if n == OFTEN else ''})" for n in range(1, OFTEN + 1) for name in channels)
