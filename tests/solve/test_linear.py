"""CUPED as linear algebra on moments, and cluster-robust differences: parity with statsmodels on rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import statsmodels.api as sm

from causal_spark.solve.linear import ThetaOf, cluster_difference, cuped, slopes
from causal_spark.solve.means import Form, Values, difference, evaluate
from causal_spark.statistics import Moments

THETAS = get_args(ThetaOf)
NAMES = ("y", "x1", "x2", "x3")
Table = np.ndarray


def tables(seed: int, groups: int = 2, n: int = 60) -> list[Table]:
    """Arms of other sizes with an outcome and three correlated covariates, one of them skewed."""
    draw = np.random.default_rng(seed)
    arms = []
    for arm in range(groups):
        x = draw.normal(size=(n + 17 * arm, 3)) @ [[1, 0.5, 0], [0, 1, 0.2], [0, 0, 1]]
        x[:, 2] = np.exp(x[:, 2])
        y = 3 + 0.4 * arm + x @ [1.0, -0.5, 0.3] + draw.normal(size=len(x)) * (1 + arm)
        arms.append(np.column_stack([y, x]))
    return arms


def moments(arms: Sequence[Table], names: Sequence[str] = NAMES) -> dict[str, Moments]:
    return {f"arm {i}": Moments.from_rows(names, arm) for i, arm in enumerate(arms)}


def forms(*names: str) -> list[Form]:
    return [Form(name) for name in names]


def compare(groups: dict[str, Values]) -> tuple[float, float, float]:
    test = difference(groups["arm 1"], groups["arm 0"])
    return test.estimate, test.std_error, test.p_value


def same(a: Sequence[float], b: Sequence[float], rel: float = 1e-9) -> bool:
    return bool(np.allclose(a, b, rtol=rel, atol=0))


# theta --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("groups", [2, 3])
def test_theta_within_is_analysis_of_covariance(groups: int, k: int) -> None:
    """OLS of y on the arms and k covariates: the same slopes, and the same adjusted differences."""
    for seed in range(20):
        arms = tables(seed, groups)
        ours = cuped(moments(arms), forms(*NAMES[: k + 1]), "within")
        label = np.repeat(np.arange(groups), [len(arm) for arm in arms])
        rows = np.vstack(arms)
        dummies = np.column_stack([label == i for i in range(groups)]).astype(float)
        fit = sm.OLS(rows[:, 0], np.column_stack([dummies, rows[:, 1 : k + 1]])).fit()
        np.testing.assert_allclose(ours.theta, fit.params[groups:], rtol=1e-9)
        for i in range(1, groups):
            estimate = ours.groups[f"arm {i}"].value[0] - ours.groups["arm 0"].value[0]
            assert estimate == pytest.approx(fit.params[i] - fit.params[0], rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_theta_of_all_rows_is_the_regression_without_arms(k: int) -> None:
    for seed in range(20):
        arms = tables(seed)
        ours = cuped(moments(arms), forms(*NAMES[: k + 1]), "all")
        rows = np.vstack(arms)
        fit = sm.OLS(rows[:, 0], sm.add_constant(rows[:, 1 : k + 1])).fit()
        np.testing.assert_allclose(ours.theta, fit.params[1:], rtol=1e-9)
        assert ours.rho2 == pytest.approx(fit.rsquared, rel=1e-9)


@pytest.mark.parametrize("theta_of", THETAS)
def test_adjusted_values_row_by_row(theta_of: ThetaOf) -> None:
    """Mean and variance of the rows y - θ(x - pooled mean of x)."""
    arms = tables(1)
    ours = cuped(moments(arms), forms(*NAMES), theta_of)
    centre = np.vstack(arms)[:, 1:].mean(axis=0)
    for i, arm in enumerate(arms):
        adjusted = arm[:, 0] - (arm[:, 1:] - centre) @ ours.theta
        value = ours.groups[f"arm {i}"]
        assert value.value[0] == pytest.approx(adjusted.mean(), rel=1e-12)
        assert value.vcov[0, 0] == pytest.approx(adjusted.var(ddof=1) / len(arm), rel=1e-10)
        assert value.n == len(arm)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("theta_of", THETAS)
def test_variance_falls_by_rho_squared(theta_of: ThetaOf, k: int) -> None:
    """Var(adjusted) = (1 - ρ²)·Var(y) for the rows that gave θ: exactly, not on average."""
    for seed in range(20):
        arms = tables(seed)
        rows = [np.vstack(arms)] if theta_of == "all" else arms
        groups = moments(rows)
        ours = cuped(groups, forms(*NAMES[: k + 1]), theta_of)
        before = sum(part.scatter[0, 0] for part in groups.values())
        after = sum(v.vcov[0, 0] * v.n * (v.n - 1) for v in ours.groups.values())
        assert after == pytest.approx((1 - ours.rho2) * before, rel=1e-10)
        assert 0 < ours.rho2 < 1


@pytest.mark.parametrize("theta_of", THETAS)
def test_adjustment_leaves_the_level(theta_of: ThetaOf) -> None:
    """The adjusted values, weighted by n, still have the mean of the metric."""
    arms = tables(3)
    ours = cuped(moments(arms), forms(*NAMES), theta_of).groups.values()
    assert sum(v.value[0] * v.n for v in ours) == pytest.approx(np.vstack(arms)[:, 0].sum(), rel=1e-12)


# invariance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta_of", THETAS)
def test_affine_change_of_the_covariates(theta_of: ThetaOf) -> None:
    """Other units, other zero, mixed with each other: the same comparison. 1e-8: the mixture has condition 50."""
    mix = np.array([[1e3, 0.0, 2.0], [5.0, 1e-3, 1.0], [0.0, 0.0, -7.0]])
    for seed in range(20):
        arms = tables(seed)
        other = [np.column_stack([arm[:, 0], arm[:, 1:] @ mix + [10.0, -1.0, 1e3]]) for arm in arms]
        a, b = (cuped(moments(x), forms(*NAMES), theta_of) for x in (arms, other))
        assert same(compare(a.groups), compare(b.groups), 1e-7)
        assert a.rho2 == pytest.approx(b.rho2, rel=1e-8)


@pytest.mark.parametrize("theta_of", THETAS)
def test_unit_of_the_metric(theta_of: ThetaOf) -> None:
    arms = tables(5)
    scaled = [arm * [100.0, 1, 1, 1] for arm in arms]
    a, b = (cuped(moments(x), forms(*NAMES), theta_of) for x in (arms, scaled))
    estimate, error, p = compare(a.groups)
    assert same(compare(b.groups), (100 * estimate, 100 * error, p))
    np.testing.assert_allclose(b.theta, 100 * a.theta, rtol=1e-10)


@pytest.mark.parametrize("theta_of", THETAS)
def test_swapped_arms(theta_of: ThetaOf) -> None:
    arms = tables(6)
    a, b = (cuped(moments(x), forms(*NAMES), theta_of).groups for x in (arms, arms[::-1]))
    estimate, error, p = compare(a)
    assert same(compare(b), (-estimate, error, p))


@pytest.mark.parametrize("theta_of", THETAS)
def test_no_covariate_is_welch(theta_of: ThetaOf) -> None:
    groups = moments(tables(7))
    ours = cuped(groups, forms("y"), theta_of)
    plain = {name: evaluate(part, forms("y")) for name, part in groups.items()}
    assert compare(ours.groups) == compare(plain)
    assert (ours.rho2, ours.theta.shape) == (0.0, (0,))


@pytest.mark.parametrize("theta_of", THETAS)
def test_constant_covariate_changes_nothing(theta_of: ThetaOf) -> None:
    arms = tables(8)
    flat = [np.column_stack([arm[:, 0], np.full(len(arm), 0.1)]) for arm in arms]
    ours = cuped(moments(flat, ("y", "x")), forms("y", "x"), theta_of)
    plain = {name: evaluate(part, forms("y")) for name, part in moments(arms).items()}
    assert same(compare(ours.groups), compare(plain), 1e-12)
    assert (ours.theta[0], ours.rho2) == (0.0, 0.0)
    with_it = [np.column_stack([arm, np.full(len(arm), 0.1)]) for arm in arms]
    beside = cuped(moments(with_it, (*NAMES, "flat")), forms(*NAMES, "flat"), theta_of)
    assert beside.theta[3] == 0.0
    assert same(compare(beside.groups), compare(cuped(moments(arms), forms(*NAMES), theta_of).groups), 1e-10)


@pytest.mark.parametrize("theta_of", THETAS)
def test_covariate_that_is_constant_but_for_rounding(theta_of: ThetaOf) -> None:
    """A scatter of ±1e-17 is nobody's variance: no error, no warning, no adjustment."""
    scatter = np.array([[5.0, 1e-17, 1.0], [1e-17, -1e-17, 0.0], [1.0, 0.0, 3.0]])
    part = Moments(("y", "flat", "x"), 10.0, np.array([1.0, 0.1, 2.0]), scatter)
    groups = {"arm 0": part, "arm 1": part}
    with np.errstate(all="raise"):
        ours = cuped(groups, forms("y", "flat", "x"), theta_of)
    alone = cuped(groups, forms("y", "x"), theta_of)
    assert ours.groups["arm 0"].vcov[0, 0] == pytest.approx(alone.groups["arm 0"].vcov[0, 0], rel=1e-12)


@pytest.mark.parametrize("theta_of", THETAS)
def test_repeated_covariate_counts_once(theta_of: ThetaOf) -> None:
    """Twice the same, and in another unit: the slopes are shared, the comparison is that of one."""
    arms = tables(9)
    twice = [np.column_stack([arm[:, 0], arm[:, 1], arm[:, 1], -3.0 * arm[:, 1] + 2.0]) for arm in arms]
    ours = cuped(moments(twice), forms(*NAMES), theta_of)
    once = cuped(moments(arms), forms("y", "x1"), theta_of)
    assert same(compare(ours.groups), compare(once.groups))
    assert ours.rho2 == pytest.approx(once.rho2, rel=1e-9)
    assert np.abs(ours.theta).max() < 10 * abs(once.theta[0])


def test_perfect_covariate_leaves_no_variance() -> None:
    """The metric itself as covariate: ρ² = 1, the difference is 0 up to rounding."""
    arms = [np.column_stack([arm[:, 0], arm[:, 0]]) for arm in tables(10)]
    ours = cuped(moments(arms, ("y", "x")), forms("y", "x"), "within")
    assert ours.rho2 == pytest.approx(1.0, abs=1e-14)
    assert ours.theta[0] == pytest.approx(1.0, rel=1e-14)
    assert abs(compare(ours.groups)[0]) < 1e-12


def test_slopes_of_a_known_covariance() -> None:
    theta, rho2 = slopes(np.array([[4.0, 2.0, 1.0], [2.0, 4.0, 0.0], [1.0, 0.0, 1.0]]))
    np.testing.assert_allclose(theta, [0.5, 1.0], rtol=1e-14)
    assert rho2 == pytest.approx((0.5 * 2 + 1.0 * 1) / 4, rel=1e-14)


# ratios -------------------------------------------------------------------------------------------------------------


def visits(seed: int, n: int = 80) -> list[Table]:
    """clicks, views, clicks before, views before."""
    draw = np.random.default_rng(seed)
    arms = []
    for arm in range(2):
        activity, taste = draw.gamma(3, 1, n + 20 * arm), draw.beta(2, 5, n + 20 * arm)
        views, before = draw.poisson(activity) + 1, draw.poisson(activity) + 1
        arms.append(np.column_stack([draw.binomial(views, taste), views, draw.binomial(before, taste), before]))
    return [arm.astype(float) for arm in arms]


@pytest.mark.parametrize("theta_of", THETAS)
def test_ratio_is_adjusted_by_linearised_rows(theta_of: ThetaOf) -> None:
    """θ from the linearised rows at the pooled ratios; the level of each arm keeps its own ratio."""
    arms = visits(2)
    names, pair = ("c", "v", "c0", "v0"), [Form("c", "v"), Form("c0", "v0")]
    ours = cuped(moments(arms, names), pair, theta_of)
    total = np.vstack(arms).mean(axis=0)
    ratio, before = total[0] / total[1], total[2] / total[3]
    linear = [
        np.column_stack(
            [(a[:, 0] - ratio * a[:, 1]) / total[1], (a[:, 2] - before * a[:, 3]) / total[3], np.full(len(a), i)]
        )
        for i, a in enumerate(arms)
    ]
    rows = np.vstack(linear)
    extra = [rows[:, 2]] if theta_of == "within" else []
    fit = sm.OLS(rows[:, 0], np.column_stack([np.ones(len(rows)), *extra, rows[:, 1]])).fit()
    assert ours.theta[0] == pytest.approx(fit.params[-1], rel=1e-9)
    for i, arm in enumerate(arms):
        mean = arm.mean(axis=0)
        own = mean[0] / mean[1] - ours.theta[0] * (mean[2] / mean[3] - before)
        residual = (arm[:, 0] - mean[0] / mean[1] * arm[:, 1]) / mean[1]
        residual = residual - ours.theta[0] * (arm[:, 2] - mean[2] / mean[3] * arm[:, 3]) / mean[3]
        value = ours.groups[f"arm {i}"]
        assert value.value[0] == pytest.approx(own, rel=1e-12)
        assert value.vcov[0, 0] == pytest.approx(residual.var(ddof=1) / len(arm), rel=1e-10)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("theta_of", THETAS)
def test_ratio_without_a_denominator_is_nan(theta_of: ThetaOf) -> None:
    """No views at all, now or before: NaN, not an error and not a number."""
    arms = [arm * [1, 0, 1, 1] for arm in visits(3)]
    ours = cuped(moments(arms, ("c", "v", "c0", "v0")), [Form("c", "v"), Form("c0", "v0")], theta_of)
    assert all(math.isnan(x) for x in compare(ours.groups))
    before = [arm * [1, 1, 1, 0] for arm in visits(3)]
    ours = cuped(moments(before, ("c", "v", "c0", "v0")), [Form("c", "v"), Form("c0", "v0")], theta_of)
    assert all(math.isnan(x) for x in compare(ours.groups))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("theta_of", THETAS)
def test_arm_without_enough_rows(theta_of: ThetaOf, n: int) -> None:
    arms = tables(11)
    arms[1] = arms[1][:n]
    ours = cuped(moments(arms), forms(*NAMES), theta_of)
    test = difference(ours.groups["arm 1"], ours.groups["arm 0"])
    assert all(math.isnan(x) for x in (test.p_value, test.low, test.high))
    assert math.isfinite(ours.groups["arm 0"].vcov[0, 0])


# clusters -----------------------------------------------------------------------------------------------------------


def clustered(seed: int) -> tuple[Table, Table, Table]:
    """Rows in clusters of 1 to 12: outcome, arm (by cluster), cluster."""
    draw = np.random.default_rng(seed)
    y, arm, cluster = [], [], []
    for g in range(int(draw.integers(6, 40))):
        size, treated = int(draw.integers(1, 13)), g % 3 == 0
        y += list(5 + treated + draw.normal() + draw.normal(size=size) * 2)
        arm += [float(treated)] * size
        cluster += [g] * size
    return np.array(y), np.array(arm), np.array(cluster)


def cluster_moments(y: Table, cluster: Table) -> Moments:
    labels = np.unique(cluster)
    return Moments.from_rows(["total", "size"], [(y[cluster == g].sum(), (cluster == g).sum()) for g in labels])


def by_arm(y: Table, arm: Table, cluster: Table) -> tuple[Moments, Moments]:
    treatment, control = (cluster_moments(y[arm == side], cluster[arm == side]) for side in (1, 0))
    return treatment, control


@pytest.mark.parametrize(("correction", "use_correction"), [("CR0", False), ("CR1", True)])
def test_cluster_robust_error_is_that_of_statsmodels(correction, use_correction: bool) -> None:  # type: ignore
    """100 data sets, 1e-10: the sandwich of OLS with and without G/(G - 1)·(N - 1)/(N - 2)."""
    for seed in range(100):
        y, arm, cluster = clustered(seed)
        kinds = {"groups": cluster, "use_correction": use_correction, "df_correction": True}
        fit = sm.OLS(y, sm.add_constant(arm)).fit(cov_type="cluster", cov_kwds=kinds)
        estimate, error = cluster_difference(*by_arm(y, arm, cluster), "total", "size", correction)
        assert estimate == pytest.approx(fit.params[1], rel=1e-10)
        assert error == pytest.approx(fit.bse[1], rel=1e-10)


def test_arm_correction_is_the_ratio_of_sums() -> None:
    """The delta method for Σy/Σsize of each arm is the clustered difference, to the last digits."""
    for seed in range(100):
        treatment, control = by_arm(*clustered(seed))
        form = [Form("total", "size")]
        test = difference(evaluate(treatment, form), evaluate(control, form))
        ours = cluster_difference(treatment, control, "total", "size", "arm")
        assert ours == pytest.approx((test.estimate, test.std_error), rel=1e-12)


def test_clusters_of_one_row_are_rows() -> None:
    """Then 'arm' is Welch, and CR0 has n instead of n - 1 (White's HC0)."""
    arms = [arm[:, 0] for arm in tables(12)]
    parts = [Moments.from_rows(["total", "size"], np.column_stack([y, np.ones(len(y))])) for y in arms]
    _, error = cluster_difference(parts[1], parts[0], "total", "size", "arm")
    assert error == pytest.approx(math.sqrt(sum(y.var(ddof=1) / len(y) for y in arms)), rel=1e-12)
    _, error = cluster_difference(parts[1], parts[0], "total", "size", "CR0")
    assert error == pytest.approx(math.sqrt(sum(y.var() / len(y) for y in arms)), rel=1e-12)


@pytest.mark.parametrize("correction", ["CR0", "CR1", "arm"])
def test_swapped_clusters(correction) -> None:  # type: ignore[no-untyped-def]
    treatment, control = by_arm(*clustered(5))
    estimate, error = cluster_difference(treatment, control, "total", "size", correction)
    swapped = cluster_difference(control, treatment, "total", "size", correction)
    assert swapped == pytest.approx((-estimate, error), rel=1e-12)


@pytest.mark.parametrize("correction", ["CR0", "CR1", "arm"])
def test_clusters_that_are_too_few(correction) -> None:  # type: ignore[no-untyped-def]
    treatment, control = by_arm(*clustered(5))
    none = Moments.empty(["total", "size"])
    one = Moments.from_rows(["total", "size"], [[7.0, 3.0]])
    for other in (none, one):
        for arms in ((treatment, other), (other, control)):
            assert math.isnan(cluster_difference(*arms, "total", "size", correction)[1])
    assert all(math.isnan(x) for x in cluster_difference(none, none, "total", "size", correction))
