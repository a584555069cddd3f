"""Cases of adjusted effects, of designs, of margins and beliefs, and of A/A splits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.solve.bayes import Posterior, Prior, beta_binomial, normal_posterior
from causal_spark.solve.carryover import carry_over
from causal_spark.solve.decision import equivalence, non_inferiority
from causal_spark.solve.interactions import interaction
from causal_spark.solve.intervals import Test
from causal_spark.solve.lifts import lift
from causal_spark.solve.lin import Kind, fit_arms, leverage_sums, robust
from causal_spark.solve.linear import cuped
from causal_spark.solve.means import Form, Values, difference, evaluate, jacobian
from causal_spark.solve.power import unit_variance
from causal_spark.solve.sequential import Plan, repeated_p_value
from causal_spark.solve.shrinkage import shrink
from causal_spark.solve.splits import bucket_splits, validate
from causal_spark.solve.strata import PREDICTION, cross_fit, poststratify
from causal_spark.solve.trends import novelty
from causal_spark.solve.triggered import triggered
from causal_spark.statistics import Moments
from tests.calibration.cases import Case, Draw, Rng
from tests.calibration.simulate_experiments import Answer, told

Y = [Form("y")]
CELL = Form("total", "size")


# adjustment -----------------------------------------------------------------------------------------------------------


def adjusted_rows(rng: Rng, n: int, slope: float, effect: float) -> np.ndarray:
    x = rng.gamma(2, size=(n, 3))
    return np.column_stack([effect + x @ [slope, 0.5, 0.2] + rng.normal(size=n) * x[:, 0], x])


def lin(n: tuple[int, int], kind: Kind) -> Draw:
    """Slopes differ between the arms, so does the spread; covariates are drawn anew, which HC2 holds fixed."""

    def draw(rng: Rng, effect: bool) -> Answer:
        rows = {
            "t": adjusted_rows(rng, n[0], 1.0, 0.5 if effect else 0.0),
            "c": adjusted_rows(rng, n[1], 1.0, 0.0),
        }
        fits = fit_arms({arm: Moments.from_rows(["y", "a", "b", "c"], part) for arm, part in rows.items()})
        sums = {arm: leverage_sums(fits[arm], part[:, 0], part[:, 1:]) for arm, part in rows.items()}
        return told(difference(robust(fits["t"], sums["t"], kind), robust(fits["c"], sums["c"], kind)))

    return draw


def cells(rng: Rng, n: int, effect: float) -> dict[str, dict[str, Moments]]:
    """Four strata far apart, two arms, a covariate."""
    stratum, arm, x = rng.integers(0, 4, n), rng.integers(0, 2, n), rng.normal(size=n)
    rows = np.column_stack([3 * stratum + x + rng.normal(size=n) + effect * arm, x])
    return {
        str(s): {a: Moments.from_rows(["y", "x"], rows[(stratum == s) & (arm == i)]) for i, a in enumerate("ct")}
        for s in range(4)
    }


def stratified(with_cuped: bool, units: int = 400) -> Draw:
    def draw(rng: Rng, effect: bool) -> Answer:
        try:
            arms = poststratify(cells(rng, units, 0.5 if effect else 0.0))
        except StatisticError:  # an arm is too small, which the row of a job says
            return (math.nan,) * 5
        if with_cuped:
            groups = cuped(arms, [Form("y"), Form("x")]).groups
            return told(difference(groups["t"], groups["c"]))
        return told(difference(evaluate(arms["t"], Y), evaluate(arms["c"], Y)))

    return draw


def predicted(rng: Rng, effect: bool) -> Answer:
    """CUPAC: the strata of ``cells`` stand for folds here."""
    arms = cross_fit(cells(rng, 400, 0.5 if effect else 0.0), ["y"], ["x"])
    groups = cuped(arms, [Form("y"), Form(PREDICTION + "y")]).groups
    return told(difference(groups["t"], groups["c"]))


# designs --------------------------------------------------------------------------------------------------------------


def trigger_arm(rng: Rng, effect: float) -> dict[bool, Moments]:
    hit = rng.random(600) < 0.2
    y = rng.normal(4, 1, 600) + hit * (1 + effect)
    return {flag: Moments.from_rows(["y"], y[hit == flag]) for flag in (True, False)}


def diluted(rng: Rng, effect: bool, relative: bool) -> Answer:
    found = triggered(trigger_arm(rng, 0.5 if effect else 0.0), trigger_arm(rng, 0.0), "y")
    return told(found.diluted_lift if relative else found.diluted)


def fading(rng: Rng, effect: bool) -> Answer:
    days = [f"d{i}" for i in range(7)]
    curve = -0.1 * np.arange(7) if effect else np.zeros(7)
    t, c = (Moments.from_rows(days, 2 * rng.normal(size=(250, 1)) + rng.normal(size=(250, 7)) + k) for k in (curve, 0))
    return told(novelty(t, c, days).slope)


def switched(rng: Rng, effect: bool) -> Answer:
    parts = []
    for shift in (0.3 if effect else 0.0, 0.0):
        size = rng.integers(10, 41, 40)
        mean = shift + rng.normal(5, 0.5, 40)
        parts.append(Moments.from_rows(["total", "size"], np.column_stack([size * mean, size])))
    return told(difference(*(evaluate(part, [CELL]) for part in parts)))


def left_over(rng: Rng, effect: bool) -> Answer:
    """What the arm before leaves over in 81 periods of one region, each arm drawn by lot."""
    arm = rng.integers(0, 2, 81)
    size = rng.integers(10, 41, 80)
    mean = 5 + 0.5 * arm[1:] + (0.3 if effect else 0.0) * arm[:-1] + rng.normal(0, 0.5, 80)
    rows, label = np.column_stack([size * mean, size]), "ct"
    cells = {(label[a], label[b]): Moments.from_rows(["total", "size"], rows[(arm[1:] == a) & (arm[:-1] == b)])
             for a in (0, 1) for b in (0, 1)}  # fmt: skip
    return told(carry_over(cells, "t", "c", CELL).lag)


def crossed(rng: Rng, effect: bool) -> Answer:
    found = {
        (a, b): evaluate(
            Moments.from_rows(["y"], rng.exponential(size=200) + (0.5 if effect and (a, b) == ("t", "t") else 0.0)), Y
        )
        for a in "ct"
        for b in "ct"
    }
    return told(interaction(found, [("c", "t"), ("c", "t")]).contrasts[("t", "t")])


def overall_p(rng: Rng, effect: bool) -> Answer:
    """The overall p-value after five looks, uniform without an effect."""
    fractions = np.arange(1, 6) / 5
    score = np.cumsum(rng.normal((3.0 if effect else 0.0) / 5, math.sqrt(1 / 5), 5))
    p = repeated_p_value(score / np.sqrt(fractions), fractions, Plan(1.0, spending="pocock"))
    return score[-1], 1.0, p, score[-1] - 1.959964, score[-1] + 1.959964


# margins and beliefs --------------------------------------------------------------------------------------------------

LEVEL, SPREAD, MARGIN = 10.0, 2.0, 0.05
OPEN = 1e9  # an open end as a number


def two_arms(rng: Rng, n: int, relative: float) -> tuple[Values, Values]:
    """Values of two arms of n normal units, the treatment's mean larger by a share of the control's."""
    means = LEVEL * (1 + relative), LEVEL
    t, c = (evaluate(Moments.from_rows(["y"], rng.normal(mean, SPREAD, (n, 1))), Y) for mean in means)
    return t, c


def against(n: int, both: bool) -> Draw:
    """The lift against a margin of 5 %, with the delta method's error as the job takes it.

    Without an effect stands for a lift that *is* the margin: there a test at 5 % passes 5 % at most.
    """

    def draw(rng: Rng, effect: bool) -> Answer:
        t, c = two_arms(rng, n, 0.0 if effect else -MARGIN)
        found, dof = lift(t, c), difference(t, c).dof
        test = Test(found.estimate, found.std_error, found.estimate / found.std_error, dof, math.nan, 0.0, 0.0)
        estimate, error, p, low, high = told(
            equivalence(test, MARGIN, 0.025) if both else non_inferiority(test, MARGIN, alpha=0.05)
        )
        return estimate, error, p, low, min(high, OPEN)

    return draw


def believed(relative: bool, sd: float = 0.02, n: int = 400) -> Draw:
    """A lift drawn from its prior: p is what the posterior leaves below the truth, uniform if both are right."""

    def draw(rng: Rng, effect: bool) -> Answer:
        true = rng.normal(0.01, sd)
        t, c = two_arms(rng, n, true)
        found = lift(t, c) if relative else difference(t, c)
        prior = Prior(0.01, sd).on(relative, float(c.value[0]))
        return less(normal_posterior(found.estimate, found.std_error, prior), true if relative else true * LEVEL)

    return draw


def less(found: Posterior, truth: float) -> Answer:
    p = float(stats.norm.sf((truth - found.mean) / found.std_dev))
    return found.mean - truth, found.std_dev, p, found.low - truth, found.high - truth


def shares(rng: Rng, effect: bool) -> Answer:
    """Two proportions drawn from their Beta prior, of 200 units each."""
    p = rng.beta(2, 18, 2)
    hits = rng.binomial(200, p)
    answer = less(beta_binomial(float(hits[0]), 200, float(hits[1]), 200, (2.0, 18.0)), p[0] - p[1])
    return (*answer[:2], math.nan, *answer[3:])


def shrunk(rng: Rng, effect: bool) -> Answer:
    """One effect out of a portfolio of 40, less its own truth."""
    truth, s = rng.normal(0.2, 1.0 if effect else 0.5, 40), rng.uniform(0.3, 2.0, 40)
    found = shrink(truth + s * rng.normal(size=40), s)
    gap = found.mean[0] - truth[0]
    return gap, found.std_dev[0], math.nan, found.low[0] - truth[0], found.high[0] - truth[0]


# A/A splits -----------------------------------------------------------------------------------------------------------

BUCKETS, POPULATION = 32_768, 2_000


def population(rng: Rng, ratio: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Units and linearised totals by bucket, and the variance of a unit: a skewed mean, or clicks for each view."""
    views = 1.0 + rng.poisson(np.exp(rng.normal(size=POPULATION)))
    values = rng.binomial(views.astype(int), 0.3) if ratio else np.exp(rng.normal(size=POPULATION))
    part, forms = (
        Moments.from_rows(["y", "views"], np.column_stack([values, views])),
        [Form("y", "views" if ratio else None)],
    )
    linear = (np.column_stack([values, views]) - part.mean) @ jacobian(part, forms)[0]
    place = rng.integers(0, BUCKETS, POPULATION)
    n = np.bincount(place, minlength=BUCKETS)
    kept = n > 0
    totals = np.bincount(place, linear, BUCKETS)[kept]
    return n[kept].astype(float), totals[:, None], unit_variance(part, forms)[0]


def split(ratio: bool) -> Draw:
    """One split of a population of its own: z with the interval that a standard normal has."""

    def draw(rng: Rng, effect: bool) -> Answer:
        n, totals, variance = population(rng, ratio)
        z, p = bucket_splits(n, totals, np.array([variance]), 1, int(rng.integers(2**31)))
        half = critical()
        return float(z[0, 0]), 1.0, float(p[0, 0]), float(z[0, 0]) - half, float(z[0, 0]) + half

    return draw


@cache
def critical() -> float:
    return float(stats.norm.isf(0.025))


def verdict(rng: Rng, effect: bool) -> Answer:
    """400 splits of one sound population: p is 0 where the verdict is not to trust the metric, else 1."""
    n, totals, variance = population(rng, False)
    found = validate(bucket_splits(n, totals, np.array([variance]), 400, int(rng.integers(2**31)))[0][:, 0])
    return found.rejection, math.nan, float(found.trusted), 0.0, 1.0


# the list -------------------------------------------------------------------------------------------------------------

EVEN, FEW = (200, 200), (20, 30)
PRIOR = "drawn from the prior"

EFFECTS: Sequence[Case] = (
    Case("Lin, HC2", "uneven spread", (150, 250), 0.5, lin((150, 250), "HC2"), fresh=True),
    Case("Lin, HC3", "uneven spread", (150, 250), 0.5, lin((150, 250), "HC3"), fewer=4),
    Case("Lin, HC2", "uneven spread, few units", FEW, 0.5, lin(FEW, "HC2"), True, 2),
    Case("Lin, HC3", "uneven spread, few units", FEW, 0.5, lin(FEW, "HC3"), True, 2),
    Case("post-stratified", "four strata", EVEN, 0.5, stratified(False), fresh=True),
    Case("post-stratified, CUPED", "four strata", EVEN, 0.5, stratified(True), fresh=True),
    Case("post-stratified", "four strata, few units", (30, 30), 0.5, stratified(False, 60), True, 4),
    Case("CUPAC", "four folds", EVEN, 0.5, predicted, fresh=True),
    Case("overall p, Pocock", "five looks", (4000, 4000), 3.0, overall_p, fewer=5),
    Case("triggered, difference", "20 % triggered", (600, 600), 0.1, lambda r, e: diluted(r, e, False), fresh=True),
    Case("triggered, lift", "20 % triggered", (600, 600), 0.1 / 4.2, lambda r, e: diluted(r, e, True), fresh=True),
    Case("novelty, slope", "correlated days", (250, 250), -0.1, fading, fresh=True),
    Case("switchback", "80 cells", (40, 40), 0.3, switched, fresh=True),
    Case("switchback, arm before", "80 cells", (40, 40), 0.3, left_over, fresh=True),
    Case("interaction", "two experiments", (400, 400), 0.5, crossed, fresh=True),
    Case("non-inferiority", "lift at the margin", (2000, 2000), 0.0, against(2000, False), fewer=2, fresh=True),
    Case("equivalence", "lift at the margin", (2000, 2000), 0.0, against(2000, True), fewer=2, fresh=True),
    Case("equivalence", "lift at the margin, few units", (30, 30), 0.0, against(30, True), True, 2),
    Case("Bayes, difference", PRIOR, (400, 400), 0.0, believed(False), fewer=2),
    Case("Bayes, lift", PRIOR, (400, 400), 0.0, believed(True), fewer=2, fresh=True),
    Case("Bayes, shares", PRIOR, EVEN, 0.0, shares, fewer=5),
    Case("empirical Bayes", "40 effects", (40, 40), 0.0, shrunk, True, fresh=True),
    Case("A/A split", "mean, lognormal", (1000, 1000), 0.0, split(False), fewer=2, fresh=True),
    Case("A/A split", "clicks for each view", (1000, 1000), 0.0, split(True), fewer=2, fresh=True),
    Case("A/A verdict", "400 splits, lognormal", (1000, 1000), 0.05, verdict, True, 10),
)
