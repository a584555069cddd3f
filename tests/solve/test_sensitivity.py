"""Sensitivity to an unmeasured confounder: definitions, parity with SciPy and statsmodels, and what has no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from causal_spark.errors import ConfigError
from causal_spark.solve.sensitivity import (
    Confounder,
    adjusted,
    benchmark,
    e_value,
    mcnemar_gamma,
    mcnemar_p,
    partial_r2,
    robustness,
    signed_rank_gamma,
    signed_rank_p,
    signed_ranks,
)

pytestmark = pytest.mark.filterwarnings("error")
quick = settings(max_examples=100, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
gammas = st.floats(1, 50)
alphas = st.floats(1e-4, 0.4)

# E-values -----------------------------------------------------------------------------------------------------------


@quick
@given(ratio=st.floats(1, 1e6))
def test_e_value_is_where_the_bias_of_two_equal_strengths_is_the_ratio(ratio: float) -> None:
    """Ding & VanderWeele (2016): a confounder with the risk ratios E and E biases by at most E²/(2E - 1)."""
    e = e_value(ratio).estimate
    assert e * e / (2 * e - 1) == pytest.approx(ratio, rel=1e-9)


@quick
@given(ratio=st.floats(1e-6, 1e6), low=st.floats(0.2, 1), high=st.floats(1, 5))
def test_e_value_of_a_protective_ratio_is_that_of_its_inverse(ratio: float, low: float, high: float) -> None:
    ours = e_value(ratio, ratio * low, ratio * high)
    other = e_value(1 / ratio, 1 / (ratio * high), 1 / (ratio * low))
    assert (ours.estimate, ours.limit) == pytest.approx((other.estimate, other.limit), rel=1e-6)
    assert 1 <= ours.limit <= ours.estimate


@pytest.mark.parametrize(
    ("estimate", "low", "high", "limit"),
    [
        (2.0, 1.5, 3.0, e_value(1.5).estimate),
        (0.5, 0.4, 0.8, e_value(0.8).estimate),
        (2.0, 0.9, 4.0, 1.0),  # the interval holds the null
        (0.5, 0.2, 1.1, 1.0),
        (2.0, -0.5, 4.5, 1.0),  # a symmetric interval may reach below 0
        (2.0, 1.5, math.inf, e_value(1.5).estimate),
        (1.0, 0.5, 1.5, 1.0),
    ],
)
def test_limit_nearer_the_null(estimate: float, low: float, high: float, limit: float) -> None:
    assert e_value(estimate, low, high).limit == limit


def test_scales() -> None:
    assert e_value(1.69, 1.21, 2.25, "odds_ratio") == e_value(math.sqrt(1.69), math.sqrt(1.21), math.sqrt(2.25))
    assert e_value(1.69, 1.21, 2.25, "rare_odds_ratio") == e_value(1.69, 1.21, 2.25)
    assert e_value(-0.3, -0.5, -0.1, "smd") == e_value(math.exp(-0.273), math.exp(-0.455), math.exp(-0.091))
    assert e_value(0.0, -0.1, 0.1, "smd").estimate == 1.0
    assert e_value(2.0, -0.5, 4.5, "odds_ratio").limit == 1.0
    assert e_value(0.5, -0.5, 0.5, "smd").limit == 1.0


def test_e_values_that_are_not() -> None:
    for ratio in (-0.5, math.nan):
        assert math.isnan(e_value(ratio, 0.1, 0.2).estimate)
        assert math.isnan(e_value(ratio, 0.1, 0.2).limit)
    assert math.isnan(e_value(2.0).limit)
    assert e_value(0.0, 0.0, 0.5).estimate == math.inf
    assert e_value(1000.0, scale="smd").estimate == math.inf
    assert e_value(1e300).estimate == pytest.approx(2e300)


# signed ranks -------------------------------------------------------------------------------------------------------


def differences(seed: int, n: int = 60, shift: float = 0.4) -> np.ndarray:
    """Rounded, so that there are ties and zeros."""
    return np.round(np.random.default_rng(seed).normal(shift, 1, n), 1)


@quick
@given(seed=seeds, n=st.integers(10, 80))
def test_without_hidden_bias_it_is_the_test_of_wilcoxon(seed: int, n: int) -> None:
    d = differences(seed, n)
    theirs = stats.wilcoxon(d, zero_method="wilcox", correction=False, alternative="greater", method="asymptotic")
    ours = signed_ranks(d)
    assert ours.statistic == theirs.statistic
    assert signed_rank_p(ours) == pytest.approx(theirs.pvalue, rel=1e-10)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 3.0])
def test_bound_is_near_the_exact_one(gamma: float) -> None:
    """14 pairs without ties: all 2¹⁴ sign patterns, each positive with p⁺; the normal approximation is good to 0.01."""
    d = np.random.default_rng(2).normal(0.8, 1, 14)
    ranks = stats.rankdata(np.abs(d))
    patterns = (np.arange(2**14)[:, None] >> np.arange(14)) & 1
    share = gamma / (1 + gamma)
    chance = share ** patterns.sum(axis=1) * (1 - share) ** (14 - patterns.sum(axis=1))
    exact = chance[patterns @ ranks >= ranks @ (d > 0) - 0.5].sum()  # half a rank: the continuity of the exact tail
    middle = (exact + chance[patterns @ ranks >= ranks @ (d > 0) + 0.5].sum()) / 2
    assert signed_rank_p(signed_ranks(d), gamma) == pytest.approx(middle, abs=0.01)


@quick
@given(seed=seeds, one=gammas, two=gammas)
def test_bound_grows_with_gamma(seed: int, one: float, two: float) -> None:
    ranks = signed_ranks(differences(seed))
    low, high = sorted((one, two))
    assert signed_rank_p(ranks, low) <= signed_rank_p(ranks, high) + 1e-15
    assert mcnemar_p(40, 12, low) <= mcnemar_p(40, 12, high) + 1e-15


@quick
@given(seed=seeds, alpha=alphas, shift=st.floats(-0.2, 3))
def test_gamma_is_the_largest_that_is_significant(seed: int, alpha: float, shift: float) -> None:
    ranks = signed_ranks(differences(seed, shift=shift))
    gamma = signed_rank_gamma(ranks, alpha)
    if math.isnan(gamma):
        assert signed_rank_p(ranks) > alpha
    else:
        assert signed_rank_p(ranks, gamma) == pytest.approx(alpha, rel=1e-8)
        found = optimize.brentq(lambda log: signed_rank_p(ranks, math.exp(log)) - alpha, 0, 30)
        assert gamma == pytest.approx(math.exp(found), rel=1e-8)


def test_only_positive_differences() -> None:
    ranks = signed_ranks(np.arange(1.0, 31.0))
    assert ranks.statistic == ranks.total == 465
    assert signed_rank_p(ranks, signed_rank_gamma(ranks, 0.01)) == pytest.approx(0.01, rel=1e-9)


def test_ranks_of_ties_and_zeros() -> None:
    """Absolute differences 1, 2, 2, 3 have the ranks 1, 2½, 2½, 4."""
    ours = signed_ranks([0.0, 2, -2, 0, 1, -3])
    assert (ours.pairs, ours.statistic, ours.total, ours.square) == (4, 3.5, 10.0, 1 + 2 * 6.25 + 16)


@pytest.mark.parametrize("nothing", [[], [0.0, 0.0]])
def test_no_pair_with_a_difference_has_no_p_value(nothing: list[float]) -> None:
    ranks = signed_ranks(nothing)
    assert ranks.pairs == 0
    assert math.isnan(signed_rank_p(ranks, 2.0))
    assert math.isnan(signed_rank_gamma(ranks))
    assert math.isnan(mcnemar_p(0, 0))
    assert math.isnan(mcnemar_gamma(0, 0))


def test_a_missing_difference_spoils_it() -> None:
    ranks = signed_ranks([1.0, math.nan, 2.0])
    assert math.isnan(signed_rank_p(ranks))
    assert math.isnan(signed_rank_gamma(ranks))


@pytest.mark.parametrize("gamma", [0.99, 0.0, -1.0, math.inf, math.nan])
def test_gamma_below_one_is_refused(gamma: float) -> None:
    for call in (lambda: signed_rank_p(signed_ranks([1.0, 2.0]), gamma), lambda: mcnemar_p(2, 1, gamma)):
        with pytest.raises(ConfigError, match="at least 1"):
            call()


# discordant pairs ---------------------------------------------------------------------------------------------------


@quick
@given(b=st.integers(0, 300), c=st.integers(0, 300), gamma=gammas, alpha=alphas)
def test_discordant_pairs_are_a_binomial_test(b: int, c: int, gamma: float, alpha: float) -> None:
    """The bound is SciPy's binomial test, and Γ the odds of its exact one-sided confidence limit."""
    if b + c == 0:
        return
    theirs = stats.binomtest(b, b + c, gamma / (1 + gamma), alternative="greater")
    assert mcnemar_p(b, c, gamma) == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-300)
    limit = theirs.proportion_ci(1 - alpha, method="exact").low
    ours = mcnemar_gamma(b, c, alpha)
    if limit < 0.5:
        assert math.isnan(ours)
        assert mcnemar_p(b, c) > alpha
    else:
        assert ours == pytest.approx(limit / (1 - limit), rel=1e-6)
        assert mcnemar_p(b, c, ours) == pytest.approx(alpha, rel=1e-8)


def test_millions_of_discordant_pairs() -> None:
    gamma = mcnemar_gamma(3_000_000, 2_000_000, 0.05)
    assert 1.49 < gamma < 1.5
    assert mcnemar_p(3_000_000, 2_000_000, gamma) == pytest.approx(0.05, rel=1e-6)


# omitted variables --------------------------------------------------------------------------------------------------


def regression(seed: int, n: int = 80) -> tuple[np.ndarray, ...]:
    """Covariate, confounder, treatment and outcome: x and z matter for both."""
    draw = np.random.default_rng(seed)
    x, z = draw.normal(size=(2, n))
    d = draw.normal() * x + draw.normal() * z + draw.normal(size=n)
    y = draw.normal() * d + draw.normal() * x + draw.normal() * z + draw.normal(size=n)
    return x, z, d, y


def last_of(y: np.ndarray, *columns: np.ndarray) -> tuple[float, float, float]:
    """Least squares on a constant and columns: estimate, error and residual degrees of freedom of the last one."""
    fit = sm.OLS(y, sm.add_constant(np.column_stack(columns))).fit()
    return float(fit.params[-1]), float(fit.bse[-1]), float(fit.df_resid)


@quick
@given(seed=seeds)
def test_adjusted_estimate_is_that_of_the_regression_with_the_confounder(seed: int) -> None:
    """With the true partial R², exactly: the magnitude of the bias and the standard error (relative 1e-7)."""
    x, z, d, y = regression(seed)
    short, long = last_of(y, x, d), last_of(y, x, z, d)
    strength = Confounder(partial_r2(*last_of(d, x, z)), partial_r2(*last_of(y, x, d, z)))
    ours = adjusted(*short, strength)
    bias = abs(short[0] - ours.estimate)
    assert bias == pytest.approx(abs(short[0] - long[0]), rel=1e-7, abs=1e-12)
    assert (ours.std_error, ours.dof) == pytest.approx(long[1:], rel=1e-7)


@quick
@given(seed=seeds)
def test_benchmark_bounds_the_confounder(seed: int) -> None:
    """For a confounder that is uncorrelated with the covariate and has these multiples of its strength: the bound
    of the treatment is exact, that of the outcome holds (relative 1e-7)."""
    x, z, d, y = regression(seed)
    z = z - np.column_stack([np.ones_like(x), x]) @ np.linalg.lstsq(np.column_stack([np.ones_like(x), x]), z)[0]
    covariate = Confounder(partial_r2(*last_of(d, x)), partial_r2(*last_of(y, d, x)))
    times_d = partial_r2(*last_of(d, z)) / covariate.r2_treatment
    times_y = partial_r2(*last_of(y, d, z)) / covariate.r2_outcome
    bound = benchmark(covariate, times_d, times_y)
    assert bound.r2_treatment == pytest.approx(partial_r2(*last_of(d, x, z)), rel=1e-7)
    assert bound.r2_outcome >= partial_r2(*last_of(y, x, d, z)) * (1 - 1e-7)


def test_benchmark_of_the_outcome_is_at_most_one() -> None:
    bound = benchmark(Confounder(0.1, 0.6))
    assert bound.r2_outcome == 1.0
    ours = adjusted(1.0, 0.1, 100, bound)
    assert math.isfinite(ours.estimate)
    assert math.isnan(ours.p_value)


estimates = st.floats(-10, 10).filter(lambda x: abs(x) > 1e-3)
errors = st.floats(1e-2, 10)
dofs = st.floats(3, 1e5)


@quick
@given(estimate=estimates, error=errors, dof=dofs, q=st.floats(0.1, 2))
def test_a_confounder_of_the_robustness_value_takes_the_share_away(
    estimate: float, error: float, dof: float, q: float
) -> None:
    """By definition; as a part of the estimate, 1e-9."""
    r = robustness(estimate, error, dof, q).value
    left = adjusted(estimate, error, dof, Confounder(r, r)).estimate
    assert left == pytest.approx((1 - q) * estimate, abs=1e-9 * abs(estimate))
    f2 = (q * estimate / error) ** 2 / dof
    assert r * r / (1 - r) == pytest.approx(f2, rel=1e-6)


def best_statistic(estimate: float, error: float, dof: float, r: float) -> float:
    """Smallest t of "no effect" that a confounder can make with both partial R² at most r, by a fine grid."""
    grid = np.linspace(0, min(r, 1 - 1e-12), 401)
    with np.errstate(invalid="ignore"):
        d, y = np.meshgrid(grid, grid)
        bias = error * np.sqrt(dof * y * d / (1 - d))
        scale = error * np.sqrt((1 - y) / (1 - d) * dof / (dof - 1))
    return float(((abs(estimate) - bias) / scale).min())


@pytest.mark.parametrize(
    ("estimate", "error", "dof", "alpha"),
    [(1.0, 0.2, 50, 0.05), (1.0, 0.4, 1000, 0.05), (-3.0, 0.2, 20, 0.01), (5.0, 0.1, 4, 0.05), (9.0, 0.1, 30, 0.001)],
)
def test_robustness_of_the_test_by_search(estimate: float, error: float, dof: float, alpha: float) -> None:
    """The least r at which some confounder makes t fall to the critical value; the last two are the case where it
    is not as strong in the outcome as it may be. A grid of 1/400 of r finds the minimum of t to 1e-3 in r."""
    needed = stats.t.isf(alpha / 2, dof - 1)
    found = optimize.brentq(lambda r: best_statistic(estimate, error, dof, r) - needed, 1e-9, 1 - 1e-9)
    assert robustness(estimate, error, dof, alpha=alpha).value_alpha == pytest.approx(found, rel=1e-3)


@quick
@given(estimate=estimates, error=errors, dof=dofs, alpha=alphas)
def test_order_of_the_robustness_values(estimate: float, error: float, dof: float, alpha: float) -> None:
    ours = robustness(estimate, error, dof, alpha=alpha)
    assert 0 <= ours.value_alpha <= ours.value * (1 + 1e-12)
    assert ours.partial_r2 <= ours.value < 1
    assert robustness(-estimate, error, dof, alpha=alpha) == ours
    assert robustness(7 * estimate, 7 * error, dof, alpha=alpha).value == pytest.approx(ours.value, rel=1e-12)


def test_what_is_not_significant_has_no_robustness() -> None:
    ours = robustness(1.0, 1.0, 100)
    assert ours.value_alpha == 0
    assert ours.value > 0


def test_no_effect() -> None:
    ours = robustness(0.0, 1.0, 100)
    assert (ours.partial_r2, ours.value, ours.value_alpha) == (0, 0, 0)


@pytest.mark.parametrize(
    ("error", "dof"),
    [(0.0, 10), (-1.0, 10), (math.nan, 10), (math.inf, 10), (1.0, 1), (1.0, math.inf), (1.0, math.nan)],
)
def test_omitted_variables_that_cannot_be_judged(error: float, dof: float) -> None:
    assert math.isnan(partial_r2(1.0, error, dof))
    assert all(math.isnan(value) for value in vars(robustness(1.0, error, dof)).values())
    ours = adjusted(1.0, error, dof, Confounder(0.1, 0.1))
    assert all(math.isnan(value) for value in (ours.estimate, ours.std_error, ours.p_value, ours.low, ours.high))


@pytest.mark.parametrize("r2", [-0.1, 1.0, 1.5])
def test_a_partial_r2_is_a_share(r2: float) -> None:
    with pytest.raises(ConfigError, match="r2_treatment"):
        adjusted(1.0, 0.1, 100, Confounder(r2, 0.1))
    with pytest.raises(ConfigError, match="r2_treatment"):
        benchmark(Confounder(r2, 0.1))
    with pytest.raises(ConfigError, match="r2_outcome"):
        benchmark(Confounder(0.1, r2))
    if r2 != 1:
        with pytest.raises(ConfigError, match="r2_outcome"):
            adjusted(1.0, 0.1, 100, Confounder(0.1, r2))


def test_a_multiple_that_explains_everything_is_refused() -> None:
    assert benchmark(Confounder(0.25, 0.1), 2.99).r2_treatment < 1
    with pytest.raises(ConfigError, match="factor below 3"):
        benchmark(Confounder(0.25, 0.1), 3.0)


def test_an_unknown_strength_gives_no_bound() -> None:
    bound = benchmark(Confounder(math.nan, 0.1))
    assert math.isnan(bound.r2_treatment)
    assert math.isnan(bound.r2_outcome)
