"""Posteriors: conjugate formulas by quadrature and simulation, and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from causal_spark.errors import ConfigError
from causal_spark.solve.bayes import Prior, beta_binomial, normal_posterior, power_posterior


def test_normal_posterior_by_quadrature() -> None:
    prior, d, error = Prior(0.1, 0.3), 0.5, 0.4

    def density(theta: float) -> float:
        return float(stats.norm.pdf(d, theta, error) * stats.norm.pdf(theta, prior.mean, prior.std_dev))

    total = integrate.quad(density, -3, 3, epsabs=1e-12)[0]

    def expected(f):  # type: ignore[no-untyped-def]
        return integrate.quad(lambda x: f(x) * density(x), -3, 3, points=[0.0], epsabs=1e-12)[0] / total

    ours = normal_posterior(d, error, prior)
    mean = expected(lambda x: x)
    assert ours.mean == pytest.approx(mean, rel=1e-8)
    assert ours.std_dev**2 == pytest.approx(expected(lambda x: (x - mean) ** 2), rel=1e-7)
    assert ours.p_win == pytest.approx(expected(lambda x: float(x > 0)), rel=1e-7)
    assert ours.loss_treatment == pytest.approx(expected(lambda x: max(0.0, -x)), rel=1e-7)
    assert ours.loss_control == pytest.approx(expected(lambda x: max(0.0, x)), rel=1e-7)
    assert (ours.low + ours.high) / 2 == pytest.approx(mean, rel=1e-8)


def test_flat_prior_is_the_confidence_interval() -> None:
    ours = normal_posterior(0.5, 0.4, Prior())
    assert (ours.low, ours.high) == pytest.approx((0.5 - 1.959964 * 0.4, 0.5 + 1.959964 * 0.4), rel=1e-6)
    assert ours.p_win == pytest.approx(1 - stats.norm.sf(1.25), rel=1e-12)
    almost = normal_posterior(0.5, 0.4, Prior(3.0, 1e6))
    assert (almost.mean, almost.std_dev) == pytest.approx((ours.mean, ours.std_dev), rel=1e-9)


def test_a_sharp_prior_wins() -> None:
    assert normal_posterior(0.5, 0.4, Prior(0.1, 1e-6)).mean == pytest.approx(0.1, abs=1e-10)


def test_losses_differ_by_the_mean() -> None:
    for d in (-2.0, 0.0, 0.7, 30.0):
        ours = normal_posterior(d, 0.4, Prior())
        assert ours.loss_control - ours.loss_treatment == pytest.approx(d, abs=1e-12)
        assert ours.loss_treatment >= 0


def test_nothing_to_learn_from() -> None:
    for error in (0.0, math.nan, math.inf):
        assert math.isnan(normal_posterior(1.0, error, Prior()).p_win)
    for relative in (True, False):
        assert math.isnan(normal_posterior(1.0, 1.0, Prior(1.0, 1.0, not relative).on(relative, 0.0)).p_win)
    with pytest.raises(ConfigError):
        normal_posterior(1.0, 1.0, Prior(0.0, 0.0))


def test_power_by_simulation() -> None:
    rng, prior = np.random.default_rng(1), Prior(0.05, 0.1)
    found = [normal_posterior(d, 0.05, prior) for d in rng.normal(0.1, 0.05, 4000)]
    rate = np.mean([p.low > 0 or p.high < 0 for p in found])
    assert power_posterior(0.1, 0.05, prior) == pytest.approx(rate, abs=4 * 0.5 / math.sqrt(4000))


@pytest.mark.parametrize(
    ("s_t", "n_t", "s_c", "n_c"), [(51, 100, 49, 100), (3, 10, 0, 10), (1, 1e5, 3, 1e5), (5.1e4, 1e6, 5.0e4, 1e6)]
)
def test_beta_binomial_by_simulation(s_t: float, n_t: float, s_c: float, n_c: float) -> None:
    """400,000 draws: four Monte Carlo errors of each number."""
    rng = np.random.default_rng(2)
    t, c = rng.beta(1 + s_t, 1 + n_t - s_t, 400_000), rng.beta(1 + s_c, 1 + n_c - s_c, 400_000)
    gap = t - c
    ours = beta_binomial(s_t, n_t, s_c, n_c)
    slack = 4 * gap.std() / math.sqrt(400_000)
    assert ours.p_win == pytest.approx((gap > 0).mean(), abs=4 * 0.5 / math.sqrt(400_000))
    assert ours.mean == pytest.approx(gap.mean(), abs=slack)
    assert ours.std_dev == pytest.approx(gap.std(), rel=0.01)
    assert ours.loss_treatment == pytest.approx(np.maximum(-gap, 0).mean(), abs=slack)
    assert ours.loss_control == pytest.approx(np.maximum(gap, 0).mean(), abs=slack)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(gap, [0.025, 0.975])), abs=0.02 * gap.std())


def test_equal_arms_are_even() -> None:
    ours = beta_binomial(30, 200, 30, 200)
    assert ours.p_win == pytest.approx(0.5, abs=1e-12)
    assert ours.loss_treatment == pytest.approx(ours.loss_control, rel=1e-10)
    assert ours.low == pytest.approx(-ours.high, rel=1e-8)


def test_beta_binomial_identity() -> None:
    """loss_control - loss_treatment = E[t] - E[c], exactly."""
    ours = beta_binomial(7, 90, 12, 110, (0.5, 2.0))
    assert ours.loss_control - ours.loss_treatment == pytest.approx(7.5 / 92.5 - 12.5 / 112.5, rel=1e-10)
    with pytest.raises(ConfigError):
        beta_binomial(1, 2, 1, 2, (0.0, 1.0))
