"""Confidence sequences: they agree with their p-values, hold at every look, and are narrowest where planned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from causal_spark.errors import ConfigError
from causal_spark.solve.always_valid import always_valid, mixing_variance

quick = settings(max_examples=60, deadline=None, derandomize=True)
SIDES = ("two-sided", "greater", "less")


@quick
@given(
    d=st.floats(-3, 3), error=st.floats(0.01, 3), tau=st.floats(1e-4, 10), alpha=st.floats(0.001, 0.3),
    side=st.sampled_from(SIDES),
)  # fmt: skip
def test_interval_excludes_0_iff_p_below_alpha(d, error, tau, alpha, side) -> None:  # type: ignore[no-untyped-def]
    test = always_valid(d, error, tau, alpha, side)
    if abs(test.p_value - alpha) > 1e-9:
        assert (test.low > 0 or test.high < 0) == (test.p_value < alpha)


@pytest.mark.parametrize("side", SIDES)
def test_e_value_is_the_mixture(side: str) -> None:
    """∫ φ(d; θ, V)/φ(d; 0, V) dπ(θ) by quadrature, π the (half) normal with variance τ."""
    d, error, tau = 0.7, 0.5, 0.3
    low, high = {"two-sided": (-8.0, 8.0), "greater": (0.0, 8.0), "less": (-8.0, 0.0)}[side]
    half = 1.0 if side == "two-sided" else 2.0

    def mixture(theta: float) -> float:
        ratio = stats.norm.pdf(d, theta, error) / stats.norm.pdf(d, 0, error)
        return float(ratio * half * stats.norm.pdf(theta, 0, math.sqrt(tau)))

    expected, _ = integrate.quad(mixture, low, high, epsabs=1e-13)
    ours = always_valid(d, error, tau, 0.05, side)  # type: ignore[arg-type]
    assert ours.e_value == pytest.approx(expected, rel=1e-9)
    assert ours.p_value == pytest.approx(min(1.0, 1 / expected), rel=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_size_over_a_hundred_looks(side: str) -> None:
    """Type I error over all looks stays below alpha (Ville); an ordinary test passes 30 %."""
    rng = np.random.default_rng(8)
    n = np.arange(1, 101) * 50.0
    path = np.cumsum(rng.normal(size=(2000, 100)) * math.sqrt(50), axis=1) / n
    tau = mixing_variance(1.0, 1.0, 2500, 0.05, 2 if side == "two-sided" else 1)
    errors = 1 / np.sqrt(n)
    ends = [always_valid(0.0, e, tau, 0.05, side) for e in errors]  # type: ignore[arg-type]
    low, high = np.array([t.low for t in ends]), np.array([t.high for t in ends])
    outside = ((path < low) | (path > high)).any(axis=1).mean()
    assert 0.005 < outside < 0.05
    assert (np.abs(path) > 1.96 * errors).any(axis=1).mean() > 0.3


def test_one_sided_is_narrower_and_open() -> None:
    two, one = (always_valid(0.3, 0.1, 0.01, 0.05, side) for side in ("two-sided", "greater"))  # type: ignore[arg-type]
    assert two.low < one.low < 0.3
    assert one.high == math.inf


def test_tau_is_nearly_the_narrowest_at_the_planned_units() -> None:
    """The formula is an approximation of the best τ; no other is narrower there by more than 0.1 %."""
    v = 1 / 5000

    def half(tau: float) -> float:
        return always_valid(0.0, math.sqrt(v), tau).high

    chosen = mixing_variance(v, 5000, 5000)
    best = min(half(chosen * factor) for factor in np.linspace(0.2, 5, 400))
    assert half(chosen) == pytest.approx(best, rel=1e-3)
    assert half(chosen * 0.2) > 1.02 * best


def test_one_sided_mixing_spends_alpha_on_one_side() -> None:
    assert mixing_variance(2.0, 10, 50, 0.05, sides=1) == mixing_variance(2.0, 10, 50, 0.10)
    assert mixing_variance(2.0, 10, 50, 0.7, sides=1) == 0.0


def test_scale_is_free() -> None:
    a, b = always_valid(0.3, 0.1, 0.02), always_valid(300.0, 100.0, 0.02e6)
    assert (b.p_value, b.low, b.high) == pytest.approx((a.p_value, a.low * 1000, a.high * 1000), rel=1e-12)


def test_far_effects_do_not_overflow() -> None:
    test = always_valid(1000.0, 0.1, 1.0)
    assert math.isfinite(test.e_value)
    assert 0 <= test.p_value < 1e-300


@pytest.mark.parametrize("error", [0.0, math.nan, math.inf])
def test_nothing_to_test(error: float) -> None:
    test = always_valid(1.0, error, 0.1)
    assert all(math.isnan(x) for x in (test.e_value, test.p_value, test.low, test.high))


def test_planned_units_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        mixing_variance(1.0, 100, 0)
