"""Coverage and type I error of what widens the experiment job: quantiles, resampling, adjustment, looks, designs.

    python -m tests.calibration.simulate_platform            simulate, write tests/calibration/platform.csv

A case is an estimator on a design, one replicate at a time through the functions that a job calls. Columns and bands
are those of ``simulate_experiments``; a case that shows a *limit* is conservative or approximate by design and is
shown as it comes out, without the uniformity of p-values that hold over many looks.
"""

from __future__ import annotations

import argparse
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from causal_spark.solve.always_valid import always_valid, mixing_variance
from causal_spark.solve.bootstrap import bootstrap, jackknife, left_out, ratio_of, replicates
from causal_spark.solve.carryover import carry_over
from causal_spark.solve.interactions import interaction
from causal_spark.solve.intervals import wald
from causal_spark.solve.lin import fit_arms, leverage_sums, robust
from causal_spark.solve.linear import cuped
from causal_spark.solve.means import Form, difference, evaluate
from causal_spark.solve.quantiles import Quantile, bootstrap_difference, quantile, quantile_difference, share_variance
from causal_spark.solve.ranks import mann_whitney
from causal_spark.solve.sequential import Plan, group_sequential, repeated_p_value
from causal_spark.solve.shrinkage import shrink
from causal_spark.solve.strata import PREDICTION, cross_fit, poststratify
from causal_spark.solve.trends import novelty
from causal_spark.solve.triggered import triggered
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import EXACT, Histogram
from tests.calibration.simulate_experiments import (
    ALPHA,
    HERE,
    REPLICATES,
    SEED,
    Answer,
    Row,
    summary,
    table_row,
    told,
    write,
)

CSV = HERE / "platform.csv"
Rng = np.random.Generator
Draw = Callable[[Rng, bool], Answer]
Y = [Form("y")]
CELL = Form("total", "size")


@dataclass(frozen=True)
class Case:
    """``draw(rng, effect)`` answers one experiment with the effect on or without any; ``truth`` is that effect.

    A case that takes long has ``fewer`` times less replicates.
    """

    estimator: str
    design: str
    n: tuple[int, int]
    truth: float
    draw: Draw
    limit: bool = False
    fewer: int = 1


# quantiles, ranks -----------------------------------------------------------------------------------------------------


def histogram(values: np.ndarray, bits: int = EXACT) -> Histogram:
    return Histogram.from_integers(np.round(values * 1e6).astype(np.int64), bits, 1e6)


def skewed(rng: Rng, effect: bool, n: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lognormal values; the treatment's are 10 % larger."""
    return np.exp(rng.normal(size=n[0])) * (1.1 if effect else 1.0), np.exp(rng.normal(size=n[1]))


def quantiles(q: float, bits: int, n: tuple[int, int], resampled: bool = False) -> Draw:
    def draw(rng: Rng, effect: bool) -> Answer:
        t, c = (histogram(values, bits) for values in skewed(rng, effect, n))
        if resampled:
            return told(bootstrap_difference(t, c, q))
        return told(quantile_difference(quantile(t, q), quantile(c, q)))

    return draw


def events(rng: Rng, units: int, factor: float) -> Quantile:
    """Units with 1 to 9 events each that resemble each other."""
    sizes = rng.integers(1, 10, units)
    unit = np.repeat(np.arange(units), sizes)
    values = factor * np.exp(np.repeat(rng.normal(size=units), sizes) + 0.3 * rng.normal(size=len(unit)))
    h = histogram(values)
    below = np.bincount(unit, values <= quantile(h, 0.5).estimate)
    clusters = Moments.from_rows(["below", "events"], np.column_stack([below, sizes]))
    return quantile(h, 0.5, share_variance=share_variance(clusters, "below", "events"))


def clustered(rng: Rng, effect: bool) -> Answer:
    t, c = events(rng, 500, 1.1 if effect else 1.0), events(rng, 400, 1.0)
    return told(quantile_difference(t, c))


def ranks(rng: Rng, effect: bool) -> Answer:
    shift = 0.3 if effect else 0.0
    test = mann_whitney(histogram(rng.normal(shift, 1, 300)), histogram(rng.normal(0, 1, 200)))
    return test.superiority, test.std_error, test.p_value, test.low, test.high


# resampling -----------------------------------------------------------------------------------------------------------


def buckets(rng: Rng, n: int, lifted: float) -> np.ndarray:
    """Clicks and views of n units as sums over 400 buckets, (400, 3)."""
    views = rng.poisson(3, n) + 1
    clicks = rng.binomial(views, np.minimum(rng.beta(2, 5, n) * lifted, 1.0))
    place = rng.integers(0, 400, n)
    return np.column_stack([np.bincount(place, w, 400) for w in (np.ones(n), clicks, views)])


def resampled(rng: Rng, effect: bool, knife: bool = False) -> Answer:
    t, c = buckets(rng, 4000, 1.1 if effect else 1.0), buckets(rng, 4000, 1.0)
    ratio = ratio_of(1, 2)
    estimate = float(ratio(t.sum(axis=0)) - ratio(c.sum(axis=0)))
    if knife:
        parts = [jackknife(float(ratio(x.sum(axis=0))), ratio(left_out(x))) for x in (t, c)]
        error = math.hypot(*(part.std_error for part in parts))
        return told(wald(estimate, error, ALPHA, 798))
    seed = int(rng.integers(2**31))
    return told(bootstrap(estimate, ratio(replicates(t, 400, seed)) - ratio(replicates(c, 400, seed + 1))))


# adjustment -----------------------------------------------------------------------------------------------------------


def adjusted_rows(rng: Rng, n: int, slope: float, effect: float) -> np.ndarray:
    x = rng.gamma(2, size=(n, 3))
    return np.column_stack([effect + x @ [slope, 0.5, 0.2] + rng.normal(size=n) * x[:, 0], x])


def lin(rng: Rng, effect: bool) -> Answer:
    """Slopes differ between the arms, so does the spread; covariates are drawn anew, which HC2 holds fixed."""
    rows = {"t": adjusted_rows(rng, 150, 1.0, 0.5 if effect else 0.0), "c": adjusted_rows(rng, 250, 1.0, 0.0)}
    fits = fit_arms({arm: Moments.from_rows(["y", "a", "b", "c"], part) for arm, part in rows.items()})
    t, c = (robust(fits[arm], leverage_sums(fits[arm], rows[arm][:, 0], rows[arm][:, 1:])) for arm in "tc")
    return told(difference(t, c))


def cells(rng: Rng, n: int, effect: float) -> dict[str, dict[str, Moments]]:
    """Four strata far apart, two arms, a covariate."""
    stratum, arm, x = rng.integers(0, 4, n), rng.integers(0, 2, n), rng.normal(size=n)
    rows = np.column_stack([3 * stratum + x + rng.normal(size=n) + effect * arm, x])
    return {
        str(s): {a: Moments.from_rows(["y", "x"], rows[(stratum == s) & (arm == i)]) for i, a in enumerate("ct")}
        for s in range(4)
    }


def stratified(rng: Rng, effect: bool, with_cuped: bool) -> Answer:
    arms = poststratify(cells(rng, 400, 0.5 if effect else 0.0))
    if with_cuped:
        groups = cuped(arms, [Form("y"), Form("x")]).groups
        return told(difference(groups["t"], groups["c"]))
    return told(difference(evaluate(arms["t"], Y), evaluate(arms["c"], Y)))


def predicted(rng: Rng, effect: bool) -> Answer:
    """CUPAC: the strata of ``cells`` stand for folds here."""
    arms = cross_fit(cells(rng, 400, 0.5 if effect else 0.0), ["y"], ["x"])
    groups = cuped(arms, [Form("y"), Form(PREDICTION + "y")]).groups
    return told(difference(groups["t"], groups["c"]))


# looks ----------------------------------------------------------------------------------------------------------------

LOOKS = np.arange(1, 21) / 20


def always(rng: Rng, effect: bool) -> Answer:
    """20 looks; the answer is that of the look that excludes the truth, if one does: coverage over all looks."""
    truth, n = (0.1 if effect else 0.0), 200 * np.arange(1, 21)
    path = np.cumsum(rng.normal(truth * 200, math.sqrt(4 * 200), 20)) / n
    tau = mixing_variance(4.0, 1.0, 2000.0)
    tests = [always_valid(float(d), 2 / math.sqrt(m), tau) for d, m in zip(path, n, strict=True)]
    worst = next((t for t in tests if not t.low <= truth <= t.high), tests[-1])
    return worst.estimate, worst.std_error, min(t.p_value for t in tests), worst.low, worst.high


def sequential(rng: Rng, effect: bool) -> Answer:
    """20 looks of the group-sequential test: repeated intervals of all looks, and the overall p-value."""
    truth = 3.0 if effect else 0.0
    score = np.cumsum(rng.normal(truth / 20, math.sqrt(1 / 20), 20))
    bounds = limits()
    low, high = score / LOOKS - bounds / np.sqrt(LOOKS), score / LOOKS + bounds / np.sqrt(LOOKS)
    crossed = bool((np.abs(score / np.sqrt(LOOKS)) > bounds).any())
    bad = np.flatnonzero((low > truth) | (high < truth))
    at = int(bad[0]) if len(bad) else 19
    return score[-1], 1.0, 0.01 if crossed else 0.99, float(low[at]), float(high[at])


@cache
def limits() -> np.ndarray:
    return np.array([look.bound for look in group_sequential(LOOKS, Plan(1.0))])


def overall_p(rng: Rng, effect: bool) -> Answer:
    """The overall p-value after five looks, uniform without an effect."""
    fractions = np.arange(1, 6) / 5
    score = np.cumsum(rng.normal((3.0 if effect else 0.0) / 5, math.sqrt(1 / 5), 5))
    p = repeated_p_value(score / np.sqrt(fractions), fractions, Plan(1.0, spending="pocock"))
    return score[-1], 1.0, p, score[-1] - 1.959964, score[-1] + 1.959964


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


def shrunk(rng: Rng, effect: bool) -> Answer:
    """One effect out of a portfolio of 40, less its own truth."""
    truth, s = rng.normal(0.2, 1.0 if effect else 0.5, 40), rng.uniform(0.3, 2.0, 40)
    found = shrink(truth + s * rng.normal(size=40), s)
    gap = found.mean[0] - truth[0]
    return gap, found.std_dev[0], math.nan, found.low[0] - truth[0], found.high[0] - truth[0]


N1, N2 = (2000, 1500), (4000, 4000)
MEDIAN, P90 = 0.1, 0.1 * math.exp(1.2815515655446004)
CASES: Sequence[Case] = (
    Case("quantile, exact", "median, lognormal", N1, MEDIAN, quantiles(0.5, EXACT, N1)),
    Case("quantile, exact", "P90, lognormal", N1, P90, quantiles(0.9, EXACT, N1)),
    Case("quantile, 10 bits", "P90, lognormal", N1, P90, quantiles(0.9, 10, N1)),
    Case("quantile, bootstrap law", "median, lognormal", N1, MEDIAN, quantiles(0.5, EXACT, N1, True), fewer=5),
    Case("quantile, clustered", "median, units with 1–9 events", (500, 400), 0.1, clustered),
    Case("Mann–Whitney", "normal", (300, 200), 0.5839962, ranks),
    Case("bootstrap, buckets", "ratio", N2, 0.0285714, lambda r, e: resampled(r, e), fewer=5),
    Case("jackknife, buckets", "ratio", N2, 0.0285714, lambda r, e: resampled(r, e, True)),
    Case("Lin, HC2", "uneven spread", (150, 250), 0.5, lin),
    Case("post-stratified", "four strata", (200, 200), 0.5, lambda r, e: stratified(r, e, False)),
    Case("post-stratified, CUPED", "four strata", (200, 200), 0.5, lambda r, e: stratified(r, e, True)),
    Case("CUPAC", "four folds", (200, 200), 0.5, predicted),
    Case("always-valid", "20 looks", (4000, 4000), 0.1, always, True),
    Case("group-sequential", "20 looks", (4000, 4000), 3.0, sequential, True),
    Case("overall p, Pocock", "five looks", (4000, 4000), 3.0, overall_p, fewer=5),
    Case("triggered, difference", "20 % triggered", (600, 600), 0.1, lambda r, e: diluted(r, e, False)),
    Case("triggered, lift", "20 % triggered", (600, 600), 0.1 / 4.2, lambda r, e: diluted(r, e, True)),
    Case("novelty, slope", "correlated days", (250, 250), -0.1, fading),
    Case("switchback", "80 cells", (40, 40), 0.3, switched),
    Case("switchback, arm before", "80 cells", (40, 40), 0.3, left_over),
    Case("interaction", "two experiments", (400, 400), 0.5, crossed),
    Case("empirical Bayes", "40 effects", (40, 40), 0.0, shrunk, True),
)


def simulate(case: Case, count: int = REPLICATES) -> Row:
    """The row of a case; effect and no effect have streams of their own."""
    answers = []
    for effect in (True, False):
        rng = np.random.default_rng([SEED, zlib.crc32(f"{case.estimator}/{case.design}".encode()), int(effect)])
        answers.append(np.array([case.draw(rng, effect) for _ in range(count)], float))
    untested = bool(np.isnan(answers[1][:, 2]).all())
    if untested:
        answers[1][:, 2] = 0.5  # a place holder, which leaves no trace in the cell
    cell = summary(case.truth, *answers)
    if case.limit:
        cell = replace(cell, ks_p=math.nan, rejection=math.nan if untested else cell.rejection)
    return table_row(case.estimator, case.design, case.limit, case.n, case.truth, cell)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    options = parser.parse_args()
    rows = []
    for case in CASES:
        start = time.monotonic()
        rows.append(simulate(case, options.replicates // case.fewer))
        row = rows[-1]
        print(f"{case.estimator}, {case.design}: coverage {row['coverage']}, rejection {row['rejection']}, "
              f"outside: {row['outside'] or '-'}; {time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
    write(rows, CSV)


if __name__ == "__main__":
    main()
