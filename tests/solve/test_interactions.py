"""Interactions of experiments against the regression with products, and heterogeneity of segments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

from causal_spark.errors import StatisticError
from causal_spark.solve.interactions import heterogeneity, interaction
from causal_spark.solve.intervals import wald
from causal_spark.solve.means import Form, Values, evaluate
from causal_spark.statistics import Moments


def draw(n: int, seed: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, n), rng.integers(0, 2, n)
    return a, b, 0.3 * a + 0.5 * b + effect * (a == 2) * b + rng.normal(size=n) * (1 + b)


def cells(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> dict[tuple[str, ...], Values]:
    return {
        ("cat"[i], "ct"[j]): evaluate(Moments.from_rows(["y"], y[(a == i) & (b == j)]), [Form("y")])
        for i in range(3)
        for j in range(2)
    }


ARMS = (("c", "a", "t"), ("c", "t"))


def test_against_the_saturated_regression() -> None:
    """HC2 of the saturated regression is the sum of s²/n of the cells: the same contrasts and the same Wald test."""
    a, b, y = draw(600, 1, 0.8)
    found = interaction(cells(a, b, y), ARMS)
    design = np.column_stack([np.ones(600), a == 1, a == 2, b, (a == 1) * b, (a == 2) * b]).astype(float)
    fit = sm.OLS(y, design).fit(cov_type="HC2", use_t=False)
    for place, arm in ((4, "a"), (5, "t")):
        test = found.contrasts[(arm, "t")]
        assert (test.estimate, test.std_error) == pytest.approx((fit.params[place], fit.bse[place]), rel=1e-9)
        assert test.p_value == pytest.approx(fit.pvalues[place], rel=1e-8)
    joint = fit.wald_test(np.eye(6)[4:], scalar=True)
    assert (found.statistic, found.p_value) == pytest.approx((joint.statistic, joint.pvalue), rel=1e-8)
    assert found.dof == 2


def test_type_one_error() -> None:
    """400 experiments without interaction; 5 % ± four standard errors of 1.1 %."""
    found = [interaction(cells(*draw(400, seed)), ARMS).p_value for seed in range(400)]
    assert 0.006 < np.mean(np.array(found) < 0.05) < 0.094


def test_three_experiments() -> None:
    """The three-way contrast of 8 cells: signs multiply."""
    value = {key: Values(np.array([float(i)]), np.array([[1.0]]), 9) for i, key in enumerate(_corners())}
    value[("t", "t", "t")] = Values(np.array([17.0]), np.array([[1.0]]), 9)  # 7 + 10
    found = interaction(value, (("c", "t"),) * 3)
    assert found.contrasts[("t", "t", "t")].estimate == pytest.approx(10.0)
    assert found.contrasts[("t", "t", "t")].std_error == pytest.approx(math.sqrt(8))


def _corners() -> list[tuple[str, ...]]:
    return [(x, y, z) for x in "ct" for y in "ct" for z in "ct"]


def test_experiments_that_share_no_units() -> None:
    parts = cells(*draw(400, 2))
    del parts[("t", "t")]
    with pytest.raises(StatisticError, match="t × t") as caught:
        interaction(parts, ARMS)
    assert caught.value.key == "no_shared_units"


def test_no_variance_gives_nan() -> None:
    parts = {key: Values(np.ones(1), np.zeros((1, 1)), 9) for key in cells(*draw(400, 2))}
    found = interaction(parts, ARMS)
    assert math.isnan(found.p_value)
    assert math.isnan(found.contrasts[("t", "t")].p_value)


def test_heterogeneity_of_segments() -> None:
    """Q of two effects is the square of their z test; segments without a test take no part."""
    pair = [wald(0.5, 0.1, 0.05), wald(0.1, 0.2, 0.05)]
    q, dof, p = heterogeneity([*pair, wald(math.nan, math.nan, 0.05)])
    z = wald(0.4, math.hypot(0.1, 0.2), 0.05)
    assert (q, dof, p) == (pytest.approx(z.statistic**2), 1, pytest.approx(z.p_value))
    assert math.isnan(heterogeneity(pair[:1])[2])
