"""Sizes of several arms, days until enough units have come, and how much longer a running experiment needs.

Statistic: the mean number of new units by weekday, shape (7,): counts of units by day of first appearance in the
historic table, divided by the number of such days. Sizes come from ``power``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from causal_spark.errors import ConfigError, Phrase, StatisticError
from causal_spark.solve.power import Split
from causal_spark.statistics.moments import Array


@dataclass(frozen=True)
class ArmSize:
    """Units in all arms and in each arm (rounded up) for the neediest contrast, at the alpha of one contrast."""

    units: int
    arms: Mapping[str, int]
    alpha: float


def arm_sizes(
    needed: Callable[[Split, float], float], shares: Mapping[str, float], control: str, alpha: float = 0.05
) -> ArmSize:
    """Sizes of several arms with planned ``shares``, each treatment against ``control`` at alpha / contrasts.

    ``needed(split, alpha)`` gives the units in all arms for one contrast, e.g. by ``sample_size``. Bonferroni.
    """
    others = [arm for arm in shares if arm != control and shares[arm] > 0]
    if control not in shares or not others:
        raise ConfigError("one_arm", arms=", ".join(shares))
    level = alpha / len(others)
    most = max(needed(Split(shares[arm], shares[control]), level) for arm in others)
    if not math.isfinite(most):
        raise StatisticError("no_effect_to_find")
    sizes = {arm: math.ceil(most * share - 1e-9) for arm, share in shares.items()}
    return ArmSize(sum(sizes.values()), sizes, level)


@dataclass(frozen=True)
class Duration:
    """Days until enough units have come (``days``), rounded up to whole weeks, and units by then."""

    days: int
    weeks: int
    units: float


def arrivals(new_by_weekday: Sequence[float], first_weekday: int = 0, days: int = 28) -> Array:
    """Units that have come by the end of each day, (days,), if ``new_by_weekday[d]`` come on weekday d (0 = Monday).

    ``new_by_weekday`` counts units not seen before in the experiment; shares of traffic are the caller's factor.
    With ``mde`` and ``power`` it gives the curve of what each day could find.
    """
    week = np.asarray(new_by_weekday, float)
    if week.shape != (7,) or not (week >= 0).all():
        got, expected = list(new_by_weekday), Phrase("expected_counts")
        raise ConfigError("bad_number", where="new_by_weekday", got=got, expected=expected)
    return np.asarray(np.cumsum(np.tile(np.roll(week, -first_weekday), -(-days // 7))[:days]), float)


def duration(units: float, new_by_weekday: Sequence[float], first_weekday: int = 0, longest: int = 3660) -> Duration:
    """Days until ``units`` new ones have come, as ``arrivals`` counts them.

    Whole weeks, since effects differ by weekday. Raises StatisticError if ``longest`` days do not suffice.
    """
    total = arrivals(new_by_weekday, first_weekday, longest)
    enough = np.flatnonzero(total >= units * (1 - 1e-12))
    if not len(enough):
        raise StatisticError("too_long", units=f"{units:,.0f}", days=longest, most=f"{total[-1]:,.0f}")
    days = int(enough[0]) + 1
    weeks = -(-days // 7)
    return Duration(days, weeks, weeks * float(sum(new_by_weekday)))


def growth_needed(power_at: Callable[[float], float], target: float = 0.8, most: float = 2.0**27) -> float:
    """How many times the present units must be added so that ``power_at(1 + growth)`` reaches ``target``.

    ``power_at(scale)`` is the power with ``scale`` times the units of now, increasing. 0 if it is reached already,
    infinite beyond ``most``. For a running experiment; the effect looked for must be fixed beforehand, not estimated.
    """
    if power_at(1.0) >= target:
        return 0.0
    if power_at(1.0 + most) < target:
        return math.inf
    return float(optimize.brentq(lambda growth: power_at(1 + growth) - target, 0.0, most, xtol=1e-9, rtol=1e-12))
