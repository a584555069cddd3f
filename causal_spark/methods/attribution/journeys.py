"""From one bucket of persons' sorted events to their journeys: numpy, where the rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, eq=False)
class Events:
    """Touches or conversions of a bucket in order of (person, time, id). ``person`` from 0, ``time`` microseconds.

    ``code``: the channel of a touch; ``view``: whether it is one; ``session``: its hash, 0 for none; ``segments``
    (n, s) of touches; ``amounts`` (n, v) of conversions.
    """

    person: Whole
    time: Whole
    code: Whole
    view: NDArray[np.bool_]
    session: Whole
    segments: Whole
    amounts: Whole


@dataclass(frozen=True, eq=False)
class Journeys:
    """J journeys: ``starts`` (J + 1,) into ``codes`` and ``ages`` (microseconds before the journey's end).

    ``person`` (J,), ``conversions`` (J,) counts, ``nulls`` (J,) in millionths, ``amounts`` (J, v) fixed point,
    ``segments`` (J, s), ``ends`` (J,) microseconds. A conversion without touches is a journey of length 0 with
    segment -1.
    """

    starts: Whole
    codes: Whole
    ages: Whole
    person: Whole
    conversions: Whole
    nulls: Whole
    amounts: Whole
    segments: Whole
    ends: Whole

    @property
    def sizes(self) -> Whole:
        return np.diff(self.starts)

    def touches(self, kept: NDArray[np.bool_]) -> Journeys:
        """The same journeys with only the ``kept`` touches."""
        if kept.all():
            return self
        journey = positions.places(self.starts)[0]
        sizes = np.bincount(journey[kept], minlength=len(self.starts) - 1)
        return replace(self, starts=offsets(sizes), codes=self.codes[kept], ages=self.ages[kept])

    def chosen(self, kept: NDArray[np.bool_]) -> Journeys:
        """Only the ``kept`` journeys."""
        if kept.all():
            return self
        touch = kept[positions.places(self.starts)[0]]
        return Journeys(offsets(self.sizes[kept]), self.codes[touch], self.ages[touch], self.person[kept],
                        self.conversions[kept], self.nulls[kept], self.amounts[kept], self.segments[kept],
                        self.ends[kept])  # fmt: skip


@dataclass(frozen=True)
class Left:
    """What was counted on the way: journeys too young to be nulls, touches that stood twice."""

    censored: int
    repeated: int


def offsets(sizes: Whole) -> Whole:
    """0 and the running totals."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def cut(touches: Events, conversions: Events, before: Whole, repeated: int, rules: Rules) -> tuple[Journeys, Left]:
    """The journeys of a bucket: one for each conversion, and those that have none.

    ``before``: for each conversion the number of touches up to it, in the order of (person, time); a tie counts.
    A conversion's journey holds the touches at or before it, within the windows, that no earlier conversion used
    (unless ``reuse``). Touches of no conversion's journey form journeys without conversion, cut at conversions and
    where the next touch is more than a window away.
    """
    for stays in (_one_of_session, _one_of_gap):
        kept = stays(touches, before, rules)
        if not kept.all():
            touches, before = pick(touches, kept), offsets(kept.astype(np.int64))[before]
    start = _window_start(touches, conversions, before, max(rules.window, rules.view_window))
    if not rules.reuse:
        same = np.zeros(len(before), bool)
        same[1:] = conversions.person[1:] == conversions.person[:-1]
        start = np.maximum(start, np.where(same, np.concatenate([[0], before[:-1]]), 0))
    used = _covered(start, before, len(touches.time))
    if rules.max_touches is not None:
        start = np.maximum(start, before - rules.max_touches)
    won = _won(touches, conversions, start, before, rules)
    lost, censored = _lost(touches, before, conversions, ~used, rules)
    whole = transformed(_joined(won, lost), rules)
    return whole, Left(censored, repeated)


def pick(events: Events, kept: NDArray[np.bool_] | Whole) -> Events:
    """Some of the events."""
    return Events(*(getattr(events, name)[kept] for name in Events.__dataclass_fields__))


def _passed(touches: Events, before: Whole) -> Whole:
    """How many of the bucket's conversions each touch comes after."""
    return np.cumsum(np.bincount(before, minlength=len(touches.time) + 1))[: len(touches.time)]


def _one_of_session(touches: Events, before: Whole, rules: Rules) -> NDArray[np.bool_]:
    """Touches that stay when those of one session are one, its first or last; a conversion cuts a session in two."""
    kept = np.ones(len(touches.time), bool)
    if rules.session is None or not len(kept):
        return kept
    passed = _passed(touches, before)
    stretch = np.cumsum(np.concatenate([[True], (np.diff(touches.person) != 0) | (np.diff(passed) != 0)]))
    order = np.lexsort((touches.session, stretch))
    same = (np.diff(touches.session[order]) == 0) & (np.diff(stretch[order]) == 0) & (touches.session[order][1:] != 0)
    kept[order[1:] if rules.session == "first" else order[:-1]] = ~same
    return kept


def _one_of_gap(touches: Events, before: Whole, rules: Rules) -> NDArray[np.bool_]:
    """Touches that stay when those of one channel that follow each other within the gap are one."""
    if rules.gap is None or not len(touches.time):
        return np.ones(len(touches.time), bool)
    same = (touches.person[1:] == touches.person[:-1]) & (touches.code[1:] == touches.code[:-1])
    near = touches.time[1:] - touches.time[:-1] <= rules.gap
    return np.concatenate([[True], ~(same & near)])


def _window_start(touches: Events, conversions: Events, before: Whole, window: int) -> Whole:
    """For each conversion the first of its person's touches up to it that is not older than the window.

    The touches of a person are in order of time, so all conversions halve their ranges at once.
    """
    wanted = conversions.time - window
    low, high = np.searchsorted(touches.person, conversions.person), before.copy()
    while (low < high).any():
        middle = (low + high) // 2
        late = (low < high) & (touches.time[np.minimum(middle, len(touches.time) - 1)] < wanted)
        low, high = np.where(late, middle + 1, low), np.where(late, high, np.minimum(middle, high))
    return np.asarray(low, np.int64)


def _covered(start: Whole, end: Whole, touches: int) -> NDArray[np.bool_]:
    """Which touches lie in any of the ranges."""
    steps = np.bincount(start, minlength=touches + 1) - np.bincount(end, minlength=touches + 1)
    return np.cumsum(steps)[:-1] > 0


def ranges(start: Whole, end: Whole) -> tuple[Whole, Whole]:
    """Offsets of the ranges [start, end) one after the other, and the indices they hold."""
    starts = offsets(end - start)
    return starts, np.arange(starts[-1]) + np.repeat(start - starts[:-1], end - start)


def _won(touches: Events, conversions: Events, start: Whole, end: Whole, rules: Rules) -> Journeys:
    starts, index = ranges(start, end)
    n = len(conversions.time)
    ages = np.repeat(conversions.time, end - start) - touches.time[index]
    segments = _first_of(touches.segments, index, starts)
    if rules.period:
        segments[:, -1] = conversions.segments[:, -1]
    found = Journeys(starts, touches.code[index], ages, conversions.person, np.ones(n, np.int64),
                     np.zeros(n, np.int64), conversions.amounts, segments, conversions.time)  # fmt: skip
    if rules.window == rules.view_window:
        return found
    return found.touches(ages <= np.where(touches.view[index], rules.view_window, rules.window))


def _first_of(segments: Whole, index: Whole, starts: Whole) -> Whole:
    """The segments (J, s) at each journey's first touch; -1 of a journey without touches."""
    found = np.full((len(starts) - 1, segments.shape[1]), -1, np.int64)
    some = np.diff(starts) > 0
    found[some] = segments[index[starts[:-1][some]]]
    return found


def _lost(
    touches: Events, before: Whole, conversions: Events, free: NDArray[np.bool_], rules: Rules
) -> tuple[Journeys, int]:
    """Journeys without conversion among the ``free`` touches, and how many were too young to tell."""
    index = np.flatnonzero(free)
    # a journey never spans a conversion
    passed = _passed(touches, before)[index]
    person, time = touches.person[index], touches.time[index]
    new = np.ones(len(index), bool)
    new[1:] = (person[1:] != person[:-1]) | (passed[1:] != passed[:-1]) | (time[1:] - time[:-1] > rules.window)
    first = np.flatnonzero(new)
    end = np.append(first[1:], len(index)).astype(np.int64)[: len(first)]
    last = time[end - 1] if len(end) else np.zeros(0, np.int64)
    weight = _null_weight(last, rules)
    young = int((last + rules.window > rules.as_of).sum())
    some = weight > 0
    first, end, last, weight = first[some], end[some], last[some], weight[some]
    begin = first if rules.max_touches is None else np.maximum(first, end - rules.max_touches)
    starts, inner = ranges(begin, end)
    ages = np.repeat(last, end - begin) - time[inner]
    segments = _first_of(touches.segments, index[inner], starts)
    if rules.period:
        segments[:, -1] = touches.segments[index[end - 1], -1]
    n = len(first)
    found = Journeys(starts, touches.code[index[inner]], ages, person[first], np.zeros(n, np.int64), weight,
                     np.zeros((n, conversions.amounts.shape[1]), np.int64), segments, last)  # fmt: skip
    return found, young


def _null_weight(last: Whole, rules: Rules) -> Whole:
    """What a journey without conversion counts, in millionths: 1 if its window is over at ``as_of``."""
    if rules.censoring == "count":
        return np.full(len(last), WHOLE, np.int64)
    over = last + rules.window <= rules.as_of
    young = np.zeros(len(last), np.int64)
    if rules.censoring == "weight" and rules.lag:
        known = np.rint(np.array(rules.lag) * WHOLE).astype(np.int64)
        day = np.clip((rules.as_of - last) // DAY - 1, -1, len(known) - 1)
        young = np.where(day < 0, 0, known[day])
    return np.where(over, WHOLE, young)


def _joined(a: Journeys, b: Journeys) -> Journeys:
    parts = {name: np.concatenate([getattr(a, name), getattr(b, name)])
             for name in Journeys.__dataclass_fields__ if name != "starts"}  # fmt: skip
    return Journeys(starts=np.concatenate([a.starts, b.starts[1:] + a.starts[-1]]), **parts)


def transformed(journeys: Journeys, rules: Rules) -> Journeys:
    """The paths after the transforms; journeys without conversion that have no touch left are gone."""
    if rules.drop_last:
        journey, place, _ = positions.places(journeys.starts)
        stays = ~np.isin(journeys.codes, rules.drop_last)
        final = np.full(len(journeys.sizes), -1)
        np.maximum.at(final, journey[stays], place[stays])
        journeys = journeys.touches(place <= final[journey])
        journeys = journeys.chosen((journeys.sizes > 0) | (journeys.conversions > 0))
    if rules.change == "collapse":
        return journeys.touches(positions.collapsed(journeys.starts, journeys.codes))
    if rules.change in ("first", "frequency"):
        kept = positions.distinct(journeys.starts, journeys.codes)[0]
        if rules.change == "frequency":
            often = np.minimum(positions.times(journeys.starts, journeys.codes), OFTEN)
            journeys = replace(journeys, codes=journeys.codes + rules.tokens * (often - 1))
        return journeys.touches(kept)
    return journeys


def tokens(channels: Sequence[str], change: str) -> tuple[str, ...]:
    """The names of the codes after the transform: "tv (2)" is tv met twice, with frequencies up to 9."""
    if change != "frequency":
        return tuple(channels)
    return tuple(f"{name} ({n}{'+' if n == OFTEN else ''})" for n in range(1, OFTEN + 1) for name in channels)
