"""The journeys of one bucket of persons' sorted events: windows, sessions, censoring and path transforms, in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from causal_spark.methods.attribution.journeys import (
    DAY,
    OFTEN,
    WHOLE,
    Events,
    Journeys,
    Mask,
    Rules,
    Whole,
    before,
    between,
    offsets,
)
from causal_spark.solve import positions


def cut(touches: Events, conversions: Events, ahead: Whole, rules: Rules) -> tuple[tuple[Journeys, Journeys], int]:
    """The journeys of a bucket, one for each conversion and those that have none; how many were too young to tell.

    ``ahead``: for each conversion the number of touches up to it, in the order of (person, time); a tie counts.
    A conversion's journey holds the touches at or before it, within the windows, that no earlier conversion used
    (unless ``reuse``). Touches of no conversion's journey form journeys without conversion, cut at conversions and
    where the next touch is more than a window away.
    """
    for asked, stays in ((rules.session, _one_of_session), (rules.gap, _one_of_gap)):
        if asked is not None:
            kept = stays(touches, ahead, rules)
            touches, ahead = pick(touches, kept), before(kept)[ahead]
    passed, window = _passed(touches, ahead), rules.reach
    if rules.reuse:
        start = _window_start(touches, conversions, ahead, window)
        used = _covered(start, ahead, len(touches.time))
        won = _shared(touches, conversions, start, ahead, rules)
    else:
        used = _reached(touches, conversions, passed, window)
        won = _won(touches, conversions, used, passed, ahead, rules)
    lost, censored = _lost(touches, passed, ~used, conversions.amounts.shape[1], rules)
    return (transformed(won, rules), transformed(lost, rules)), censored


def pick(events: Events, kept: Mask) -> Events:
    """Some of the events."""
    view = None if events.view is None else events.view[kept]
    session = None if events.session is None else events.session[kept]
    return Events(events.person[kept], events.time[kept], events.code[kept], view, session, events.segments[kept],
                  events.amounts[kept])  # fmt: skip


def _passed(touches: Events, ahead: Whole) -> Whole:
    """How many of the bucket's conversions each touch comes after: the number of the conversion that follows."""
    return np.cumsum(np.bincount(ahead, minlength=len(touches.time) + 1)[:-1])


def _one_of_session(touches: Events, ahead: Whole, rules: Rules) -> Mask:
    """Touches that stay when those of one session are one, its first or last; a conversion cuts a session in two."""
    assert touches.session is not None
    kept = np.ones(len(touches.time), bool)
    if not len(kept):
        return kept
    passed = _passed(touches, ahead)
    stretch = np.cumsum(np.concatenate([[True], (np.diff(touches.person) != 0) | (np.diff(passed) != 0)]))
    order = np.lexsort((touches.session, stretch))
    same = (np.diff(touches.session[order]) == 0) & (np.diff(stretch[order]) == 0) & (touches.session[order][1:] != 0)
    kept[order[1:] if rules.session == "first" else order[:-1]] = ~same
    return kept


def _one_of_gap(touches: Events, ahead: Whole, rules: Rules) -> Mask:
    """Touches that stay when those of one channel that follow each other within the gap are one."""
    assert rules.gap is not None
    kept = np.ones(len(touches.time), bool)
    same = (touches.person[1:] == touches.person[:-1]) & (touches.code[1:] == touches.code[:-1])
    kept[1:] = ~(same & (touches.time[1:] - touches.time[:-1] <= rules.gap))
    return kept


def _reached(touches: Events, conversions: Events, passed: Whole, window: int) -> Mask:
    """Which touches have a conversion of their person next, within the window."""
    person, time = np.append(conversions.person, -1), np.append(conversions.time, 0)
    near = time.take(passed) - touches.time <= window
    return np.asarray(near & (person.take(passed) == touches.person), bool)


def _won(touches: Events, conversions: Events, used: Mask, passed: Whole, ahead: Whole, rules: Rules) -> Journeys:
    """The journeys of the conversions, each of the ``used`` touches in one."""
    index = np.flatnonzero(used)
    sizes = np.bincount(passed.take(index), minlength=len(ahead))
    if rules.max_touches is not None and touches.view is None:
        sizes = np.minimum(sizes, rules.max_touches)
        index = between(ahead - sizes, sizes)
    return _journeys(touches, conversions, sizes, index, rules)


def _shared(touches: Events, conversions: Events, start: Whole, end: Whole, rules: Rules) -> Journeys:
    """The journeys of the conversions where a touch may be in several: ranges of touches."""
    if rules.max_touches is not None and touches.view is None:
        start = np.maximum(start, end - rules.max_touches)
    sizes = end - start
    return _journeys(touches, conversions, sizes, between(start, sizes), rules)


def _journeys(touches: Events, conversions: Events, sizes: Whole, index: Whole, rules: Rules) -> Journeys:
    """The conversions' journeys of the touches ``index``, where views are told apart without those older than their own
    window, the last so many of what is left. Their segments are those of the first touch, -1 without touches."""
    n = len(sizes)
    segments = np.full((n, touches.segments.shape[1]), -1, np.int64)
    found = Journeys(offsets(sizes), touches.code.take(index), touches.time, index, conversions.person,
                     np.ones(n, np.int64), np.zeros(n, np.int64), conversions.amounts, segments,
                     conversions.time)  # fmt: skip
    if touches.view is not None:
        found = found.touches(found.ages <= np.where(touches.view[index], rules.view_window, rules.window))
        if rules.max_touches is not None:
            found = found.touches(found.sizes.take(found.journey) - found.place <= rules.max_touches)
    some = found.sizes > 0
    segments[some] = touches.segments[found.index[found.starts[:-1][some]]]
    if rules.period:
        segments[:, -1] = conversions.segments[:, -1]
    return found


def _window_start(touches: Events, conversions: Events, ahead: Whole, window: int) -> Whole:
    """For each conversion the first of its person's touches up to it that is not older than the window.

    The touches of a person are in order of time, so all conversions halve their ranges at once.
    """
    wanted = conversions.time - window
    low, high = np.searchsorted(touches.person, conversions.person), ahead.copy()
    while (low < high).any():
        middle = (low + high) // 2
        late = (low < high) & (touches.time[np.minimum(middle, len(touches.time) - 1)] < wanted)
        low, high = np.where(late, middle + 1, low), np.where(late, high, np.minimum(middle, high))
    return np.asarray(low, np.int64)


def _covered(start: Whole, end: Whole, touches: int) -> Mask:
    """Which touches lie in any of the ranges."""
    steps = np.bincount(start, minlength=touches + 1) - np.bincount(end, minlength=touches + 1)
    return np.cumsum(steps)[:-1] > 0


def _lost(touches: Events, passed: Whole, free: Mask, amounts: int, rules: Rules) -> tuple[Journeys, int]:
    """Journeys without conversion among the ``free`` touches, and how many were too young to tell."""
    # a journey never spans a conversion, so its touches follow one another
    new = free.copy()
    new[1:] &= (
        (touches.person[1:] != touches.person[:-1])
        | (passed[1:] != passed[:-1])
        | (touches.time[1:] - touches.time[:-1] > rules.reach)
        | ~free[:-1]
    )
    closing = free.copy()
    closing[:-1] &= ~free[1:] | new[1:]
    first, end = np.flatnonzero(new), np.flatnonzero(closing) + 1
    last = touches.time[end - 1]
    weight, young = _null_weight(last, rules), int((last + rules.reach > rules.as_of).sum())
    kept = weight > 0
    first, end, last, weight = first[kept], end[kept], last[kept], weight[kept]
    if rules.max_touches is not None:
        first = np.maximum(first, end - rules.max_touches)
    index = between(first, end - first)
    segments = touches.segments[first]
    if rules.period:
        segments[:, -1] = touches.segments[end - 1, -1]
    n = len(first)
    found = Journeys(offsets(end - first), touches.code.take(index), touches.time, index, touches.person[first],
                     np.zeros(n, np.int64), weight, np.zeros((n, amounts), np.int64), segments, last)  # fmt: skip
    return found, young


def _null_weight(last: Whole, rules: Rules) -> Whole:
    """What a journey without conversion counts, in millionths: 1 if its window is over at ``as_of``."""
    if rules.censoring == "count":
        return np.full(len(last), WHOLE, np.int64)
    over = last + rules.reach <= rules.as_of
    young = np.zeros(len(last), np.int64)
    if rules.censoring == "weight" and rules.lag:
        known = np.rint(np.array(rules.lag) * WHOLE).astype(np.int64)
        day = np.clip((rules.as_of - last) // DAY - 1, -1, len(known) - 1)
        young = np.where(day < 0, 0, known[day])
    return np.where(over, WHOLE, young)


def transformed(journeys: Journeys, rules: Rules) -> Journeys:
    """The paths after the transforms; journeys without conversion that have no touch left are gone."""
    if rules.drop_last:
        stays = ~np.isin(journeys.codes, rules.drop_last)
        final = np.full(len(journeys.sizes), -1)
        np.maximum.at(final, journeys.journey[stays], journeys.place[stays])
        journeys = journeys.touches(journeys.place <= final[journeys.journey])
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
