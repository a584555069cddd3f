"""Balance of covariates: parity with NumPy and SciPy, laws, and what cannot be estimated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_spark.solve.balance import (
    Balance,
    Denominator,
    cut_points,
    ecdf_difference,
    effective_sizes,
    solve,
    sums,
    variances,
    verdict,
)
from causal_spark.statistics import Sums

pytestmark = pytest.mark.filterwarnings("error")
quick = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def sample(seed: int, n: int = 200) -> Sample:
    """Four covariates (two continuous, one of few values, one binary) that differ by group, and weights with zeros."""
    draw = np.random.default_rng(seed)
    t = (np.arange(n) % 3 == 0).astype(int)
    normal = draw.normal(0.3 * t, 1 + 0.5 * t)
    skewed = draw.gamma(2.0, size=n) * 1000 * (draw.random(n) < 0.7)
    few = draw.integers(0, 6, n) + t * draw.integers(0, 2, n)
    binary = draw.random(n) < 0.3 + 0.4 * t
    binary[:6] = [True, True, True, False, False, False]
    w = np.where(t == 1, 1.0, draw.gamma(1.0, size=n) * (draw.random(n) < 0.8))
    return np.column_stack([normal, skewed, few, binary]).astype(float), t, w


def cuts_of(x: np.ndarray, most: int = 10_000) -> list[np.ndarray]:
    return [cut_points(column, most) for column in x.T]


def total(x: np.ndarray, t: np.ndarray, w: np.ndarray, cuts: list[np.ndarray] | None = None) -> Sums:
    return sums(x, t, w, cuts_of(x) if cuts is None else cuts, np.zeros(x.shape[1]))


def balance(
    x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None, denominator: Denominator = "treated"
) -> tuple[Balance, ...]:
    """With every value as a cut point, the centre at 0 and unit weights before."""
    cuts, centre, one = cuts_of(x), np.zeros(x.shape[1]), np.ones(len(x))
    before = sums(x, t, one, cuts, centre)
    after = before if w is None else sums(x, t, w, cuts, centre)
    return solve(after, before, cuts, centre, denominator)


# parity -------------------------------------------------------------------------------------------------------------


def test_unweighted_is_that_of_numpy_and_scipy() -> None:
    """Relative 1e-10: sums about 0 and not about the mean lose a few digits of the variance."""
    x, t, _ = sample(1)
    for j, found in enumerate(balance(x, t)[:3]):
        a, b = x[t == 1, j], x[t == 0, j]
        assert (found.mean_treated, found.mean_control) == pytest.approx((a.mean(), b.mean()), rel=1e-12)
        assert found.smd == pytest.approx((a.mean() - b.mean()) / a.std(ddof=1), rel=1e-10)
        assert found.variance_ratio == pytest.approx(a.var(ddof=1) / b.var(ddof=1), rel=1e-10)
        assert found.ks == pytest.approx(stats.ks_2samp(a, b).statistic, rel=1e-12)


def test_weighted_variance_is_that_of_reliability_weights_in_numpy() -> None:
    x, t, w = sample(2)
    ours = variances(total(x, t, w), np.zeros(4, bool))
    for g in (0, 1):
        for j in range(4):
            assert ours[g, j] == pytest.approx(np.cov(x[t == g, j], aweights=w[t == g], ddof=1), rel=1e-10)


@pytest.mark.parametrize("denominator", ["treated", "control", "pooled"])
def test_denominator_is_that_of_the_unadjusted_sample(denominator: Denominator) -> None:
    x, t, w = sample(3)
    v1, v0 = x[t == 1].var(axis=0, ddof=1), x[t == 0].var(axis=0, ddof=1)
    p1, p0 = x[t == 1, 3].mean(), x[t == 0, 3].mean()
    v1[3], v0[3] = p1 * (1 - p1), p0 * (1 - p0)  # a proportion has the variance of a proportion
    scale = np.sqrt({"treated": v1, "control": v0, "pooled": (v1 + v0) / 2}[denominator])
    gap = [np.average(c[t == 1], weights=w[t == 1]) - np.average(c[t == 0], weights=w[t == 0]) for c in x.T]
    np.testing.assert_allclose([b.smd for b in balance(x, t, w, denominator)], gap / scale, rtol=1e-10)


@quick
@given(seed=seeds)
def test_binned_distances_are_exact_if_every_value_is_a_cut_point(seed: int) -> None:
    x, t, w = sample(seed, 60)
    for j, found in enumerate(balance(x, t, w)):
        assert (found.ks, found.ecdf_mean) == pytest.approx(ecdf_difference(x[:, j], t, w), rel=1e-11, abs=1e-13)


@quick
@given(seed=seeds, most=st.integers(3, 40))
def test_coarse_cut_points_miss_at_most_one_bin(seed: int, most: int) -> None:
    x, t, w = sample(seed)
    cuts = cuts_of(x, most)
    found = total(x, t, w, cuts)
    for j, ours in enumerate(solve(found, found, cuts, np.zeros(4))):
        exact, _ = ecdf_difference(x[:, j], t, w)
        place = np.searchsorted(cuts[j], x[:, j])
        shares = [np.bincount(place, w * (t == g)).max() / w[t == g].sum() for g in (0, 1)]
        assert ours.ks - 1e-12 <= exact <= ours.ks + max(shares) + 1e-12


def test_mean_distance_of_fine_quantiles_is_near_the_exact_one() -> None:
    """A mean over 200 quantiles and one over up to 6,000 values, of a function that is rough in between: 5 % of it."""
    x, t, w = sample(4, 6000)
    cuts = cuts_of(x[:, :2], 200)
    found = total(x[:, :2], t, w, cuts)
    for j, ours in enumerate(solve(found, found, cuts, np.zeros(2))):
        assert ours.ecdf_mean == pytest.approx(ecdf_difference(x[:, j], t, w)[1], rel=0.05)


def test_mean_distance_by_hand() -> None:
    """Treated 1, 3; controls 1 (weight 3), 2 (weight 1): |F₁ - F₀| at 1, 2, 3 is 1/4, 1/2, 0."""
    x, t, w = np.array([1.0, 3, 1, 2]), np.array([1, 1, 0, 0]), np.array([1.0, 1, 3, 1])
    assert ecdf_difference(x, t, w) == (0.5, 0.25)
    assert balance(x[:, None], t, w)[0].ecdf_mean == 0.25


def test_binary_distances_are_the_difference_of_the_proportions() -> None:
    """For 0/1 and for any other two values; the standardised difference does not depend on the values either."""
    _, t, w = sample(5)
    b = (np.random.default_rng(5).random(len(t)) < 0.2 + 0.5 * t).astype(float)
    gap = np.average(b[t == 1], weights=w[t == 1]) - np.average(b[t == 0], weights=w[t == 0])
    plain, scaled = balance(np.column_stack([b, 7 * b - 3]), t, w)
    for found in (plain, scaled):
        assert (found.ks, found.ecdf_mean) == pytest.approx((abs(gap), abs(gap)), rel=1e-12)
        assert math.isnan(found.variance_ratio)
    assert scaled.smd == pytest.approx(plain.smd, rel=1e-10)
    assert ecdf_difference(b, t, w) == pytest.approx((abs(gap), abs(gap)), rel=1e-12)


def test_effective_sizes() -> None:
    x, t, w = sample(6)
    a, b = w[t == 1], w[t == 0]
    ours = effective_sizes(total(x, t, w))
    assert ours == pytest.approx((a.sum() ** 2 / (a**2).sum(), b.sum() ** 2 / (b**2).sum()), rel=1e-12)
    assert ours[0] == (t == 1).sum()
    assert ours[1] < (w[t == 0] > 0).sum()
    np.testing.assert_array_equal(total(x, t, w)["rows"], [(w[t == 0] > 0).sum(), (t == 1).sum()])


# laws ---------------------------------------------------------------------------------------------------------------


@quick
@given(seed=seeds, parts=st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_blocks_add_up_to_the_whole(seed: int, parts: list[int]) -> None:
    """Exact for whole numbers, whatever the cut into blocks and their order; blocks may be empty."""
    draw = np.random.default_rng(seed)
    x, t, w = draw.integers(-50, 50, (60, 3)).astype(float), draw.integers(0, 2, 60), draw.integers(0, 4, 60)
    cuts, centre = [cut_points(column, 9) for column in x.T], np.array([1.0, -2.0, 0.0])
    blocks = np.split(draw.permutation(60), sorted(parts))
    merged = sum((sums(x[b], t[b], w[b], cuts, centre) for b in blocks), sums(x[:0], t[:0], w[:0], cuts, centre))
    np.testing.assert_array_equal(merged.vector, sums(x, t, w, cuts, centre).vector)


@quick
@given(seed=seeds, c=st.sampled_from([1e-6, 0.25, 3.0, 1e9]))
def test_equal_weights_are_no_weights(seed: int, c: float) -> None:
    x, t, _ = sample(seed, 40)
    for ours, plain in zip(balance(x, t, np.full(len(x), c)), balance(x, t), strict=True):
        assert vars(ours) == pytest.approx(vars(plain), rel=1e-9, abs=1e-12, nan_ok=True)


@quick
@given(seed=seeds, unit=st.sampled_from([1e-6, 0.5, 1e5]), shift=st.floats(-100, 100))
def test_unit_and_origin_of_a_covariate_are_free(seed: int, unit: float, shift: float) -> None:
    x, t, w = sample(seed, 60)
    moved = (x + shift) * unit
    for ours, plain in zip(balance(moved, t, w), balance(x, t, w), strict=True):
        expected = vars(plain) | {k: (vars(plain)[k] + shift) * unit for k in ("mean_treated", "mean_control")}
        assert vars(ours) == pytest.approx(expected, rel=1e-7, abs=1e-9, nan_ok=True)


@quick
@given(seed=seeds)
def test_swapped_groups(seed: int) -> None:
    x, t, w = sample(seed, 60)
    for ours, other in zip(balance(x, t, w, "pooled"), balance(x, 1 - t, w, "pooled"), strict=True):
        assert (ours.smd, ours.ks, ours.ecdf_mean) == pytest.approx((-other.smd, other.ks, other.ecdf_mean), abs=1e-12)
        assert ours.variance_ratio == pytest.approx(1 / other.variance_ratio, rel=1e-9, nan_ok=True)


def test_a_row_twice_is_a_row_of_weight_two_but_for_the_variance() -> None:
    x, t, _ = sample(7, 50)
    copies = np.random.default_rng(7).integers(0, 3, 50)
    kept = np.repeat(np.arange(50), copies)
    cuts, centre = cuts_of(x), np.zeros(4)
    before = total(x, t, np.ones(50), cuts)
    weighted = solve(total(x, t, copies, cuts), before, cuts, centre)
    repeated = solve(total(x[kept], t[kept], np.ones(len(kept)), cuts), before, cuts, centre)
    for a, b in zip(weighted, repeated, strict=True):
        assert (a.smd, a.ks, a.ecdf_mean) == pytest.approx((b.smd, b.ks, b.ecdf_mean), rel=1e-12)


def test_a_mean_far_from_zero_needs_a_centre_and_has_one() -> None:
    """Mean 1e9 and spread 1: rounding of x itself is 1e-7, so the ratio is good to 1e-6."""
    x, t, w = sample(8)
    cuts, centre = cuts_of(x + 1e9), np.full(4, 1e9)
    found = sums(x + 1e9, t, w, cuts, centre)
    ours = solve(found, found, cuts, centre)[0]
    plain = total(x, t, w)
    expected = solve(plain, plain, cuts_of(x), np.zeros(4))[0]
    assert (ours.smd, ours.variance_ratio) == pytest.approx((expected.smd, expected.variance_ratio), rel=1e-6)


# cut points ---------------------------------------------------------------------------------------------------------


def test_cut_points() -> None:
    assert cut_points([1, 0, 1, 0, np.nan]).tolist() == [0.0]
    assert cut_points([5.0, 5.0]).tolist() == [5.0]
    assert cut_points([]).tolist() == [0.0]
    assert cut_points([3, 1, 2, 2]).tolist() == [1.0, 2.0, 3.0]
    many = np.random.default_rng(9).normal(size=5000)
    found = cut_points(many, 100)
    assert len(found) == 100
    assert set(found) <= set(many)
    assert (found[0], found[-1]) == (many.min(), many.max())
    assert np.diff(np.searchsorted(np.sort(many), found)).max() <= 52  # about 5000 / 99 rows in each bin


@quick
@given(
    values=st.lists(st.integers(-5, 25).map(float) | st.sampled_from([-math.inf, math.inf])),
    points=st.sets(st.integers(0, 20), min_size=1),
)
def test_bins_are_those_of_searchsorted(values: list[float], points: set[int]) -> None:
    """A value on a cut point belongs to the bin below it."""
    cuts = np.array(sorted(points), float)
    x = np.array(values)
    with np.errstate(invalid="ignore"):
        found = sums(x[:, None], np.ones(len(x)), np.ones(len(x)), [cuts], [0.0])
    expected = np.bincount(np.searchsorted(cuts, x), minlength=len(cuts) + 1)
    np.testing.assert_array_equal(found["histogram"], [np.zeros(len(cuts) + 1), expected])


def test_a_covariate_of_many_values_is_never_taken_as_binary() -> None:
    """Nearly all rows hold one value, at either end: the rest still gets a cut point."""
    tail = np.arange(1, 301) / 1000
    for bulk in (0.0, 1.0):
        assert len(cut_points(np.append(np.full(10**6, bulk), tail), 200)) >= 2


# what cannot be estimated -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0, 1])
def test_a_group_without_weight_is_nan(missing: int) -> None:
    x, t, w = sample(10)
    for weights in (np.where(t == missing, 0.0, w), None):
        keep = t != missing if weights is None else np.ones(len(t), bool)
        cuts = cuts_of(x)
        before = total(x, t, np.ones(len(t)), cuts)
        after = total(x[keep], t[keep], w[keep] if weights is None else weights, cuts)
        for found in solve(after, before, cuts, np.zeros(4)):
            assert math.isnan(found.mean_control if missing == 0 else found.mean_treated)
            assert all(math.isnan(v) for v in (found.smd, found.variance_ratio, found.ks, found.ecdf_mean))
            assert verdict(found) == "unknown"
        assert effective_sizes(after)[1 - missing] == 0
    assert all(math.isnan(v) for v in ecdf_difference(x[:, 0], t, np.where(t == missing, 0.0, w)))


def test_one_row_in_a_group_has_no_variance() -> None:
    x, t = np.array([[1.0], [2.0], [4.0], [9.0]]), np.array([1, 0, 0, 0])
    treated, control = balance(x, t, None, "treated")[0], balance(x, t, None, "control")[0]
    assert math.isnan(treated.smd)
    assert control.smd == pytest.approx(-4 / np.std([2, 4, 9], ddof=1), rel=1e-12)
    assert math.isnan(treated.variance_ratio)
    assert treated.ks == 1.0


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 / 3])
def test_a_constant_covariate_has_no_smd(constant: float) -> None:
    """Also where sums about 0 leave a rounding of the variance."""
    _, t, w = sample(11)
    found = balance(np.full((len(t), 1), constant), t, w)[0]
    assert found.mean_treated == pytest.approx(constant, rel=1e-12)
    assert math.isnan(found.smd)
    assert math.isnan(found.variance_ratio)
    assert found.ks == pytest.approx(0, abs=1e-12)


def test_a_missing_value_spoils_its_covariate_alone() -> None:
    x, t, w = sample(12)
    clean = balance(x, t, w)
    x[0, 1] = np.nan
    found = balance(x, t, w)
    assert all(math.isnan(value) for value in vars(found[1]).values())
    assert [found[j] for j in (0, 2)] == [clean[j] for j in (0, 2)]


def test_no_covariates() -> None:
    _, t, w = sample(13)
    assert balance(np.zeros((len(t), 0)), t, w) == ()


# the verdict --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smd", "ratio", "expected"),
    [
        (0.1, 1.0, "balanced"),
        (-0.1, math.nan, "balanced"),
        (0.1001, 1.0, "nearly"),
        (-0.25, 2.0, "nearly"),
        (0.2501, 1.0, "unbalanced"),
        (0.0, 2.01, "unbalanced"),
        (0.0, 0.499, "unbalanced"),
        (0.0, 0.5, "balanced"),
        (math.nan, 1.0, "unknown"),
    ],
)
def test_verdict(smd: float, ratio: float, expected: str) -> None:
    assert verdict(Balance(0, 0, smd, ratio, 0, 0)) == expected


def test_verdict_at_other_limits() -> None:
    found = Balance(0, 0, 0.15, 1.8, 0, 0)
    assert verdict(found, 0.2, 0.3) == "balanced"
    assert verdict(found, 0.05, 0.1) == "unbalanced"
    assert verdict(found, ratios=(0.8, 1.25)) == "unbalanced"
