"""Cases of what is estimated from the values of units and events: quantiles, ranks, resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment.analyses.resampling import SEED
from causal_spark.solve.bootstrap import bootstrap, jackknife, left_out, ratio_of, replicates
from causal_spark.solve.quantiles import Quantile, bootstrap_difference, quantile, quantile_difference, share_variance
from causal_spark.solve.ranks import mann_whitney
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import EXACT, Histogram
from tests.calibration.cases import Case, Draw, Rng
from tests.calibration.simulate_experiments import Answer, told

LIFT = 1.1  # of the treatment's values
WITHIN = 0.3  # spread of the logarithms of the events of a unit, whose own spread is 1
NOTHING = (math.nan,) * 5


# quantiles ------------------------------------------------------------------------------------------------------------


def histogram(values: np.ndarray, bits: int = EXACT) -> Histogram:
    return Histogram.from_integers(np.round(values * 1e6).astype(np.int64), bits, 1e6)


def rounded(values: np.ndarray, step: float) -> np.ndarray:
    return values if step == 0 else step * np.round(values / step)


def effect_on(q: float, sigma: float = 1.0, step: float = 0.0) -> float:
    """True difference of the quantiles of lognormal values, rounded to ``step``: rounding keeps the order."""
    at = np.exp(sigma * stats.norm.ppf(q))
    return float(rounded(LIFT * at, step) - rounded(at, step))


def skewed(rng: Rng, effect: bool, n: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lognormal values; the treatment's are 10 % larger."""
    return np.exp(rng.normal(size=n[0])) * (LIFT if effect else 1.0), np.exp(rng.normal(size=n[1]))


def quantiles(q: float, n: tuple[int, int], bits: int = EXACT, step: float = 0.0, law: bool = False) -> Draw:
    """``law``: by the law of the bootstrap. ``step``: values are multiples of it."""

    def draw(rng: Rng, effect: bool) -> Answer:
        t, c = (histogram(rounded(values, step), bits) for values in skewed(rng, effect, n))
        if law:
            return told(bootstrap_difference(t, c, q))
        return told(quantile_difference(quantile(t, q), quantile(c, q)))

    return draw


def events(rng: Rng, units: int, factor: float, q: float, step: float) -> Quantile:
    """Units with 1 to 9 events each that resemble each other."""
    sizes = rng.integers(1, 10, units)
    unit = np.repeat(np.arange(units), sizes)
    spread = np.repeat(rng.normal(size=units), sizes) + WITHIN * rng.normal(size=len(unit))
    values = rounded(factor * np.exp(spread), step)
    h = histogram(values)
    below = np.bincount(unit, values <= quantile(h, q).estimate)
    clusters = Moments.from_rows(["below", "events"], np.column_stack([below, sizes]))
    return quantile(h, q, share_variance=share_variance(clusters, "below", "events"))


def clustered(q: float, n: tuple[int, int], step: float = 0.0) -> Draw:
    def draw(rng: Rng, effect: bool) -> Answer:
        try:
            t, c = events(rng, n[0], LIFT if effect else 1.0, q, step), events(rng, n[1], 1.0, q, step)
        except StatisticError:
            return NOTHING
        return told(quantile_difference(t, c))

    return draw


# ranks ----------------------------------------------------------------------------------------------------------------


def ranks(n: tuple[int, int], shift: float, spread: float = 1.0) -> Draw:
    """Normal values, those of the treatment with their own spread."""

    def draw(rng: Rng, effect: bool) -> Answer:
        t = histogram(rng.normal(shift if effect else 0.0, spread, n[0]))
        return ranked(t, histogram(rng.normal(0, 1, n[1])))

    return draw


def ranked(t: Histogram, c: Histogram) -> Answer:
    test = mann_whitney(t, c)
    return test.superiority, test.std_error, test.p_value, test.low, test.high


def counted(n: tuple[int, int], rates: tuple[float, float]) -> Draw:
    """Small counts with many ties; ``rates`` of treatment and control."""

    def draw(rng: Rng, effect: bool) -> Answer:
        t = rng.poisson(rates[0] if effect else rates[1], n[0])
        return ranked(histogram(t), histogram(rng.poisson(rates[1], n[1])))

    return draw


def superiority(rates: tuple[float, float]) -> float:
    """P(T > C) + ½P(T = C) of two Poisson counts."""
    k = np.arange(200)
    t, c = (stats.poisson(rate) for rate in rates)
    return float(t.pmf(k) @ (c.cdf(k) - c.pmf(k) / 2))


# resampling -----------------------------------------------------------------------------------------------------------


def buckets(rng: Rng, n: int, lifted: float) -> np.ndarray:
    """Clicks and views of n units as sums over 400 buckets, (400, 3)."""
    views = rng.poisson(3, n) + 1
    clicks = rng.binomial(views, np.minimum(rng.beta(2, 5, n) * lifted, 1.0))
    place = rng.integers(0, 400, n)
    return np.column_stack([np.bincount(place, w, 400) for w in (np.ones(n), clicks, views)])


def spent(rng: Rng, n: int, lifted: float) -> np.ndarray:
    """The same of lognormal values, (400, 3): units, values, units."""
    values, place = lifted * np.exp(rng.normal(size=n)), rng.integers(0, 400, n)
    return np.column_stack([np.bincount(place, w, 400) for w in (np.ones(n), values, np.ones(n))])


def resampled(knife: bool, mean: bool, n: int = 4000) -> Draw:
    drawn, ratio = spent if mean else buckets, ratio_of(1, 2)

    def draw(rng: Rng, effect: bool) -> Answer:
        t, c = drawn(rng, n, LIFT if effect else 1.0), drawn(rng, n, 1.0)
        estimate = float(ratio(t.sum(axis=0)) - ratio(c.sum(axis=0)))
        if knife:
            return told(jackknife(estimate, ratio(left_out(t)) - ratio(left_out(c))))
        again = [ratio(replicates(table, 400, SEED + place)) for place, table in enumerate((c, t))]
        return told(bootstrap(estimate, again[1] - again[0]))

    return draw


# the list -------------------------------------------------------------------------------------------------------------

N1, N2, N99, UNITS = (2000, 1500), (4000, 4000), (5000, 4000), (500, 400)
MANY = (2000, 1500)
MIXED = math.hypot(1.0, WITHIN)
RATES = (3.4, 3.0)
BOOTSTRAP, JACKKNIFE, LAW = "bootstrap, buckets", "jackknife, buckets", "quantile, bootstrap law"
EVENTS = "units with 1–9 events"
STEPS = (0.01, 0.03, 0.1)  # a third of the standard error of the median of ``N1``, the whole, and three times it
MEAN = 0.1 * math.exp(0.5)

VALUES: Sequence[Case] = (
    Case("quantile, exact", "median, lognormal", N1, effect_on(0.5), quantiles(0.5, N1), fewer=5, fresh=True),
    Case("quantile, exact", "P90, lognormal", N1, effect_on(0.9), quantiles(0.9, N1), fewer=5, fresh=True),
    Case("quantile, exact", "P99, lognormal", N99, effect_on(0.99), quantiles(0.99, N99), True, 5),
    *(
        Case("quantile, exact", f"{name}, steps of {step}", N1, effect_on(q, step=step), quantiles(q, N1, step=step),
             True, 5)
        for step in STEPS
        for name, q in (("median", 0.5), ("P90", 0.9))
    ),
    Case("quantile, 10 bits", "P90, lognormal", N1, effect_on(0.9), quantiles(0.9, N1, 10), fewer=5, fresh=True),
    Case(LAW, "median, lognormal", N1, effect_on(0.5), quantiles(0.5, N1, law=True), fewer=5),
    Case(LAW, "P90, lognormal", N1, effect_on(0.9), quantiles(0.9, N1, law=True), fewer=5),
    Case(LAW, "P99, lognormal", N99, effect_on(0.99), quantiles(0.99, N99, law=True), True, 5),
    Case("quantile, clustered", f"median, {EVENTS}", UNITS, 0.1, clustered(0.5, UNITS), fewer=5, fresh=True),
    Case("quantile, clustered", f"P90, {EVENTS}", MANY, effect_on(0.9, MIXED), clustered(0.9, MANY), fewer=5),
    Case("quantile, clustered", f"P99, {EVENTS}", MANY, effect_on(0.99, MIXED), clustered(0.99, MANY), True, 5),
    Case("quantile, clustered", f"P90, {EVENTS}, few", UNITS, effect_on(0.9, MIXED), clustered(0.9, UNITS), True, 5),
    Case("Mann–Whitney", "normal", (300, 200), 0.5839962, ranks((300, 200), 0.3), fresh=True),
    Case("Mann–Whitney", "small counts", (300, 200), superiority(RATES), counted((300, 200), RATES), fewer=4,
         fresh=True),
    Case("Mann–Whitney", "20 units against 400", (20, 400), 0.5839962, ranks((20, 400), 0.3), fewer=4),
    Case("Mann–Whitney", "unequal spread", (50, 400), 0.5, ranks((50, 400), 0.0, 3.0), True, 4),
    Case(BOOTSTRAP, "ratio", N2, 0.0285714, resampled(False, False), fewer=5),
    Case(BOOTSTRAP, "mean, lognormal", N2, MEAN, resampled(False, True), fewer=5),
    Case(JACKKNIFE, "ratio", N2, 0.0285714, resampled(True, False), fewer=2, fresh=True),
    Case(JACKKNIFE, "mean, lognormal", N2, MEAN, resampled(True, True), fewer=4),
)  # fmt: skip
