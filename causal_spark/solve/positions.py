"""Rules that share a conversion among the touches of its journey, for many journeys at once."""

from __future__ import annotations

from collections.abc import Mapping

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
Indices = NDArray[np.int64]


def places(starts: ArrayLike) -> tuple[Indices, Indices, Indices]:
    """Journey, place in it from 0, and the journey's length, for every touch; ``starts`` (J + 1,): offsets."""
    offsets = np.asarray(starts, np.int64)
    sizes = np.diff(offsets)
    journey = np.repeat(np.arange(len(sizes)), sizes)
    return journey, np.arange(len(journey)) - offsets[:-1][journey], sizes[journey]


def first(starts: ArrayLike) -> Array:
    """All to the first touch."""
    return np.asarray(places(starts)[1] == 0, float)


def last(starts: ArrayLike) -> Array:
    """All to the last touch."""
    _, place, size = places(starts)
    return np.asarray(place == size - 1, float)


def last_but(starts: ArrayLike, passed: ArrayLike) -> Array:
    """All to the last touch that is not ``passed`` over (direct visits); to the last one if all are."""
    journey, place, size = places(starts)
    skip = np.asarray(passed, bool)
    chosen = np.full(len(np.asarray(starts)) - 1, -1)
    np.maximum.at(chosen, journey[~skip], place[~skip])
    chosen = np.where(chosen < 0, np.diff(np.asarray(starts)) - 1, chosen)
    return (place == chosen[journey]).astype(float) if len(size) else np.zeros(0)


def linear(starts: ArrayLike) -> Array:
    """The same to every touch; a channel that repeats counts each time."""
    return 1.0 / np.maximum(places(starts)[2], 1)


def ends(starts: ArrayLike, shape: tuple[float, float, float]) -> Array:
    """``shape`` = (first, between, last): the ends get theirs, the touches between share one part equally.

    With two touches the ends keep their proportion, one touch gets all.
    """
    _, place, size = places(starts)
    head, between, tail = shape
    weight = np.where(place == 0, head, np.where(place == size - 1, tail, between / np.maximum(size - 2, 1)))
    weight = np.where(size == 2, np.where(place == 0, head, tail) / (head + tail or 1.0), weight)
    return np.where(size == 2, weight if head + tail > 0 else 0.5, np.where(size == 1, 1.0, weight))


def w_shape(starts: ArrayLike) -> Array:
    """30 % each to the first, the middle and the last touch, 10 % spread over the others.

    The middle is place ⌊n/2⌋. With three touches each gets a third, with two a half, one gets all.
    """
    _, place, size = places(starts)
    peak = (place == 0) | (place == size // 2) | (place == size - 1)
    weight = np.where(peak, W_PEAK, (1 - 3 * W_PEAK) / np.maximum(size - 3, 1))
    return np.where(size <= 3, 1.0 / np.maximum(size, 1), weight)


def custom(starts: ArrayLike, weights: ArrayLike) -> Array:
    """Given ``weights`` of the places 1, 2, … of a journey; the last of them goes to the last touch.

    The places between are stretched: touch i of n gets the weight at (i − 1)/(n − 1) of the list, by linear
    interpolation, and the weights of a journey are scaled to sum to 1.
    """
    given = np.asarray(weights, float)
    journey, place, size = places(starts)
    where = place / np.maximum(size - 1, 1)
    raw = np.interp(where, np.linspace(0, 1, len(given)), given) if len(given) > 1 else np.ones(len(where))
    return _scaled(raw, journey, size, len(np.asarray(starts)) - 1)


def decay(starts: ArrayLike, ages: ArrayLike, half_life: float, step: float | None = None) -> Array:
    """2^(−age / half-life), scaled to sum to 1: a touch one half-life before another weighs half of it.

    ``ages``: time from the touch to the conversion, in the unit of ``half_life``. The anchor does not matter, unless
    the decay comes in steps: with ``step`` an age counts as the whole steps that lie before its last one (0 up to
    one step, one step up to two), from the conversion back.
    """
    journey, _, size = places(starts)
    journeys = len(np.asarray(starts)) - 1
    age = np.asarray(ages, float)
    if step is not None:
        age = np.maximum(np.ceil(age / step) - 1, 0) * step
    youngest = np.full(journeys, np.inf)
    np.minimum.at(youngest, journey, age)
    return _scaled(np.exp2((youngest[journey] - age) / half_life), journey, size, journeys)


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
    journey, place, size = places(starts)
    amount = np.asarray(amounts, np.int64)
    parts = np.rint(np.asarray(weights, float) * amount[journey]).astype(np.int64)
    closing = place == size - 1
    parts[closing] = 0
    given = np.zeros(len(amount), np.int64)
    np.add.at(given, journey, parts)
    parts[closing] = (amount - given)[journey[closing]]
    return parts


def _scaled(raw: Array, journey: Indices, size: Indices, journeys: int) -> Array:
    total = np.bincount(journey, raw, journeys)[journey]
    return np.divide(raw, total, out=1.0 / np.maximum(size, 1).astype(float), where=total > 0)
