"""Rules that share a conversion among the touches of its journey, for many journeys at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal_spark.statistics.moments import Array

# first, middle, last: what the ends get, and what the touches between them share.
# "middle" of the W is one touch, the one half way; the others share the rest.
ENDS: Mapping[str, tuple[float, float, float]] = {
    "u_shape": (0.4, 0.2, 0.4),
    "j_shape": (0.2, 0.2, 0.6),
    "inverse_j": (0.6, 0.2, 0.2),
}
W_PEAK = 0.3
BY_POSITION = ("first", "last", "linear", "w_shape", *ENDS)
Indices = NDArray[np.int64]


def owners(starts: ArrayLike) -> Indices:
    """The journey of every touch; ``starts`` (J + 1,): offsets. Much cheaper than a repeat."""
    offsets = np.asarray(starts, np.int64)
    return np.asarray(np.cumsum(np.bincount(offsets[1:-1], minlength=int(offsets[-1]))[: offsets[-1]]), np.int64)


def places(starts: ArrayLike) -> tuple[Indices, Indices, Indices]:
    """Journey, place in it from 0, and the journey's length, for every touch; ``starts`` (J + 1,): offsets."""
    offsets, journey = np.asarray(starts, np.int64), owners(starts)
    return journey, np.arange(len(journey)) - offsets.take(journey), _sizes(starts).take(journey)


@dataclass(frozen=True, eq=False)
class Profile:
    """Shares by position in J journeys: of the ``first`` touch (J,), of each ``other`` one (J,), of touch ⌊n/2⌋ + 1 if
    that has a ``peak`` (J,). The last touch has what is left to one, also where it is the only one."""

    first: Array
    other: Array
    peak: Array | None = None


def profile(rule: str, sizes: ArrayLike) -> Profile:
    """The shares under a rule that knows positions alone, in journeys of ``sizes`` (J,) touches.

    ``first``, ``last``: all to that touch. ``linear``: the same to every touch; a channel that repeats counts each
    time. ``w_shape``: 30 % each to the first, the middle and the last touch, 10 % spread over the others; with three
    touches each gets a third, with two a half. Those of ``ENDS``: the ends get theirs, the touches between share one
    part equally; two touches keep the proportion of the ends. One touch gets all.
    """
    n = np.maximum(np.asarray(sizes, np.int64), 1)
    none = np.zeros(len(n))
    if rule in ("first", "last"):
        return Profile(none + (rule == "first"), none)
    if rule == "linear":
        return Profile(1.0 / n, 1.0 / n)
    if rule == "w_shape":
        peak = np.where(n <= 3, 1.0 / n, W_PEAK)
        return Profile(peak, np.where(n <= 3, 1.0 / n, (1 - 3 * W_PEAK) / np.maximum(n - 3, 1)), peak)
    head, between, tail = ENDS[rule]
    half = head / (head + tail) if head + tail > 0 else 0.5
    return Profile(np.where(n == 2, half, head), np.where(n > 2, between / np.maximum(n - 2, 1), 0.0))


def by_position(starts: ArrayLike, rule: str) -> Array:
    """Each touch's share under a rule of ``profile``."""
    journey, place, size = places(starts)
    sizes = _sizes(starts)
    shape = profile(rule, sizes)
    weight = shape.other[journey]
    if shape.peak is not None:
        weight = np.where(place == size // 2, shape.peak[journey], weight)
    weight = np.where(place == 0, shape.first[journey], weight)
    closing = place == size - 1
    weight[closing] = 0.0
    given = np.bincount(journey, weight, len(sizes))
    weight[closing] = 1.0 - given[journey[closing]]
    return weight


def last_but(starts: ArrayLike, passed: ArrayLike) -> Array:
    """All to the last touch that is not ``passed`` over (direct visits); to the last one if all are."""
    sizes = _sizes(starts)
    weight = np.zeros(int(sizes.sum()))
    weight[last_but_at(starts, passed)[sizes > 0]] = 1.0
    return weight


def last_but_at(starts: ArrayLike, passed: ArrayLike) -> Indices:
    """For each journey the touch of ``last_but``, as its number among all touches (J,)."""
    offsets, skip = np.asarray(starts, np.int64), np.asarray(passed, bool)
    found = np.full(len(offsets) - 1, -1)
    kept = np.flatnonzero(~skip)
    np.maximum.at(found, owners(starts).take(kept), kept)
    return np.where(found < 0, offsets[1:] - 1, found)


def custom(starts: ArrayLike, weights: ArrayLike) -> Array:
    """Given ``weights`` of the places 1, 2, … of a journey; the last of them goes to the last touch.

    The places between are stretched: touch i of n gets the weight at (i − 1)/(n − 1) of the list, by linear
    interpolation, and the weights of a journey are scaled to sum to 1.
    """
    given = np.asarray(weights, float)
    _, place, size = places(starts)
    where = place / np.maximum(size - 1, 1)
    raw = np.interp(where, np.linspace(0, 1, len(given)), given) if len(given) > 1 else np.ones(len(where))
    return _scaled(raw, starts)


def decay(starts: ArrayLike, ages: ArrayLike, half_life: float, step: float | None = None) -> Array:
    """2^(−age / half-life), scaled to sum to 1: a touch one half-life before another weighs half of it.

    ``ages``: time from the touch to the conversion, in the unit of ``half_life``. The anchor does not matter, unless
    the decay comes in steps: with ``step`` an age counts as the whole steps that lie before its last one (0 up to
    one step, one step up to two), from the conversion back.
    """
    age = np.asarray(ages, float)
    if step is not None:
        age = np.maximum(np.ceil(age / step) - 1, 0) * step
    journey = owners(starts)
    youngest = np.full(len(np.asarray(starts)) - 1, np.inf)
    np.minimum.at(youngest, journey, age)
    return _scaled(np.exp2((youngest.take(journey) - age) / half_life), starts)


def distinct(starts: ArrayLike, channels: ArrayLike) -> tuple[NDArray[np.bool_], Indices, Indices]:
    """For every touch: is it its channel's first in the journey; then for those, in the order of touches, the rank of
    the channel in the journey from 1, and how many channels the journey has."""
    journey, _, _ = places(starts)
    codes = np.asarray(channels, np.int64)
    keys = journey * (codes.max(initial=0) + 1) + codes
    where = np.unique(keys, return_index=True)[1]
    new = np.zeros(len(codes), bool)
    new[where] = True
    journeys = len(np.asarray(starts)) - 1
    sizes = np.bincount(journey[new], minlength=journeys)
    before = np.cumsum(sizes) - sizes
    rank = np.arange(int(sizes.sum())) - before[journey[new]] + 1
    return new, rank, sizes[journey[new]]


def equal_channels(starts: ArrayLike, channels: ArrayLike) -> Array:
    """The same to every distinct channel, put on the first touch of each: the Shapley value of the subset game."""
    new, _, sizes = distinct(starts, channels)
    weight = np.zeros(len(new))
    weight[new] = 1.0 / sizes
    return weight


def participation(starts: ArrayLike, channels: ArrayLike) -> Array:
    """All to every distinct channel: these credits sum to more than the conversions."""
    return distinct(starts, channels)[0].astype(float)


def collapsed(starts: ArrayLike, channels: ArrayLike) -> NDArray[np.bool_]:
    """Which touches stay when a run of one channel counts as one touch (the first of the run)."""
    _, place, _ = places(starts)
    codes = np.asarray(channels)
    same = np.zeros(len(codes), bool)
    same[1:] = codes[1:] == codes[:-1]
    return np.asarray(~same | (place == 0), bool)


def times(starts: ArrayLike, channels: ArrayLike) -> Indices:
    """How often the channel of each touch occurs in its journey."""
    journey, _, _ = places(starts)
    codes = np.asarray(channels, np.int64)
    _, inverse, counts = np.unique(journey * (codes.max(initial=0) + 1) + codes, return_inverse=True,
                                   return_counts=True)  # fmt: skip
    return np.asarray(counts[inverse], np.int64)


def whole_parts(weights: ArrayLike, starts: ArrayLike, amounts: ArrayLike) -> NDArray[np.int64]:
    """Each journey's whole ``amounts`` (J,) split by ``weights`` into whole numbers that sum to it exactly.

    Every touch is rounded by itself and the last one takes what is left, so a journey's parts depend on nothing
    but the journey.
    """
    offsets, amount, journey = np.asarray(starts, np.int64), np.asarray(amounts, np.int64), owners(starts)
    parts = np.rint(np.asarray(weights, float) * amount.take(journey)).astype(np.int64)
    some = np.diff(offsets) > 0
    closing = offsets[1:][some] - 1
    parts[closing] = 0
    given = np.concatenate([[0], np.cumsum(parts)])[offsets]
    parts[closing] = (amount - np.diff(given))[some]
    return parts


def _scaled(raw: Array, starts: ArrayLike) -> Array:
    """``raw`` so that it sums to 1 in each journey; equal parts where it sums to 0."""
    journey, sizes = owners(starts), _sizes(starts)
    total = np.bincount(journey, raw, len(sizes)).take(journey)
    equal = (1.0 / np.maximum(sizes, 1)).take(journey)
    return np.asarray(np.divide(raw, total, out=equal, where=total > 0), float)


def _sizes(starts: ArrayLike) -> Indices:
    return np.asarray(np.diff(np.asarray(starts, np.int64)), np.int64)
