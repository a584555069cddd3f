"""Response curves of spend: families, geometric carry-over, and their fit by non-linear least squares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from causal_spark.statistics.moments import Array

# Of a family: its parameters, all positive; power also below 1. Only hill can be S-shaped (slope above 1).
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "log": ("a", "b"),
    "power": ("a", "p"),
    "michaelis_menten": ("a", "b"),
    "hill": ("a", "ec", "slope"),
}
LARGEST_CARRY = 0.95
# From the best starts so far, and from there the best few to the end.
STARTED, ROUGH, ROUGH_STEPS, FINISHED = 8, 1e-5, 60, 2


@dataclass(frozen=True)
class Curve:
    """Expected outcome of steady spend s in each period: f(s · stretch) of the family.

    log a·ln(1 + s/b) · power a·sᵖ · michaelis_menten a·s/(b + s) · hill a·sⁿ/(ecⁿ + sⁿ). ``stretch``: what a
    steady unit of spend adds up to under carry-over c, 1/(1 − c).
    """

    family: str
    parameters: tuple[float, ...]
    stretch: float = 1.0

    def value(self, spend: ArrayLike) -> Array:
        """The outcome at ``spend``; 0 at 0."""
        return response(self.family, np.asarray(spend, float) * self.stretch, self.parameters)

    def slope(self, spend: ArrayLike) -> Array:
        """The marginal outcome of one more unit of spend; infinite at 0 for power, and hill with slope below 1."""
        return self.stretch * _slope(self.family, np.asarray(spend, float) * self.stretch, self.parameters)

    @property
    def bend(self) -> float:
        """The spend up to which returns increase: 0 of a concave curve, the inflection point of an S-shaped one."""
        if self.family != "hill" or self.parameters[2] <= 1:
            return 0.0
        _, ec, n = self.parameters
        return float(ec * ((n - 1) / (n + 1)) ** (1 / n) / self.stretch)

    def where(self, slope: float, low: float, high: float) -> float:
        """The spend in [low, high], past the bend, at which the marginal outcome is ``slope``; else the nearer end."""
        if float(self.slope(low)) <= slope:
            return low
        if float(self.slope(high)) >= slope:
            return high
        s = slope / self.stretch
        if self.family == "hill":
            least = max(low, high * 1e-15)  # at 0 the slope may be infinite
            if float(self.slope(least)) <= slope:
                return low
            return float(optimize.brentq(lambda x: float(self.slope(x)) - slope, least, high, xtol=1e-300, rtol=1e-15))
        a, b = self.parameters
        if self.family == "log":
            found = a / s - b
        elif self.family == "power":
            found = (a * b / s) ** (1 / (1 - b))
        else:
            found = math.sqrt(a * b / s) - b
        return min(max(found / self.stretch, low), high)


def response(family: str, x: Array, parameters: Sequence[float]) -> Array:
    """f(x) of a family at x ≥ 0."""
    a, b = parameters[:2]
    if family == "log":
        return np.asarray(a * np.log1p(x / b))
    if family == "power":
        return np.asarray(a * x**b)
    if family == "michaelis_menten":
        return np.asarray(a * x / (b + x))
    n = parameters[2]
    ratio = np.where(x > 0, x, 1.0) / b
    with np.errstate(over="ignore"):  # far below ec the outcome is 0
        return np.asarray(np.where(x > 0, a / (1 + ratio**-n), 0.0))


def _slope(family: str, x: Array, parameters: Sequence[float]) -> Array:
    a, b = parameters[:2]
    with np.errstate(divide="ignore"):
        if family == "log":
            return np.asarray(a / (b + x))
        if family == "power":
            return np.asarray(a * b * x ** (b - 1))
        if family == "michaelis_menten":
            return np.asarray(a * b / (b + x) ** 2)
        n = parameters[2]
        at_zero = math.inf if n < 1 else a / b if n == 1 else 0.0
        some = np.where(x > 0, x, 1.0)
        odds = n * np.log(some / b)
        return np.asarray(np.where(x > 0, a * n / some * special.expit(odds) * special.expit(-odds), at_zero))


def carried(spend: ArrayLike, carry: float) -> Array:
    """Geometric carry-over (Koyck 1954): yₜ = xₜ + carry · yₜ₋₁ along the first axis."""
    found = np.array(spend, float)
    for t in range(1, len(found)):
        found[t] += carry * found[t - 1]
    return found


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted curve: ``theta`` (p,) on the scale of the fit with covariance ``vcov`` (p, p), and how well it fits.

    The parameters are exp(theta), of power's exponent and the carry-over the logistic function. ``aicc``: Akaike's
    criterion for small samples (Hurvich & Tsai 1989). ``n`` periods.
    """

    curve: Curve
    carry: float
    theta: Array
    vcov: Array
    aicc: float
    r2: float
    n: int

    @property
    def dof(self) -> int:
        """Periods less parameters: of the t quantile that bounds an interval."""
        return self.n - len(self.theta)

    def interval(self, function: Callable[[Curve], float]) -> float:
        """Standard error of ``function`` of the curve by the delta method, derivatives by central differences."""
        if not np.isfinite(self.vcov).all():
            return math.nan
        gradient = np.zeros(len(self.theta))
        for i in range(len(self.theta)):
            step = 1e-4 * max(1.0, math.sqrt(self.vcov[i, i]))
            up, down = self.theta.copy(), self.theta.copy()
            up[i] += step
            down[i] -= step
            gradient[i] = (function(self._at(up)) - function(self._at(down))) / (2 * step)
        return math.sqrt(max(float(gradient @ self.vcov @ gradient), 0.0))

    def _at(self, theta: Array) -> Curve:
        return _curve(self.curve.family, theta, len(theta) > len(FAMILIES[self.curve.family]))[0]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -40.0), 40.0)))


def _curve(family: str, theta: Array, carries: bool) -> tuple[Curve, float]:
    """The curve and the carry-over at ``theta``."""
    own = [math.exp(min(max(float(t), -200.0), 200.0)) for t in theta[: len(FAMILIES[family])]]
    if family == "power":
        own[1] = _logistic(float(theta[1]))
    carry = LARGEST_CARRY * _logistic(float(theta[-1])) if carries else 0.0
    return Curve(family, tuple(own), 1 / (1 - carry)), carry


def fit(spend: ArrayLike, outcome: ArrayLike, family: str, carries: bool = False) -> Fit | None:
    """Least squares of outcome (T,) on a family of curves of carried spend (T,); None if it cannot be fitted.

    Several starts, on a logarithmic scale of the parameters. ``carries``: the carry-over is fitted too, in (0, 0.95).
    """
    x, y = np.asarray(spend, float), np.asarray(outcome, float)
    p = len(FAMILIES[family]) + carries
    spread = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    if len(x) < p + 2 or len(np.unique(x)) < len(FAMILIES[family]) or not (spread > 0 and x.max() > 0 and y.max() > 0):
        return None
    size, reach = float(y.max()), float(np.median(x[x > 0]))

    def residuals(theta: Array) -> Array:
        curve, carry = _curve(family, theta, carries)
        return np.asarray((response(family, carried(x, carry), curve.parameters) - y) / size)

    def descend(start: ArrayLike, tolerance: float, most: int) -> optimize.OptimizeResult:
        return optimize.least_squares(residuals, start, method="lm", xtol=tolerance, ftol=tolerance, gtol=tolerance,
                                      max_nfev=most)  # fmt: skip

    starts = sorted(
        _starts(family, size, reach, carries), key=lambda start: float((residuals(np.array(start)) ** 2).sum())
    )
    tried = [descend(start, ROUGH, ROUGH_STEPS) for start in starts[:STARTED]]
    kept = sorted((found for found in tried if np.isfinite(found.cost)), key=lambda found: float(found.cost))[:FINISHED]
    best = min((descend(found.x, 1e-14, 2000) for found in kept), key=lambda found: float(found.cost), default=None)
    if best is None or not np.isfinite(best.cost):
        return None
    sse, dof = 2 * float(best.cost) * size**2, len(x) - p
    curve, carry = _curve(family, best.x, carries)
    return Fit(curve, carry, best.x, _covariance(best.jac, 2 * float(best.cost) / dof), _aicc(sse, len(x), p + 1, size),
               1 - sse / spread, len(x))  # fmt: skip


def _covariance(jacobian: Array, variance: float) -> Array:
    """σ²(JᵀJ)⁻¹; NaN where the data do not tell the parameters apart."""
    _, sizes, rows = np.linalg.svd(jacobian, full_matrices=False)
    if not len(sizes) or sizes[-1] <= 1e-9 * sizes[0]:
        return np.full((jacobian.shape[1],) * 2, np.nan)
    return np.asarray((rows.T / sizes**2) @ rows * variance)


def _aicc(sse: float, n: int, k: int, size: float) -> float:
    """Akaike's criterion of a normal model with k parameters, corrected; a perfect fit is bounded by rounding."""
    floor = max(sse, n * (1e-12 * size) ** 2)
    return n * math.log(floor / n) + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1)


def _starts(family: str, size: float, reach: float, carries: bool) -> list[list[float]]:
    tops = [math.log(size * f) for f in (0.7, 1.5, 4.0)]
    middles = [math.log(reach * f) for f in (0.3, 1.0, 4.0)]
    if family == "power":
        exponents = (-1.0, 0.0, 1.5)
        own = [[math.log(size) - _logistic(t) * math.log(reach), t] for t in exponents]
    elif family == "hill":
        own = [[*pair, math.log(n)] for *pair, n in product(tops, middles, (0.8, 1.5, 3.0))]
    else:
        own = [list(pair) for pair in product(tops, middles)]
    return [[*start, c] for start in own for c in (-2.0, 0.5)] if carries else own


def best(fits: Sequence[Fit], margin: float = 4.0) -> Fit | None:
    """The fit of the smallest AICc; an S-shaped one only if it beats every concave one by ``margin``."""
    concave = [f for f in fits if f.curve.bend == 0]
    shaped = [f for f in fits if f.curve.bend > 0]
    plain = min(concave, key=lambda f: f.aicc, default=None)
    bent = min(shaped, key=lambda f: f.aicc, default=None)
    if plain is None or (bent is not None and bent.aicc < plain.aicc - margin):
        return bent
    return plain
