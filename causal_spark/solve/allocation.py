"""Allocation of a budget over response curves: equal marginal returns under bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from causal_spark.errors import StatisticError
from causal_spark.solve.curves import Curve
from causal_spark.statistics.moments import Array

MAX_BENT = 4
MAX_STEPS = 20_000
GRID = 33
BISECTIONS = 400


@dataclass(frozen=True, eq=False)
class Plan:
    """``spend`` (n,) of the channels; ``marginal`` (n,) outcome of one more unit of it; ``price``: the common one.

    ``binding``: ``lower``, ``upper`` or ``""`` for each channel: the bound that keeps it from the common price.
    """

    spend: Array
    marginal: Array
    price: float
    binding: tuple[str, ...]


def allocate(curves: Sequence[Curve], budget: float, low: ArrayLike, high: ArrayLike) -> Plan:
    """Maximise Σ fᵢ(sᵢ) with Σ sᵢ = ``budget`` and ``low`` ≤ s ≤ ``high`` (n,).

    At the optimum every channel away from its bounds has the same marginal return (Karush–Kuhn–Tucker); it is found
    by bisection. A channel of increasing returns at first (S-shaped) is held at its lower bound or spends past its
    bend, and at most one of them stays before it: all of these cases are tried, and the best kept.

    Raises StatisticError if the bounds leave no room, or for more than 4 S-shaped channels.
    """
    floor, roof = np.asarray(low, float), np.asarray(high, float)
    if not floor.sum() <= budget * (1 + 1e-12) or not budget <= roof.sum() * (1 + 1e-12):
        raise StatisticError("budget_outside_bounds", budget=budget, least=float(floor.sum()), most=float(roof.sum()))
    bent = [i for i, curve in enumerate(curves) if floor[i] < curve.bend and floor[i] < roof[i]]
    if len(bent) > MAX_BENT:
        raise StatisticError("too_many_bent", channels=len(bent), limit=MAX_BENT)
    best = _best_case(curves, budget, floor, roof, bent)
    for i in bent:
        rising = _rising(curves, budget, floor, roof, bent, i)
        if rising is not None and (best is None or rising[0] > best[0]):
            best = rising
    if best is None:
        raise StatisticError("budget_outside_bounds", budget=budget, least=float(floor.sum()), most=float(roof.sum()))
    return plan(curves, best[1], best[2], floor, roof)


Found = tuple[float, Array, float]


def _best_case(curves: Sequence[Curve], budget: float, floor: Array, roof: Array, bent: Sequence[int]) -> Found | None:
    """The best of "at the lower bound" or "past the bend" for every channel of ``bent``: outcome, spend, price."""
    best: Found | None = None
    for lows, highs in _cases(curves, floor, roof, bent):
        if lows.sum() <= budget * (1 + 1e-12) and budget <= highs.sum() * (1 + 1e-12):
            spend, price = _level(curves, budget, lows, highs)
            total = outcome(curves, spend)
            if best is None or total > best[0]:
                best = (total, spend, price)
    return best


def _rising(curves: Sequence[Curve], budget: float, floor: Array, roof: Array, bent: Sequence[int],
            i: int) -> Found | None:  # fmt: skip
    """The best plan that leaves channel ``i`` before its bend, by a search over its spend alone."""

    def held(spend: float) -> Found | None:
        lows, highs = floor.copy(), roof.copy()
        lows[i] = highs[i] = spend
        return _best_case(curves, budget, lows, highs, [j for j in bent if j != i])

    grid = np.linspace(floor[i], min(curves[i].bend, roof[i]), GRID)
    worth = [-math.inf if (found := held(s)) is None else found[0] for s in grid]
    top = int(np.argmax(worth))
    if worth[top] == -math.inf:
        return None
    around = (float(grid[max(top - 1, 0)]), float(grid[min(top + 1, GRID - 1)]))
    finer = optimize.minimize_scalar(
        lambda s: 0.0 if (found := held(float(s))) is None else -found[0], bounds=around, method="bounded"
    )
    return max((f for f in (held(float(finer.x)), held(float(grid[top]))) if f is not None), key=lambda f: f[0])


def _cases(curves: Sequence[Curve], floor: Array, roof: Array, bent: Sequence[int]) -> Iterator[tuple[Array, Array]]:
    """Bounds for every choice of "at the lower bound" or "past the bend" of the channels ``bent``."""
    for chosen in product((False, True), repeat=len(bent)):
        lows, highs = floor.copy(), roof.copy()
        for i, on in zip(bent, chosen, strict=True):
            if on:
                lows[i] = min(curves[i].bend, roof[i])
            else:
                highs[i] = floor[i]
        yield lows, highs


def at_price(curves: Sequence[Curve], price: float, low: Array, high: Array) -> Array:
    """The spend (n,) of each channel at which one more unit returns ``price``, within the bounds."""
    ends = zip(curves, low, high, strict=True)
    return np.array([curve.where(price, float(a), float(b)) for curve, a, b in ends])


def _level(curves: Sequence[Curve], budget: float, low: Array, high: Array) -> tuple[Array, float]:
    """Bisection of the price on a logarithmic scale until the budget is spent."""
    cheap, dear = -690.0, 690.0
    for _ in range(BISECTIONS):
        middle = (cheap + dear) / 2
        if middle in (cheap, dear):
            break
        cheap, dear = (
            (middle, dear) if at_price(curves, math.exp(middle), low, high).sum() > budget else (cheap, middle)
        )
    # a straight channel takes nothing just above its price and all just below: the budget is met between the two
    few, many = (at_price(curves, math.exp(price), low, high) for price in (dear, cheap))
    room = float((many - few).sum())
    share = min(max((budget - float(few.sum())) / room, 0.0), 1.0) if room > 0 else 0.0
    return few + share * (many - few), math.exp(dear)


def plan(curves: Sequence[Curve], spend: Array, price: float, low: Array, high: Array) -> Plan:
    """What is to be said of a given spend: its marginal returns and the bounds it meets."""
    marginal = np.array([float(curve.slope(s)) for curve, s in zip(curves, spend, strict=True)])
    binding = tuple(
        "upper" if s >= b - 1e-9 * abs(s) else "lower" if s <= a + 1e-9 * abs(a) else ""
        for s, a, b in zip(spend, low, high, strict=True)
    )
    return Plan(spend, marginal, price, binding)


def outcome(curves: Sequence[Curve], spend: ArrayLike) -> float:
    """Σ fᵢ(sᵢ)."""
    return float(sum(float(curve.value(s)) for curve, s in zip(curves, np.asarray(spend, float), strict=True)))


def to_marginal(curves: Sequence[Curve], marginal: float, low: ArrayLike, high: ArrayLike) -> Plan:
    """Spend in every channel until one more unit returns ``marginal``; S-shaped ones only if it beats their floor."""
    floor, roof = np.asarray(low, float), np.asarray(high, float)
    spend = np.array(
        [_profitable(c, marginal, float(a), float(b)) for c, a, b in zip(curves, floor, roof, strict=True)]
    )
    return plan(curves, spend, marginal, floor, roof)


def _profitable(curve: Curve, price: float, low: float, high: float) -> float:
    """The spend of the largest f(s) − price·s."""
    inner = curve.where(price, min(max(curve.bend, low), high), high)
    return max((low, inner, high), key=lambda s: float(curve.value(s)) - price * s)


def to_average(curves: Sequence[Curve], average: float, low: ArrayLike, high: ArrayLike) -> Plan:
    """The largest spend whose total outcome is still ``average`` for each unit (target ROAS; of a CPA its inverse).

    Raises StatisticError if not even the lower bounds, or a small spend, reach it.
    """
    floor, roof = np.asarray(low, float), np.asarray(high, float)

    def reaches(p: Plan) -> bool:
        spent = float(p.spend.sum())
        return spent > 0 and outcome(curves, p.spend) >= average * spent

    lowest, highest = math.log(average) - 60, math.log(average) + 60
    if reaches(to_marginal(curves, math.exp(lowest), floor, roof)):
        return to_marginal(curves, math.exp(lowest), floor, roof)
    if not reaches(to_marginal(curves, math.exp(highest), floor, roof)) and not reaches(
        to_marginal(curves, average, floor, roof)
    ):
        raise StatisticError("average_unreachable", average=average)
    for _ in range(200):
        middle = (lowest + highest) / 2
        if reaches(to_marginal(curves, math.exp(middle), floor, roof)):
            highest = middle
        else:
            lowest = middle
    return to_marginal(curves, math.exp(highest), floor, roof)


def on_grid(values: Sequence[Callable[[Array], Array]], budget: float, low: ArrayLike, high: ArrayLike,
            step: ArrayLike) -> Array:  # fmt: skip
    """Spend in whole steps (n,) above ``low`` for any increasing ``values``: greedy on their upper concave hulls.

    The steps between two corners of a hull are taken together or not at all, so an S-shaped curve is either left
    alone or carried past its bend. Optimal up to the last jump that did not fit the budget (Fox 1966).
    Raises StatisticError if the bounds leave no room.
    """
    floor, roof, steps = (np.broadcast_to(np.asarray(x, float), (len(values),)) for x in (low, high, step))
    least, most = float(floor.sum()), float(roof.sum())
    if not least <= budget * (1 + 1e-12) or not budget <= most * (1 + 1e-12):
        raise StatisticError("budget_outside_bounds", budget=budget, least=least, most=most)
    spend, left, stopped = floor.copy(), budget - least, set()
    for jump in _jumps(values, floor, np.minimum(roof, budget), steps):
        if jump.channel in stopped:
            continue
        if jump.width <= left * (1 + 1e-12) + 1e-9:
            spend[jump.channel] += jump.width
            left -= jump.width
        else:
            stopped.add(jump.channel)
    return np.asarray(spend)


def on_grid_to_marginal(values: Sequence[Callable[[Array], Array]], marginal: float, low: ArrayLike, high: ArrayLike,
                        step: ArrayLike) -> Array:  # fmt: skip
    """Whole steps (n,) above ``low`` as long as the next corner of the hull returns ``marginal`` for each unit."""
    floor, roof, steps = (np.broadcast_to(np.asarray(x, float), (len(values),)) for x in (low, high, step))
    spend = floor.copy()
    for jump in _jumps(values, floor, roof, steps):
        if jump.slope >= marginal:
            spend[jump.channel] += jump.width
    return np.asarray(spend)


def on_grid_to_average(values: Sequence[Callable[[Array], Array]], average: float, low: ArrayLike, high: ArrayLike,
                       step: ArrayLike) -> Array:  # fmt: skip
    """The most whole steps (n,) above ``low`` whose total value is still ``average`` for each unit of spend.

    Jumps of the hulls in the order of their slopes; those steeper than ``average`` cannot lower it.
    Raises StatisticError if these do not reach it.
    """
    floor, roof, steps = (np.broadcast_to(np.asarray(x, float), (len(values),)) for x in (low, high, step))
    spend, spent, stopped = floor.copy(), float(floor.sum()), set()
    worth = float(sum(float(value(np.array([s]))[0]) for value, s in zip(values, floor, strict=True)))
    for jump in _jumps(values, floor, roof, steps):
        more, dearer = worth + jump.slope * jump.width, spent + jump.width
        if jump.channel in stopped:
            continue
        if jump.slope >= average or more >= average * dearer:
            spend[jump.channel] += jump.width
            worth, spent = more, dearer
        else:
            stopped.add(jump.channel)
    if not (spent > 0 and worth >= average * spent * (1 - 1e-12)):
        raise StatisticError("average_unreachable", average=average)
    return np.asarray(spend)


@dataclass(frozen=True)
class _Jump:
    """From one corner of a channel's hull to the next: ``slope`` is the value of each unit of its ``width``."""

    slope: float
    channel: int
    width: float


def _jumps(values: Sequence[Callable[[Array], Array]], floor: Array, roof: Array, steps: Array) -> list[_Jump]:
    """The jumps that gain, the steepest first; within a channel in the order of its corners.

    Raises StatisticError for more than 20,000 steps between the bounds of a channel.
    """
    found: list[tuple[float, int, int, float]] = []
    for i, value in enumerate(values):
        count = max(math.floor((roof[i] - floor[i]) / steps[i] + 1e-9), 0)
        if count > MAX_STEPS:
            raise StatisticError("too_many_steps", steps=count, limit=MAX_STEPS)
        grid = floor[i] + steps[i] * np.arange(count + 1)
        worth = np.asarray(value(grid), float)
        for rank, (a, b) in enumerate(pairwise(_hull(grid, worth))):
            slope = (worth[b] - worth[a]) / (grid[b] - grid[a])
            if slope > 0:
                found.append((-float(slope), i, rank, float(grid[b] - grid[a])))
    return [_Jump(-falling, i, width) for falling, i, _, width in sorted(found)]


def _hull(x: Array, y: Array) -> list[int]:
    """Corners of the upper concave hull of the points, from left to right."""
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) > 1 and _above(x, y, corners[-2], corners[-1], i):
            corners.pop()
        corners.append(i)
    return corners


def _above(x: Array, y: Array, a: int, b: int, c: int) -> bool:
    """Whether the line from a to c passes above the point b; one that meets it, but for rounding, does not."""
    return bool((y[b] - y[a]) * (x[c] - x[a]) < (y[c] - y[a]) * (x[b] - x[a]) * (1 - 1e-12))
