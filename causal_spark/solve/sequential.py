"""Group-sequential tests: error spending, bounds by recursive integration, and what each look may conclude.

Statistic: none beyond the fixed test. Each look needs the estimate, its standard error and the units (or 1/std_error²)
of that look; information fractions are units so far / planned units. Earlier looks come from earlier runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special, stats

from causal_spark.errors import ConfigError, Phrase
from causal_spark.solve.intervals import Alternative, Test, bounds, p_value
from causal_spark.statistics.moments import Array

Spending = Literal["obrien-fleming", "obrien-fleming-total", "pocock", "power"]
SPENDINGS = ("obrien-fleming", "obrien-fleming-total", "pocock", "power")
Shape = Literal["obrien-fleming", "pocock"]

FAR = 8.5  # beyond so many standard deviations lies less than 1e-17
STEP = 1e-9  # smallest step of information between two looks
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


@dataclass(frozen=True)
class Plan:
    """What is fixed before the first look.

    ``alpha`` in total, ``spending`` with exponent ``rho`` of the power family, ``alternative``, and the planned
    number of ``units`` at which all of alpha is spent.
    """

    units: float
    alpha: float = 0.05
    spending: Spending = "obrien-fleming"
    rho: float = 2.0
    alternative: Alternative = "two-sided"

    def __post_init__(self) -> None:
        if self.spending not in SPENDINGS:
            raise ConfigError("unknown_spending", got=str(self.spending), known=", ".join(SPENDINGS))
        for name, value, good in (
            ("alpha", self.alpha, 0 < self.alpha < 1),
            ("units", self.units, self.units > 0 and math.isfinite(self.units)),
            ("rho", self.rho, self.rho > 0 and math.isfinite(self.rho)),
        ):
            if not good:
                key = "expected_between" if name == "alpha" else "expected_above_0"
                expected = Phrase(key, low=0, high=1)
                raise ConfigError("bad_number", where=f"method.sequential.{name}", got=value, expected=expected)


@dataclass(frozen=True)
class Look:
    """One look: its information ``fraction``, the ``bound`` for |z|, the nominal level, alpha spent until then."""

    number: int
    fraction: float
    bound: float
    nominal: float
    spent: float


def spend(fraction: float, plan: Plan) -> float:
    """Alpha spent at an information fraction, in total over the sides; all of it from fraction 1 on.

    Lan & DeMets (1983). ``obrien-fleming`` spends 2(1 - Φ(z_{a/2}/√t)) on each side, a = alpha per side;
    ``obrien-fleming-total`` spends 2(1 - Φ(z_{alpha/2}/√t)) in total, half of it on each side;
    ``pocock`` alpha·ln(1 + (e - 1)t); ``power`` alpha·t^rho (Kim & DeMets 1987).
    """
    t = min(fraction, 1.0)
    if t <= 0:
        return 0.0
    if plan.spending == "pocock":
        return plan.alpha * math.log1p((math.e - 1) * t)
    if plan.spending == "power":
        return float(plan.alpha * t**plan.rho)
    sides = _sides(plan.alternative) if plan.spending == "obrien-fleming" else 1
    z = stats.norm.isf(plan.alpha / sides / 2)
    return float(sides * 2 * stats.norm.sf(z / math.sqrt(t)))


def group_sequential(fractions: Sequence[float], plan: Plan) -> tuple[Look, ...]:
    """Bound of each look, from the information fractions of all looks so far (in order, increasing).

    Recursive integration (Armitage, McPherson & Rowe 1969; Jennison & Turnbull 2000, ch. 19). A fraction above 1
    (more units than planned) spends what is left; once nothing is left the bound is infinite. A bound depends on no
    later look, so looks may be added at any time. Raises ConfigError if the looks are out of order.
    """
    _check_order(fractions)
    sides, path, looks, before = _sides(plan.alternative), _Path(plan.alternative), [], 0.0
    for number, fraction in enumerate(fractions, start=1):
        spent = spend(fraction, plan)
        bound = path.bound((spent - before) / sides, fraction)
        path = path.after(bound, fraction)
        looks.append(Look(number, float(fraction), bound, float(sides * stats.norm.sf(bound)), spent))
        before = spent
    return tuple(looks)


def classical(looks: int, shape: Shape, alpha: float = 0.05, alternative: Alternative = "two-sided") -> Array:
    """Bounds of Pocock (1977) or O'Brien & Fleming (1979) at so many equally spaced looks, shape (looks,)."""
    fractions = np.arange(1, looks + 1) / looks
    form = np.ones(looks) if shape == "pocock" else 1 / np.sqrt(fractions)

    def excess(constant: float) -> float:
        return float(sum(crossing(fractions, constant * form, 0.0, alternative)[0])) * _sides(alternative) - alpha

    return np.asarray(optimize.brentq(excess, 0.5, 8.0, xtol=1e-11) * form, float)


def crossing(
    fractions: Sequence[float] | Array, limits: Sequence[float] | Array, drift: float, alternative: Alternative
) -> tuple[Array, Array]:
    """Probability to stop at each look beyond the upper and beyond the lower bound, two arrays (looks,).

    ``drift`` is the mean of z at fraction 1 (0: the size of the test; else its power). A one-sided test has one bound.
    """
    _check_order(fractions)
    path, upper, lower = _Path(alternative, drift=drift), [], []
    for fraction, limit in zip(fractions, limits, strict=True):
        upper.append(path.beyond(limit, fraction, 1) if alternative != "less" else 0.0)
        lower.append(path.beyond(limit, fraction, -1) if alternative != "greater" else 0.0)
        path = path.after(limit, fraction)
    return np.array(upper), np.array(lower)


def repeated(estimate: float, std_error: float, looks: Sequence[Look], plan: Plan) -> Test:
    """The repeated confidence interval of the last look, estimate ± bound · std_error (Jennison & Turnbull 1989).

    It excludes 0 if and only if the bound is crossed at this look, and all looks together cover at 1 - alpha.
    ``p_value`` is the nominal one; judge it against ``looks[-1].nominal``, never against alpha.
    """
    if not (std_error > 0 and math.isfinite(std_error)):
        return Test(estimate, std_error, math.nan, math.inf, math.nan, math.nan, math.nan)
    z, half = estimate / std_error, looks[-1].bound * std_error
    low, high = bounds(estimate - half, estimate + half, plan.alternative)
    return Test(estimate, std_error, z, math.inf, p_value(z, math.inf, plan.alternative), low, high)


def repeated_p_value(statistics: Sequence[float], fractions: Sequence[float], plan: Plan) -> float:
    """The smallest alpha at which this plan would have stopped at one of the looks; the overall p-value so far.

    ``statistics`` z of every look. Valid at any look, and it agrees with the bounds: p ≤ alpha if and only if
    a bound was crossed. Found to a relative 1e-10, at least 1e-12; NaN if a statistic is NaN.
    """
    if any(math.isnan(z) for z in statistics):
        return math.nan

    def excess(log_alpha: float) -> float:
        given = Plan(plan.units, math.exp(log_alpha), plan.spending, plan.rho, plan.alternative)
        looks = group_sequential(fractions, given)
        return max(
            max(_toward(z, plan.alternative) - look.bound, -4 * FAR) for z, look in zip(statistics, looks, strict=True)
        )

    low, high = math.log(1e-12), math.log(1 - 1e-9)
    if excess(low) >= 0:
        return math.exp(low)
    if excess(high) < 0:
        return 1.0
    return math.exp(optimize.brentq(excess, low, high, xtol=1e-10))


def require_same_plan(stored: Plan | None, given: Plan, looks_before: int) -> None:
    """Refuse a plan that is missing, or was changed, after the first look; raises ConfigError."""
    if looks_before == 0:
        return
    if stored is None:
        raise ConfigError("plan_missing", looks=looks_before)
    changed = [name for name in Plan.__dataclass_fields__ if getattr(stored, name) != getattr(given, name)]
    if changed:
        before = ", ".join(f"{name}={getattr(stored, name)}" for name in changed)
        raise ConfigError("plan_changed", fields=", ".join(changed), before=before)


def _sides(alternative: Alternative) -> int:
    return 2 if alternative == "two-sided" else 1


def _toward(z: float, alternative: Alternative) -> float:
    return abs(z) if alternative == "two-sided" else z if alternative == "greater" else -z


def _check_order(fractions: Sequence[float] | Array) -> None:
    before = 0.0
    for number, fraction in enumerate(fractions, start=1):
        if not (math.isfinite(fraction) and fraction > before + STEP):
            raise ConfigError("look_out_of_order", number=number, fraction=f"{fraction:g}", before=f"{before:g}")
        before = fraction


@dataclass(frozen=True, eq=False)
class _Path:
    """The sub-density of the score process √t·z at the last look among the paths that have not stopped.

    ``nodes`` with mass ``mass`` (weights of the quadrature times density), at information ``fraction``.
    """

    alternative: Alternative
    fraction: float = 0.0
    drift: float = 0.0
    nodes: Array | None = None
    mass: Array | None = None

    def beyond(self, limit: float, fraction: float, side: int) -> float:
        """Probability to go on until now and then to lie beyond ``limit`` on a side; ``limit`` on the z scale."""
        if math.isinf(limit):
            return 0.0
        edge, step = limit * math.sqrt(fraction), fraction - self.fraction
        nodes = np.zeros(1) if self.nodes is None else self.nodes
        mass = np.ones(1) if self.mass is None else self.mass
        return float(mass @ special.ndtr((side * (nodes + self.drift * step) - edge) / math.sqrt(step)))

    def bound(self, share: float, fraction: float) -> float:
        """The limit beyond which ``share`` lies on one side, without drift."""
        if share <= 1e-16:
            return math.inf
        side = -1 if self.alternative == "less" else 1
        if self.beyond(-FAR, fraction, side) <= share:
            return -FAR

        def excess(limit: float) -> float:
            return math.log(max(self.beyond(limit, fraction, side), 1e-300) / share)

        return float(optimize.brentq(excess, -FAR, 3 * FAR, xtol=1e-12, rtol=1e-13))

    def after(self, limit: float, fraction: float) -> _Path:
        """The paths that go on after this look."""
        root, mean = math.sqrt(fraction), self.drift * fraction
        low = mean - FAR * root if self.alternative == "greater" else max(-limit * root, mean - FAR * root)
        high = mean + FAR * root if self.alternative == "less" else min(limit * root, mean + FAR * root)
        step = fraction - self.fraction
        count = int(min(4000, max(64, 24 + 5 * (high - low) / math.sqrt(step))))
        x, w = _composite(count)
        nodes, weights = (high + low) / 2 + (high - low) / 2 * x, (high - low) / 2 * w
        before = np.zeros(1) if self.nodes is None else self.nodes
        mass = np.ones(1) if self.mass is None else self.mass
        kernel = np.exp(-((nodes[:, None] - before - self.drift * step) ** 2) / (2 * step)) / math.sqrt(
            2 * math.pi * step
        )
        return _Path(self.alternative, fraction, self.drift, nodes, weights * (kernel @ mass))


def _composite(count: int) -> tuple[Array, Array]:
    """Gauss–Legendre on equal parts of [-1, 1], ``count`` nodes or some more."""
    parts = -(-count // len(_NODES))
    x, w = _NODES, _WEIGHTS
    middles = (2 * np.arange(parts) + 1) / parts - 1
    return (middles[:, None] + x / parts).ravel(), np.tile(w / parts, parts)
