"""What the arm of the period before leaves over in a switchback: against regression, by simulation, by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from causal_spark.solve.carryover import carry_over
from causal_spark.solve.means import Form, evaluate, welch_dof
from causal_spark.statistics import Moments

FORM = Form("total", "size")
NAMES = ("total", "size")


def grouped(total: np.ndarray, size: np.ndarray, now: np.ndarray, before: np.ndarray) -> dict[tuple[str, str], Moments]:
    """Moments of cells by whether they, and the cells before them, have the treatment."""
    rows = np.column_stack([total, size])
    return {
        (a, b): Moments.from_rows(NAMES, rows[(now == (a == "t")) & (before == (b == "t"))])
        for a, b in product("tc", "tc")
    }


def switched(rng: np.random.Generator, lag: float, effect: float = 0.5, cells: int = 120):
    """Cells of one region after another, each arm drawn by lot; a cell is moved by its own arm and the one before."""
    arm = rng.integers(0, 2, cells + 1)
    size = rng.integers(10, 41, cells)
    mean = 5 + effect * arm[1:] + lag * arm[:-1] + rng.normal(0, 0.4, cells)
    return grouped(size * mean, size, arm[1:] == 1, arm[:-1] == 1)


def test_the_lag_is_that_of_a_regression_on_both_arms() -> None:
    """Cells of one size: least squares on effect-coded arms and their product, with HC2 errors, is that contrast."""
    rng = np.random.default_rng(1)
    now, before = rng.integers(0, 2, (2, 90))
    mean = 3 + now + 0.4 * before + rng.normal(size=90) * (1 + now)
    found = carry_over(grouped(7 * mean, np.full(90, 7.0), now == 1, before == 1), "t", "c", FORM, 0.1)
    a, b = now - 0.5, before - 0.5
    fit = sm.OLS(mean, np.column_stack([np.ones(90), a, b, a * b])).fit(cov_type="HC2")
    assert found.lag.estimate == pytest.approx(fit.params[2], rel=1e-9)
    assert found.lag.std_error == pytest.approx(fit.bse[2], rel=1e-9)
    assert found.effect.estimate == pytest.approx(mean[now == 1].mean() - mean[now == 0].mean(), rel=1e-9)
    assert found.cells == 90
    assert (found.lag.low, found.lag.high) == pytest.approx(
        [found.lag.estimate + s * found.lag.std_error * quantile(found.lag.dof, 0.1) for s in (-1, 1)], rel=1e-9
    )


def quantile(dof: float, alpha: float) -> float:
    return float(stats.t.isf(alpha / 2, dof))


def test_size_and_power_over_cells() -> None:
    """400 experiments: 5 % ± four standard errors of 1.1 % reject without a carry-over; with one most do, and the
    intervals hold it."""
    rng = np.random.default_rng(2)
    quiet = [carry_over(switched(rng, 0.0), "t", "c", FORM).lag.p_value for _ in range(400)]
    assert 0.006 < np.mean(np.array(quiet) < 0.05) < 0.094
    loud = [carry_over(switched(rng, 0.3), "t", "c", FORM).lag for _ in range(400)]
    assert 0.906 < np.mean([test.low <= 0.3 <= test.high for test in loud]) < 0.994
    assert np.mean([test.p_value < 0.05 for test in loud]) > 0.9


def test_effect_and_lag_are_what_a_kept_arm_would_do() -> None:
    """With effects that add up and equal groups, effect + lag is the difference of cells whose arm did not change."""
    now, before = (np.array(values) for values in zip(*list(product((1, 0), (1, 0))) * 5, strict=True))
    mean = 2 + now + 0.25 * before
    found = carry_over(grouped(mean + 1e-9 * np.arange(20), np.ones(20), now == 1, before == 1), "t", "c", FORM)
    assert (found.effect.estimate, found.lag.estimate) == pytest.approx((1.0, 0.25), abs=1e-7)


def test_degrees_of_freedom_of_four_groups() -> None:
    """Satterthwaite's are Welch's when two of the groups have no spread, and lie between the least and the sum."""
    rng = np.random.default_rng(3)
    cells = switched(rng, 0.0)
    for b in "tc":
        cells["c", b] = Moments.from_rows(NAMES, np.tile([6.0, 2.0], (9, 1)))
    found = carry_over(cells, "t", "c", FORM).lag
    one, two = (evaluate(cells["t", b], [FORM]) for b in "tc")
    assert found.dof == pytest.approx(welch_dof(one.vcov[0, 0], one.n, two.vcov[0, 0], two.n), rel=1e-9)
    assert min(one.n, two.n) - 1 <= found.dof <= one.n + two.n - 2


@pytest.mark.parametrize("missing", [("t", "t"), ("c", "t")])
def test_strict_turns_cannot_tell_and_say_so(missing: tuple[str, str]) -> None:
    cells = switched(np.random.default_rng(4), 0.0)
    full = carry_over(cells, "t", "c", FORM)
    del cells[missing]
    found = carry_over(cells, "t", "c", FORM)
    assert math.isnan(found.lag.estimate) and math.isnan(found.lag.p_value)
    assert math.isfinite(found.effect.p_value)
    assert found.cells < full.cells
    assert math.isnan(carry_over({}, "t", "c", FORM).effect.estimate)


def test_no_spread_has_no_p_value() -> None:
    cells = {(a, b): Moments.from_rows(NAMES, np.tile([6.0, 2.0], (9, 1))) for a, b in product("tc", "tc")}
    found = carry_over(cells, "t", "c", FORM)
    assert found.lag.estimate == 0
    assert math.isnan(found.lag.p_value)
