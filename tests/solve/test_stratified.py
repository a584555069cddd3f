"""Effects within strata: by hand, from rows, and what cannot be estimated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_spark.solve.stratified import Cells, residual_bias, solve

ESTIMANDS = ("ATT", "ATC", "ATE")


def rows(n: int = 300, strata: int = 6, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stratum, arm and two columns of each row; treated are rare in the first strata."""
    rng = np.random.default_rng(seed)
    stratum = rng.integers(0, strata, n)
    arm = (rng.random(n) < (stratum + 1) / (strata + 2)).astype(int)
    return stratum, arm, np.column_stack([stratum + arm + rng.normal(size=n), stratum + rng.normal(size=n)])


def cells(stratum: np.ndarray, arm: np.ndarray, x: np.ndarray) -> Cells:
    labels = np.unique(stratum)
    shape = len(labels), 2, x.shape[1]
    n, mean, variance = np.zeros(shape[:2]), np.zeros(shape), np.zeros(shape)
    for i, label in enumerate(labels):
        for a in (0, 1):
            own = x[(stratum == label) & (arm == a)]
            n[i, a] = len(own)
            mean[i, a] = own.mean(axis=0) if len(own) else 0.0
            variance[i, a] = own.var(axis=0, ddof=1) if len(own) > 1 else 0.0
    return Cells(tuple(map(str, labels)), n, mean, variance)


def by_hand(stratum: np.ndarray, arm: np.ndarray, x: np.ndarray, estimand: str) -> np.ndarray:
    """Weights that make the strata of both arms as large as the estimand's population; 0 where one is empty."""
    w = np.zeros(len(x))
    for label in np.unique(stratum):
        inside = stratum == label
        n = np.bincount(arm[inside], minlength=2)
        if n.all():
            size = {"ATT": n[1], "ATC": n[0], "ATE": n.sum()}[estimand]
            w[inside] = size / n[arm[inside]]
    return w


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_against_weighted_rows(estimand) -> None:  # type: ignore[no-untyped-def]
    """Effect, means, variances and effective sizes are those of the rows' weights; the error is a sum over strata."""
    stratum, arm, x = rows()
    found = solve(cells(stratum, arm, x), 1, estimand)
    w = by_hand(stratum, arm, x, estimand)
    mean = [np.average(x[arm == a], axis=0, weights=w[arm == a]) for a in (0, 1)]
    assert found.effect.estimate == pytest.approx([mean[1][0] - mean[0][0]], rel=1e-12)
    for a in (0, 1):
        own, y = w[arm == a], x[arm == a, 1]
        assert found.means[a] == pytest.approx([mean[a][1]], rel=1e-12)
        assert found.variances[a] == pytest.approx([np.average((y - mean[a][1]) ** 2, weights=own)], rel=1e-10)
        assert found.ess[a] == pytest.approx(own.sum() ** 2 / (own @ own), rel=1e-12)
    variance, gap = 0.0, 0.0
    for label in np.unique(stratum):
        inside = stratum == label
        share = w[inside & (arm == 1)].sum() / w[arm == 1].sum()
        parts = [x[inside & (arm == a)] for a in (0, 1)]
        variance += share**2 * sum(part[:, 0].var(ddof=1) / len(part) for part in parts)
        gap += share * abs(parts[1][:, 1].mean() - parts[0][:, 1].mean())
    assert found.effect.std_error == pytest.approx([math.sqrt(variance)], rel=1e-12)
    assert found.apart[1] == pytest.approx(gap, rel=1e-12)


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_one_stratum_is_welch(estimand) -> None:  # type: ignore[no-untyped-def]
    _, arm, x = rows()
    found = solve(cells(np.zeros(300, int), arm, x), 2, estimand).effect
    t, c = x[arm == 1], x[arm == 0]
    assert found.estimate == pytest.approx(t.mean(axis=0) - c.mean(axis=0), rel=1e-12)
    expected = np.sqrt(t.var(axis=0, ddof=1) / len(t) + c.var(axis=0, ddof=1) / len(c))
    assert found.std_error == pytest.approx(expected, rel=1e-12)


def test_strata_of_one_arm_are_left_out() -> None:
    """They change the counts of all rows and nothing else."""
    stratum, arm, x = rows()
    more = np.r_[stratum, [90, 90, 91]], np.r_[arm, [1, 1, 0]], np.vstack([x, np.full((3, 2), 1e6)])
    ours, plain = solve(cells(*more), 1, "ATT"), solve(cells(stratum, arm, x), 1, "ATT")
    assert (ours.effect.estimate, ours.effect.std_error) == (plain.effect.estimate, plain.effect.std_error)
    assert (ours.effect.strata, ours.effect.all_strata) == (6, 8)
    np.testing.assert_array_equal(ours.effect.used, plain.effect.rows)
    np.testing.assert_array_equal(ours.effect.rows, plain.effect.rows + np.array([1.0, 2.0]))


def test_one_row_has_the_pooled_variance() -> None:
    x = np.array([[0.0], [2.0], [5.0], [9.0], [10.0], [11.0], [3.0]])
    stratum, arm = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 0, 0])
    found = solve(cells(stratum, arm, x), 1, "ATT").effect
    pooled = 0.5  # the treated: one spare row, variance of 9 and 10
    variance = (1 / 3) ** 2 * (pooled + 2 / 2) + (2 / 3) ** 2 * (0.5 / 2 + 32 / 2)
    assert found.std_error == pytest.approx([math.sqrt(variance)], rel=1e-12)


def test_no_spare_row_no_error() -> None:
    """Every treated row alone in its stratum: there is no variance to take, and no error of zero either."""
    stratum, arm = np.repeat(np.arange(4), 3), np.tile([1, 0, 0], 4)
    x = np.random.default_rng(2).normal(size=(12, 2))
    found = solve(cells(stratum, arm, x), 1, "ATT")
    assert np.isnan(found.effect.std_error).all()
    assert np.isfinite(found.effect.estimate).all()
    assert np.isfinite(found.variances).all()


def test_nothing_in_common() -> None:
    with pytest.raises(ValueError, match="both arms"):
        solve(cells(np.array([0, 0, 1]), np.array([1, 1, 0]), np.ones((3, 1))), 1, "ATE")


def test_bound_of_what_is_left_is_the_bias_of_a_line() -> None:
    """The outcome is a line in the score: all treated lie above the controls of their stratum, so the bound is met."""
    stratum = np.repeat(np.arange(5), 4)
    arm = np.tile([0, 0, 1, 1], 5)
    score = stratum + np.tile([0.1, 0.2, 0.5, 0.6], 5)
    found_cells = cells(stratum, arm, np.column_stack([-2 * score, score]))
    found = solve(found_cells, 1, "ATT")
    bound = residual_bias(found_cells, 0, 1, float(found.apart[1]))
    assert found.effect.estimate == pytest.approx([-0.8], rel=1e-12)
    assert bound == pytest.approx(0.8, rel=1e-12)


def test_bound_of_controls_of_one_score_is_unknown() -> None:
    flat = cells(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([[1.0, 3], [2, 4], [5, 3], [6, 7]]))
    assert math.isnan(residual_bias(flat, 0, 1, 0.5))
