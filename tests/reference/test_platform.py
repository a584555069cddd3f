"""Numbers of the experiment platform that others have published or printed, and defects found in other packages.

R6–R8 and R11–R15: sequential bounds, always-valid inference, sizes, quantiles, Bayes, bootstrap, dilution, bucketing.
A tolerance is named by its reason: ``printed("0.0794")`` asks for half a unit of the last digit printed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from causal_spark.solve.always_valid import always_valid, mixing_variance
from causal_spark.solve.assignment import fnv_bucket, xxhash64
from causal_spark.solve.bayes import Prior, normal_posterior, power_posterior
from causal_spark.solve.bootstrap import bootstrap, replicate_sums
from causal_spark.solve.lifts import lift
from causal_spark.solve.lin import fit_arms, leverage_sums, robust
from causal_spark.solve.means import Form, Values, difference, evaluate
from causal_spark.solve.planning import growth_needed
from causal_spark.solve.power import (
    Split,
    power,
    power_proportions,
    power_t,
    sample_size,
    sample_size_proportions,
    sample_size_t,
)
from causal_spark.solve.quantiles import (
    clustered_error,
    from_bounds,
    least_n,
    quantile,
    quantile_difference,
    share_variance,
)
from causal_spark.solve.ranks import mann_whitney
from causal_spark.solve.sequential import Plan, classical, crossing, group_sequential
from causal_spark.solve.triggered import triggered
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram


def printed(text: str) -> object:
    """The number as printed, right to half a unit of its last digit (and a rounding of that half unit)."""
    exponent = Decimal(text).as_tuple().exponent
    assert isinstance(exponent, int)
    return pytest.approx(float(text), rel=0, abs=0.5000001 * 10.0**exponent)


def sums(n: float, first: float, second: float) -> Values:
    return evaluate(Moments.from_sums(["y"], n, [0.0], [first], [[second]]), [Form("y")])


def share(successes: float, n: float) -> Values:
    p = successes / n
    return Values(np.array([p]), np.array([[p * (1 - p) / n]]), n)


# R6 group-sequential bounds ------------------------------------------------------------------------------------------

EQUAL = [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("looks", "pocock", "obrien"),
    [
        (2, "2.1783", ["2.7965", "1.9774"]),
        (3, "2.2895", ["3.4711", "2.4544", "2.0040"]),
        (4, "2.3613", ["4.0486", "2.8628", "2.3375", "2.0243"]),
        (5, "2.4132", ["4.5617", "3.2256", "2.6337", "2.2809", "2.0401"]),
    ],
)
def test_r6_classical_bounds(looks: int, pocock: str, obrien: list[str]) -> None:
    assert classical(looks, "pocock").tolist() == [printed(pocock)] * looks
    assert classical(looks, "obrien-fleming").tolist() == [printed(text) for text in obrien]


def test_r6_ten_looks() -> None:
    assert classical(10, "pocock")[0] == printed("2.5550")
    bounds = classical(10, "obrien-fleming")
    assert (bounds[0], bounds[-1]) == (printed("6.5981"), printed("2.0865"))


def unadjusted(looks: int, limit: float = 1.959963984540054) -> float:
    upper, lower = crossing(np.arange(1, looks + 1) / looks, [limit] * looks, 0.0, "two-sided")
    return float(upper.sum() + lower.sum())


@pytest.mark.parametrize(
    ("looks", "size"),
    [(2, "0.0831"), (3, "0.1073"), (4, "0.1262"), (5, "0.1417"), (10, "0.1934"), (14, "0.2196"), (30, "0.280")],
)
def test_r6_size_of_peeking(looks: int, size: str) -> None:
    assert unadjusted(looks) == printed(size)


@pytest.mark.parametrize(
    ("spending", "rho", "bounds"),
    [
        ("obrien-fleming", 1, "4.8769 3.3569 2.6803 2.2898 2.0310"),
        ("obrien-fleming-total", 1, "4.3826 3.0997 2.5534 2.2538 2.0635"),
        ("pocock", 1, "2.4380 2.4268 2.4102 2.3966 2.3860"),
        ("power", 1, "2.5758 2.4919 2.4108 2.3391 2.2754"),
        ("power", 2, "3.0902 2.7141 2.4728 2.2799 2.1140"),
        ("power", 3, "3.5401 2.9743 2.6045 2.3064 2.0455"),
    ],
)
def test_r6_spending_bounds(spending: str, rho: float, bounds: str) -> None:
    """To 1.2e-4: the printed 3.3569, 2.4919 and 2.2754 come from a coarser grid (the second look of the first row is
    3.35701 by an adaptive quadrature as well, see the tests of the solver); all others to half a last digit."""
    looks = group_sequential(EQUAL, Plan(1, 0.05, spending, rho))  # type: ignore[arg-type]
    for look, text in zip(looks, bounds.split(), strict=True):
        expected = pytest.approx(float(text), abs=1.2e-4) if text in ("3.3569", "2.4919", "2.2754") else printed(text)
        assert look.bound == expected


def test_r6_spent_alpha() -> None:
    looks = group_sequential(EQUAL, Plan(1))
    assert [look.spent for look in looks] == [
        pytest.approx(1.0777e-6, abs=0.5e-10),
        pytest.approx(7.8830e-4, abs=0.5e-8),
        printed("0.0076161"),
        printed("0.024424"),
        pytest.approx(0.05, rel=1e-12),
    ]


def test_r6_adjusted_alpha_as_quoted() -> None:
    """Units 250, 450, 630, 810, alpha 0.01 spent as αt²; fractions of the last number, as that test takes them."""
    looks = group_sequential(np.array([250, 450, 630, 810]) / 810, Plan(810, 0.01, "power", 2))
    assert [look.nominal for look in looks] == [printed(x) for x in ("0.00095", "0.00241", "0.00410", "0.00636")]


# R7 always-valid inference -------------------------------------------------------------------------------------------

DIFF, ERROR = 0.29, 0.124784  # as printed for R1(iii): six digits of the standard error, hence 2e-5 relative below
R1_N = 3407 + 3461
REVENUE = (sums(3461, 2422.7, 134698.29), sums(3407, 1396.87, 52377.9767))


@pytest.mark.parametrize(
    ("tau", "p", "half"), [(0.01, "0.44572", "0.508242"), (0.1, "0.26330", "0.379330"), (None, "0.290745", "0.379410")]
)
def test_r7_e_values(tau: float | None, p: str, half: str) -> None:
    fixed = difference(*REVENUE)
    if tau is None:
        tau = mixing_variance(fixed.std_error**2, R1_N, 5000)
    test = always_valid(fixed.estimate, fixed.std_error, tau)
    assert test.p_value == pytest.approx(float(p), abs=2e-5)
    assert test.high - test.estimate == pytest.approx(float(half), abs=2e-6)
    assert always_valid(DIFF, ERROR, tau).high - DIFF == pytest.approx(float(half), rel=2e-5)


def test_r7_asymptotic_confidence_sequence() -> None:
    """Waudby-Smith's half-width with ρ² of the plan is the mixture's with τ = ρ²·V·N, to rounding."""
    v, n, planned, alpha = 0.0156, 6868.0, 5000.0, 0.05
    log = -2 * math.log(alpha)
    rho2 = (log + math.log(1 + log)) / planned
    s2 = v * n
    theirs = math.sqrt(s2) * math.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha))
    ours = always_valid(0.0, math.sqrt(v), mixing_variance(v, n, planned))
    assert ours.high == pytest.approx(theirs, rel=1e-14)


@pytest.mark.parametrize(
    ("treatment", "control", "planned", "estimate", "low", "high"),
    [
        (REVENUE[0], sums(3000, 1396.87, 52377.9767), 1000, "0.50336", "-0.55844", "1.56516"),
        (share(2422, 3461), share(1396, 3000), 5000, "0.50386", "0.40098", "0.60675"),
    ],
)
def test_r7_sequential_lifts(
    treatment: Values, control: Values, planned: float, estimate: str, low: str, high: str
) -> None:
    fixed = lift(treatment, control, "delta", dof=math.inf)
    tau = mixing_variance(fixed.std_error**2, treatment.n + control.n, planned)
    test = always_valid(fixed.estimate, fixed.std_error, tau)
    assert (test.estimate, test.low, test.high) == (printed(estimate), printed(low), printed(high))


def test_r7_two_sided_normal_mixture() -> None:
    """Intrinsic time v = 1/V, score s = d/V, ρ = 1/τ; ρ, log of the mixture at (10, 100), and the bound on s."""
    tau = mixing_variance(1.0, 1.0, 100)
    assert 1 / tau == printed("12.60056")
    test = always_valid(10 / 100, math.sqrt(1 / 100), tau)
    assert math.log(test.e_value) == printed("-0.6510052")
    assert (test.high - test.estimate) * 100 == printed("30.35209")


@pytest.mark.parametrize(
    ("n", "planned", "ratio"),
    [(1e4, 1e4, "1.549"), (1e3, 1e4, "1.967"), (1e5, 1e4, "1.654"), (5e5, 5e3, "1.82"), (5e6, 5e3, "1.97")],
)
def test_r7_width_against_the_fixed_horizon(n: float, planned: float, ratio: str) -> None:
    width = always_valid(0.0, math.sqrt(1 / n), mixing_variance(1 / n, n, planned)).high
    assert width / (1.959963984540054 * math.sqrt(1 / n)) == printed(ratio)


# R8 sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "treatment", "miller", "unpooled", "pooled"),
    [(0.20, 0.25, 1030, 1091, 1094), (0.10, 0.11, 14313, 14748, 14751), (0.05, 0.0525, 120146, 122121, 122123)],
)
def test_r8_proportions(control: float, treatment: float, miller: int, unpooled: int, pooled: int) -> None:
    """Units per arm, as printed: rounded to the nearest."""
    for formula, expected in (("control", miller), ("unpooled", unpooled), ("pooled", pooled)):
        assert round(sample_size_proportions(treatment, control, formula=formula) / 2) == expected  # type: ignore


@pytest.mark.parametrize(("d", "n"), [(0.2, "393.4"), (0.5, "63.77"), (0.8, "25.52")])
def test_r8_cohen(d: float, n: str) -> None:
    assert sample_size_t(d, 1.0) == printed(n)


def test_r8_totals() -> None:
    """Power 0.85: by t 39906, by z 39904; the shares' 897348 rounds each arm down."""
    assert 2 * round(sample_size_t(0.3, 100, target=0.85)) == 39906
    assert round(sample_size(0.3, 100, target=0.85)) == 39904
    assert 2 * math.floor(sample_size_proportions(0.343, 0.34, target=0.85) / 2) == 897348


def test_r8_power_of_unequal_arms() -> None:
    split = Split(22572 / (225725 + 22572), 225725 / (225725 + 22572))
    found = power_proportions(0.35, 0.34, 225725 + 22572, split, 0.03)
    assert found == printed("0.80")
    assert power(0.01, 225725 + 22572, 0.34 * 0.66, None, split, 0.03) == printed("0.80")


HALF = (sums(500, 525, 1551.25), sums(500, 500, 1500))


@pytest.mark.parametrize(
    ("kind", "growth"), [("fixed", 25.45703125), ("sequential", 55.66796875), ("bayes", 13.9404296875)]
)
def test_r8_growth_of_a_running_experiment(kind: str, growth: float) -> None:
    """Their search stops once the power is within 1e-5 of 0.8; ours must give that power there, and that growth."""
    error, effect = lift(*HALF, "delta", dof=math.inf).std_error, 0.05

    def at(scale: float) -> float:
        now = error / math.sqrt(scale)
        if kind == "bayes":
            return power_posterior(effect, now, Prior(0.05, math.sqrt(0.001)))
        half = stats.norm.isf(0.025) * now
        if kind == "sequential":
            half = always_valid(0.0, now, mixing_variance(error**2, 1000, 5000)).high
        return float(stats.norm.sf((half - effect) / now) + stats.norm.sf((half + effect) / now))

    assert at(1 + growth) == pytest.approx(0.8, abs=1e-5)
    assert growth_needed(at) == pytest.approx(growth, rel=1e-4)


# R5 regression adjustment with slopes of each arm --------------------------------------------------------------------


def test_r5_lin() -> None:
    rows = {
        "t": np.array([[4, 1], [7, 3], [6, 2], [9, 3], [14, 6]], float),
        "c": np.array([[3, 1], [5, 2], [4, 2], [8, 4], [10, 5]], float),
    }
    fits = fit_arms({arm: Moments.from_rows(["y", "x"], part) for arm, part in rows.items()})
    for kind, error in (("HC2", "0.361811"), ("HC3", "0.414154")):
        t, c = (robust(fits[a], leverage_sums(fits[a], rows[a][:, 0], rows[a][:, 1:]), kind) for a in "tc")  # type: ignore
        test = difference(t, c)
        assert (test.estimate, test.std_error) == (printed("1.624074"), printed(error))


# R11 quantiles -------------------------------------------------------------------------------------------------------


def test_r11_difference_of_p90() -> None:
    control = from_bounds(0.9, 7.157987489967789, 7.098780136176828, 7.217194843758751, 11054)
    treatment = from_bounds(0.9, 7.694499927525767, 7.64180598628119, 7.747193868770344, 10861)
    test = quantile_difference(treatment, control)
    assert test.estimate == printed("0.5365124375579775")
    assert (test.low, test.high) == (printed("0.4572559589"), printed("0.6157689162"))


def test_r11_events_and_units() -> None:
    """Users (0, 0), (2, 3), (99): the median event is 2, the median of the users' totals 5."""
    events = Histogram.from_integers([0, 0, 2, 3, 99])
    users = Histogram.from_integers([0, 5, 99])
    assert [_median(h) for h in (events, users)] == [2, 5]


def _median(h: Histogram) -> float:
    large = Histogram(h.bits, h.scale, h.cells, h.counts * 1000)  # enough rows for an interval; the same median
    return quantile(large, 0.5).estimate


def test_r11_least_n() -> None:
    assert least_n(0.99) == pytest.approx(1.959963984540054**2 * 99, rel=1e-12)
    assert int(least_n(0.99)) == 380


# R12 Bayes, R13 bootstrap, R14 dilution, R15 bucketing ---------------------------------------------------------------


def test_r12_flat_prior() -> None:
    test = lift(share(51, 100), share(49, 100), "delta", dof=math.inf)
    posterior = normal_posterior(test.estimate, test.std_error, Prior())
    assert (posterior.mean, posterior.std_dev) == (printed("0.04082"), printed("0.14725"))
    assert posterior.p_win == printed("0.60918")


def test_r13_poisson_bootstrap_of_a_mean() -> None:
    """se against √(Σ(x - x̄)²)/n; its Monte Carlo error with 1000 replicates is 2.2 %, four of them are 9 %."""
    rng = np.random.default_rng(13)
    x, keys = rng.lognormal(0, 1, 5000), rng.integers(-(2**62), 2**62, 5000)
    found = replicate_sums(keys, (x - 1.0)[:, None], 1000, seed=7)
    means = 1.0 + found["total"][:, 0] / found["weight"]
    theory = math.sqrt(((x - x.mean()) ** 2).sum()) / len(x)
    assert bootstrap(x.mean(), means).std_error == pytest.approx(theory, rel=4 / math.sqrt(2 * 1000))


def test_r14_dilution() -> None:
    """5 % triggered, no noise elsewhere to share: the diluted estimate has 1/20 of the variance of all units' one."""
    rng = np.random.default_rng(14)
    arms = []
    for effect in (0.05, 0.0):
        hit = rng.random(200_000) < 0.05
        y = rng.normal(10, 3, 200_000) + effect * hit
        arms.append({flag: Moments.from_rows(["y"], y[hit == flag]) for flag in (True, False)})
    found = triggered(*arms, "y")
    ratio = (found.naive.std_error / found.diluted.std_error) ** 2
    assert ratio == pytest.approx(20, rel=0.05)  # the drawn rate and variances


@pytest.mark.parametrize(
    ("seed", "key", "bucket"), [("seed", "a", 0.0505), ("seed", "b", 0.2696), ("foo", "ab", 0.2575)]
)
def test_r15_bucketing(seed: str, key: str, bucket: float) -> None:
    assert fnv_bucket(seed, key) == bucket


def test_xxhash64_is_that_of_spark() -> None:
    """The example of Spark's documentation: xxhash64('Spark', array(123), 2), each value seeded by the one before."""
    chained = 42
    for data in (b"Spark", struct.pack("<i", 123), struct.pack("<i", 2)):
        chained = xxhash64(data, chained)
    assert chained == 5602566077635097486
    assert xxhash64(b"", 0) % 2**64 == 0xEF46DB3751D8E999  # of the specification


# defects found in other packages -------------------------------------------------------------------------------------


def test_d2_power_never_vanishes() -> None:
    assert power_t(0.5, 10_000, 4.0) == 1.0
    assert power(0.5, 20_000, 4.0) == pytest.approx(1.0, abs=1e-12)


def test_d4_sizes_and_tests_take_each_arm_as_it_is() -> None:
    """Group B, not A twice: the order of unequal arms changes the size; p-value and interval are of one test."""
    split = Split(0.3, 0.7)
    assert sample_size(0.1, 9.0, 1.0, split) == pytest.approx(
        (1.959964 + 0.841621) ** 2 * (30 + 1 / 0.7) / 0.01, rel=1e-6
    )
    assert sample_size(0.1, 1.0, 9.0, split) < sample_size(0.1, 9.0, 1.0, split)
    for gap in np.linspace(0.1, 1.0, 19):
        test = difference(
            Values(np.array([gap]), np.array([[0.04]]), 20), Values(np.zeros(1), np.array([[0.001]]), 2000)
        )
        assert (test.p_value < 0.05) == (test.low > 0)


@pytest.mark.parametrize(("looks", "wrong"), [(5, "0.061"), (14, "0.072"), (30, "0.079")])
def test_d5_spent_alpha_is_no_nominal_level(looks: int, wrong: str) -> None:
    """Cumulative spent alpha as the level of each look has the size of the second column; the bounds keep 5 %."""
    fractions = np.arange(1, looks + 1) / looks
    found = group_sequential(fractions, Plan(1, spending="obrien-fleming-total"))
    careless = stats.norm.isf(np.array([look.spent for look in found]) / 2)
    upper, lower = crossing(fractions, careless, 0.0, "two-sided")
    assert upper.sum() + lower.sum() == printed(wrong)
    upper, lower = crossing(fractions, [look.bound for look in found], 0.0, "two-sided")
    assert upper.sum() + lower.sum() <= 0.0525
    assert all(look.nominal <= look.spent + 1e-12 for look in found)


def test_d7_a_prior_moves_with_the_scale() -> None:
    """An absolute prior on a relative effect: dividing everything by the control mean changes nothing."""
    absolute = Prior(2.0, 4.0, relative=False)
    plain = normal_posterior(3.0, 1.5, absolute.on(False, 50.0))
    scaled = normal_posterior(3.0 / 50, 1.5 / 50, absolute.on(True, 50.0))
    assert scaled.p_win == pytest.approx(plain.p_win, rel=1e-12)
    assert (scaled.mean * 50, scaled.low * 50) == pytest.approx((plain.mean, plain.low), rel=1e-12)
    forgotten = normal_posterior(3.0 / 50, 1.5 / 50, Prior(2.0, 4.0, relative=True))
    assert abs(forgotten.mean - scaled.mean) > 1e-4
    assert Prior(0.02, 0.04).on(False, 50.0) == Prior(1.0, 2.0, False)


def test_d8_clusters_widen_a_quantile() -> None:
    """Events alike within units: the clustered error is above that of independent events, not below."""
    rng = np.random.default_rng(8)
    values = np.repeat(rng.integers(0, 10_000, 500), 8)
    h = Histogram.from_integers(values)
    iid = quantile(h, 0.5)
    below = (values.reshape(500, 8) <= iid.estimate).sum(axis=1)
    clusters = Moments.from_rows(["below", "events"], np.column_stack([below, np.full(500, 8)]))
    variance = share_variance(clusters, "below", "events")
    wide = quantile(h, 0.5, share_variance=variance)
    assert wide.std_error > 2 * iid.std_error
    independent = math.sqrt(0.25 / len(values))
    ratio = clustered_error(iid.std_error, math.sqrt(variance), independent)
    assert ratio == pytest.approx(iid.std_error * math.sqrt(8), rel=0.01)  # all events of a unit are one
    assert wide.std_error == pytest.approx(ratio, rel=0.25)  # another stretch of the same order statistics


def test_d10_two_sided_sequence_uses_alpha() -> None:
    test = always_valid(*_estimate(REVENUE), 0.030008)
    assert test.high - test.estimate == printed("0.40878")
    half = always_valid(*_estimate(REVENUE), 0.030008, alpha=0.025)
    assert half.high - half.estimate > 0.43


def _estimate(arms: Sequence[Values]) -> tuple[float, float]:
    fixed = difference(*arms)
    return fixed.estimate, fixed.std_error


def test_mann_whitney_of_scipy() -> None:
    """Exact histograms: U and p are scipy's, with ties."""
    rng = np.random.default_rng(3)
    a, b = rng.poisson(4, 60), rng.poisson(5, 80)
    ours = mann_whitney(Histogram.from_integers(b), Histogram.from_integers(a))
    theirs = stats.mannwhitneyu(b, a, use_continuity=False, method="asymptotic")
    assert (ours.statistic, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
