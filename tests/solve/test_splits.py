"""A/A splits and re-randomisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.solve.bootstrap import mixed
from causal_spark.solve.splits import (
    acceptance,
    bucket_splits,
    imbalance,
    mahalanobis,
    rerandomise,
    split_statistics,
    split_sums,
    validate,
)
from causal_spark.statistics import Moments

N = 3000
RNG = np.random.default_rng(0)
KEYS = RNG.integers(-(2**63), 2**63 - 1, N)
ROWS = np.column_stack([RNG.lognormal(size=N), (RNG.random(N) < 0.1).astype(float)])


def test_one_split_is_the_welch_test() -> None:
    sums = split_sums(KEYS, ROWS, 5, seed=1)
    z, p, share = split_statistics(sums)
    assert z.shape == p.shape == (5, 2)
    for s in range(5):
        inside = _members(s)
        assert inside.mean() == share[s]
        for k in range(2):
            theirs = stats.ttest_ind(ROWS[inside, k], ROWS[~inside, k], equal_var=False)
            assert z[s, k] == pytest.approx(theirs.statistic, rel=1e-9)
    assert p == pytest.approx(2 * stats.norm.sf(abs(z)))


def _members(split: int) -> np.ndarray:
    """Which units one split treats: a mark for each unit brings them out one by one."""
    found = split_sums(KEYS, np.eye(N), split + 1, seed=1)
    return found["total"][split] > 0


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cut=st.integers(0, 500))
def test_blocks_add_up(cut: int) -> None:
    """Whole numbers: exact."""
    rows = np.round(ROWS[:500] * 8)
    whole = split_sums(KEYS[:500], rows, 6, 2, 0.3)
    parts = split_sums(KEYS[:cut], rows[:cut], 6, 2, 0.3) + split_sums(KEYS[cut:500], rows[cut:], 6, 2, 0.3)
    np.testing.assert_array_equal(parts.vector, whole.vector)


def test_splits_are_independent_of_each_other_and_of_the_share() -> None:
    z, _, share = split_statistics(split_sums(KEYS, ROWS, 400, seed=3, share=0.3))
    assert share.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / N / 400) + 2**-17)
    assert share.std() == pytest.approx(math.sqrt(0.21 / N), rel=0.2)
    lagged = np.corrcoef(z[1:, 0], z[:-1, 0])[0, 1]
    assert abs(lagged) < 4 / 20
    assert validate(z[:, 1]).trusted


def test_buckets_agree_with_units() -> None:
    """20,000 units in 2,000 buckets, 1000 splits: z has standard deviation 1 within its stated resolution."""
    rng = np.random.default_rng(5)
    x = rng.gamma(1, size=20_000)
    bucket = (mixed(np.arange(20_000), 9) % np.uint64(2000)).astype(int)
    n, total = np.bincount(bucket, minlength=2000), np.bincount(bucket, x - x.mean(), 2000)
    z, p = bucket_splits(n, total[:, None], np.array([x.var(ddof=1)]), 1000, seed=4)
    assert z.shape == (1000, 1)
    assert z.std() == pytest.approx(1.0, abs=4 * (1 / math.sqrt(4000) + 1 / math.sqrt(2000)))
    assert validate(z[:, 0]).trusted
    assert p[0, 0] == pytest.approx(2 * stats.norm.sf(abs(z[0, 0])))


@pytest.mark.parametrize(("factor", "trusted"), [(1.0, True), (1 / 0.9, False), (0.8, False)])
def test_the_verdict_sees_a_wrong_standard_error(factor: float, trusted: bool) -> None:
    z = np.random.default_rng(6).normal(size=5000) * factor
    found = validate(z)
    assert found.trusted == trusted
    assert found.spread == pytest.approx(factor, rel=0.05)
    assert (found.band[0] < 0.05 < found.band[1]) and found.band[0] > 0.035
    assert (found.band[0] <= found.rejection <= found.band[1]) == trusted


def test_the_verdict_sees_p_values_that_are_not_uniform() -> None:
    """5 % of rejections, but z of two values only."""
    z = np.where(np.arange(2000) < 100, 2.5, 0.1)
    assert not validate(z).trusted
    assert validate(z).rejection == 0.05


def test_a_metric_that_does_not_vary() -> None:
    z, _, _ = split_statistics(split_sums(KEYS, np.zeros((N, 1)), 300, 1))
    assert np.isnan(z).all()
    with pytest.raises(StatisticError, match="Only 0"):
        validate(z[:, 0])


# re-randomisation ---------------------------------------------------------------------------------------------------


def arms(seed: int, n: int = 200) -> tuple[Moments, Moments]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3)) @ [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 100]]
    inside = rng.random(n) < 0.4
    return tuple(Moments.from_rows(["a", "b", "c"], rows[part]) for part in (inside, ~inside))  # type: ignore[return-value]


def test_distance_is_chi_squared() -> None:
    found = [mahalanobis(*arms(seed)) for seed in range(500)]
    assert stats.kstest(found, stats.chi2(3).cdf).pvalue > 1e-3
    assert np.mean(np.array(found) < acceptance(3, 0.1)) == pytest.approx(0.1, abs=0.055)


def test_distance_is_free_of_units_and_of_repeats() -> None:
    t, c = arms(1)
    matrix = np.array([[3.0, 0, 0], [1, 2, 0], [0, 0, 1e-6], [3, 0, 0], [0, 0, 0]])
    names = ["p", "q", "r", "s", "u"]
    assert mahalanobis(t.image(matrix, names), c.image(matrix, names)) == pytest.approx(mahalanobis(t, c), rel=1e-6)


def test_distance_of_nothing() -> None:
    t = arms(1)[0]
    assert math.isnan(mahalanobis(t, Moments.empty(t.names)))
    assert math.isnan(mahalanobis(Moments.constant(["a"], 5, 1.0), Moments.constant(["a"], 5, 1.0)))


def test_the_first_accepted_salt() -> None:
    limit = acceptance(3, 0.01)
    assert rerandomise([9.0, limit * 0.9, limit * 0.1], 3) == 1
    with pytest.raises(StatisticError, match="2 salts"):
        rerandomise([9.0, math.nan], 3)


def test_imbalance_of_two_arms_is_the_distance_of_their_means() -> None:
    t, c = arms(1)
    found, dof = imbalance(np.array([[t.n, c.n]]), np.stack([t.mean, c.mean])[None], t + c)
    assert found[0] == pytest.approx(mahalanobis(t, c), rel=1e-10)
    assert dof == 3


def test_imbalance_of_three_arms_is_chi_squared() -> None:
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(300, 2)) @ [[1, 0.5], [0, 10]]
    chosen = rng.choice(3, (500, 300), p=[0.5, 0.3, 0.2])
    n = np.stack([(chosen == a).sum(axis=1) for a in range(3)], axis=1)
    means = np.stack([(chosen == a) @ rows for a in range(3)], axis=1) / n[..., None]
    found, dof = imbalance(n, means, Moments.from_rows(["a", "b"], rows))
    assert dof == 4
    assert stats.kstest(found, stats.chi2(4).cdf).pvalue > 1e-3


def test_imbalance_of_nothing() -> None:
    whole = Moments.from_rows(["a", "b", "c"], np.column_stack([np.arange(5.0), 2 * np.arange(5.0), np.ones(5)]))
    found, dof = imbalance(np.array([[2, 3], [5, 0]]), np.ones((2, 2, 3)), whole)
    assert dof == 1
    assert math.isnan(found[1])
    assert not math.isnan(found[0])
    assert imbalance(np.ones((1, 2)), np.ones((1, 2, 1)), Moments.constant(["a"], 5, 1.0))[1] == 0
