"""Lin's regression adjustment against statsmodels' interacted regression."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

from causal_spark.solve.lin import fit_arms, leverage_by_fit, leverage_sums, robust
from causal_spark.solve.means import difference
from causal_spark.statistics import Moments


def draw(n_t: int = 40, n_c: int = 70, k: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    arms = {}
    for name, n, slope in (("t", n_t, 1.5), ("c", n_c, 0.5)):
        x = rng.gamma(2, size=(n, k)) * [1, 100, 1e-3][:k]
        y = x @ (slope / np.array([1, 100, 1e-3][:k])) + rng.normal(size=n) * (1 + x[:, 0])
        arms[name] = np.column_stack([y, x])
    return arms


def fits(arms: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
    names = ["y", *(f"x{i}" for i in range(next(iter(arms.values())).shape[1] - 1))]
    return fit_arms({name: Moments.from_rows(names, rows) for name, rows in arms.items()})


def interacted(arms: dict[str, np.ndarray], kind: str) -> tuple[float, float]:
    rows = np.concatenate([arms["t"], arms["c"]])
    treated = np.repeat([1.0, 0.0], [len(arms["t"]), len(arms["c"])])
    x = rows[:, 1:] - rows[:, 1:].mean(axis=0)
    design = np.column_stack([np.ones(len(rows)), treated, x, x * treated[:, None]])
    found = sm.OLS(rows[:, 0], design / abs(design).max(axis=0)).fit(cov_type=kind)
    return float(found.params[1]), float(found.bse[1])


@pytest.mark.parametrize("kind", ["HC0", "HC2", "HC3"])
@pytest.mark.parametrize("k", [1, 3])
def test_parity_with_statsmodels(kind: str, k: int) -> None:
    arms = draw(k=k)
    fit = fits(arms)
    t, c = (robust(fit[a], leverage_sums(fit[a], arms[a][:, 0], arms[a][:, 1:]), kind) for a in "tc")  # type: ignore
    test = difference(t, c)
    assert (test.estimate, test.std_error) == pytest.approx(interacted(arms, kind), rel=1e-9)


def test_leverage_sums_add_over_blocks() -> None:
    arms = draw()
    fit, rows = fits(arms)["t"], arms["t"]
    whole = leverage_sums(fit, rows[:, 0], rows[:, 1:])
    parts = sum(leverage_sums(fit, part[:, 0], part[:, 1:]) for part in (rows[:0], rows[:13], rows[13:]))
    np.testing.assert_allclose(parts.vector, whole.vector, rtol=1e-12)  # type: ignore[union-attr]


def test_arms_of_several_segments_at_once() -> None:
    """Rows in any order, each with the place of its fit; a fit without rows has nothing."""
    arms = draw()
    fit = fits(arms)
    rows, of = np.concatenate([arms["t"], arms["c"]]), np.repeat([0, 2], [len(arms["t"]), len(arms["c"])])
    order = np.random.default_rng(1).permutation(len(rows))
    found = leverage_by_fit([fit["t"], fit["t"], fit["c"]], of[order], rows[order, 0], rows[order, 1:])
    for place, name in ((0, "t"), (2, "c")):
        wanted = leverage_sums(fit[name], arms[name][:, 0], arms[name][:, 1:])
        assert [found[kind][place] for kind in sorted(wanted.values)] == pytest.approx(wanted.vector, rel=1e-12)
    assert found["HC2"][1] == 0.0


def test_moment_error_is_that_of_a_regression_in_each_arm() -> None:
    """The prediction at the centre, from statsmodels' OLS of one arm."""
    arms = draw()
    fit = fits(arms)
    centre = np.concatenate([arms["t"], arms["c"]])[:, 1:].mean(axis=0)
    for name, rows in arms.items():
        ols = sm.OLS(
            rows[:, 0], np.column_stack([np.ones(len(rows)), (rows[:, 1:] - centre) / rows[:, 1:].std(0)])
        ).fit()
        assert (fit[name].value, fit[name].std_error) == pytest.approx((ols.params[0], ols.bse[0]), rel=1e-9)


def test_without_covariates_hc2_is_welch() -> None:
    arms = {name: rows[:, :1] for name, rows in draw().items()}
    fit = fits(arms)
    for name, rows in arms.items():
        hc2 = robust(fit[name], leverage_sums(fit[name], rows[:, 0], rows[:, 1:])).vcov[0, 0]
        assert hc2 == pytest.approx(rows[:, 0].var(ddof=1) / len(rows), rel=1e-12)
        assert fit[name].std_error ** 2 == pytest.approx(hc2, rel=1e-12)


def test_repeated_and_constant_covariates_change_nothing() -> None:
    arms = draw(k=1)
    doubled = {name: np.column_stack([rows, rows[:, 1] * 7, np.ones(len(rows))]) for name, rows in arms.items()}
    plain, more = fits(arms), fits(doubled)
    for name in arms:
        assert (more[name].value, more[name].std_error) == pytest.approx((plain[name].value, plain[name].std_error))


def test_units_of_measure_change_nothing() -> None:
    """A covariate in billionths of a cent costs a degree of freedom as one in euros does."""
    arms = draw(n_t=12, k=2)
    scaled = {name: rows * [1, 1, 1e11] for name, rows in arms.items()}
    plain, more = fits(arms), fits(scaled)
    for name in arms:
        assert more[name].std_error == pytest.approx(plain[name].std_error, rel=1e-9)


def test_too_few_rows() -> None:
    arms = {name: rows[:4] for name, rows in draw().items()}
    assert math.isnan(fits(arms)["t"].std_error)
    fit = fits(arms)["t"]
    assert math.isnan(robust(fit, leverage_sums(fit, arms["t"][:, 0], arms["t"][:, 1:]), "HC3").vcov[0, 0])
