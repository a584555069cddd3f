"""Response curves and allocation: closed forms, recovery of known curves, the conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize

from causal_spark.errors import StatisticError
from causal_spark.solve import allocation, curves
from causal_spark.solve.curves import Curve

ROOTS = [Curve("power", (a, 0.5)) for a in (10.0, 20.0, 30.0)]


def test_square_roots_in_closed_form() -> None:
    found = allocation.allocate(ROOTS, 1400, [0, 0, 0], [np.inf] * 3)
    assert found.spend == pytest.approx([100, 400, 900], rel=1e-12)
    assert found.binding == ("", "", "")
    held = allocation.allocate(ROOTS, 1400, [0, 0, 0], [np.inf, np.inf, 700])
    assert held.spend == pytest.approx([140, 560, 700], rel=1e-12)
    assert held.binding == ("", "", "upper")


def test_straight_channels_take_what_is_left() -> None:
    """2s beside 20√s: the root until its slope is 2, at 25, and all else on the line."""
    pair = [Curve("power", (2.0, 1.0)), Curve("power", (20.0, 0.5))]
    found = allocation.allocate(pair, 500, [0, 0], [1000, 1000])
    assert found.spend == pytest.approx([475, 25], rel=1e-9)  # the price is found to the last bits
    lines = allocation.allocate([pair[0], pair[0]], 500, [0, 0], [1000, 1000])
    assert lines.spend.sum() == pytest.approx(500, rel=1e-12)
    assert allocation.on_grid([c.value for c in pair], 500, [0, 0], [1000, 1000], 5) == pytest.approx([475, 25])


def test_slopes_without_end_and_steps() -> None:
    """Below 1 a hill is infinitely steep at 0; of a large one the powers overflow beside the step."""
    steep, step = Curve("hill", (100.0, 50.0, 0.8)), Curve("hill", (100.0, 14.0, 1000.0))
    assert steep.where(1e26, 0.0, 100.0) == 0
    assert step.slope([0.0, 30.0]).tolist() == [0.0, 0.0]
    assert step.slope(14.0) == pytest.approx(100 * 1000 / (4 * 14), rel=1e-12)
    mean = allocation.to_average([steep], 0.8, [0], [100])
    assert allocation.outcome([steep], mean.spend) == pytest.approx(0.8 * mean.spend.sum(), rel=1e-9)
    assert mean.spend[0] > 1


def test_michaelis_menten_in_closed_form() -> None:
    pair = [Curve("michaelis_menten", (100.0, 50.0)), Curve("michaelis_menten", (80.0, 20.0))]
    found = allocation.allocate(pair, 130, [0, 0], [1e9, 1e9])
    assert found.spend == pytest.approx([77.739580897283, 52.260419102717], rel=1e-13)
    assert found.marginal == pytest.approx([0.306421356237310] * 2, rel=1e-13)
    assert found.price == pytest.approx(0.306421356237310, rel=1e-12)


def test_hill_and_carry_over() -> None:
    assert Curve("hill", (1.0, 2.0, 2.0)).value([0, 1, 2, 4]) == pytest.approx([0, 0.2, 0.5, 0.8], rel=1e-14)
    assert curves.carried([100, 0, 0, 0], 0.5) == pytest.approx([100, 50, 25, 12.5], rel=1e-15)


@pytest.mark.parametrize(
    "curve",
    [Curve("log", (5.0, 3.0), 2.0), Curve("power", (5.0, 0.3), 1.5), Curve("michaelis_menten", (9.0, 4.0), 1.2),
     Curve("hill", (9.0, 4.0, 2.5), 1.3), Curve("hill", (9.0, 4.0, 0.7))],
)  # fmt: skip
def test_slopes_are_derivatives_and_where_is_their_inverse(curve: Curve) -> None:
    at = np.array([0.5, 2.0, 7.0, 30.0])
    step = 1e-5 * at
    numeric = (curve.value(at + step) - curve.value(at - step)) / (2 * step)
    assert curve.slope(at) == pytest.approx(numeric, rel=1e-7)  # a difference quotient
    for s in at[at > curve.bend]:
        assert curve.where(float(curve.slope(s)), curve.bend, 1e6) == pytest.approx(s, rel=1e-10)
    if curve.bend:
        around = curve.slope(curve.bend * np.array([0.9, 1.0, 1.1]))
        assert around[1] == around.max()


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10_000))
@example(2, 380)  # the best plan leaves an S-shaped channel before its bend
def test_no_shift_of_money_gains(n: int, seed: int) -> None:
    """At the optimum a little money moved between any two channels loses, wherever the bounds allow it."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["log", "michaelis_menten", "hill", "power"], n)
    made = [
        Curve(k, (rng.uniform(1, 99), rng.uniform(1, 50) if k != "power" else rng.uniform(0.2, 0.8))
              + ((rng.uniform(0.5, 3),) if k == "hill" else ()))
        for k in kinds
    ]  # fmt: skip
    low, high = rng.uniform(0, 3, n), rng.uniform(30, 90, n)
    budget = low.sum() + rng.uniform(0.3, 0.9) * (high - low).sum()
    found = allocation.allocate(made, budget, low, high)
    assert found.spend.sum() == pytest.approx(budget, rel=1e-9)
    best = allocation.outcome(made, found.spend)
    for i in range(n):
        for j in range(n):
            moved = found.spend.copy()
            moved[i] -= 0.5
            moved[j] += 0.5
            if i != j and moved[i] >= low[i] and moved[j] <= high[j]:
                assert allocation.outcome(made, moved) <= best * (1 + 1e-9)


def test_an_s_shaped_channel_is_left_alone_or_carried_past_its_bend() -> None:
    pair = [Curve("hill", (100.0, 50.0, 4.0)), Curve("log", (20.0, 10.0))]
    little = allocation.allocate(pair, 20, [0, 0], [500, 500])
    much = allocation.allocate(pair, 120, [0, 0], [500, 500])
    assert little.spend == pytest.approx([0, 20])
    assert much.spend[0] > pair[0].bend
    grid = np.linspace(0, 120, 120_001)
    every = pair[0].value(grid) + pair[1].value(120 - grid)
    assert allocation.outcome(pair, much.spend) >= every.max() - 1e-6


def test_targets() -> None:
    at = allocation.to_marginal(ROOTS, 0.5, [0, 0, 0], [1e9] * 3)
    assert at.spend == pytest.approx([100, 400, 900], rel=1e-12)
    # of a√s the average is twice the marginal
    mean = allocation.to_average(ROOTS, 1.0, [0, 0, 0], [1e9] * 3)
    assert mean.spend == pytest.approx([100, 400, 900], rel=1e-9)
    with pytest.raises(StatisticError):
        allocation.to_average([Curve("log", (1.0, 10.0))], 5.0, [1], [100])


def test_bounds_that_leave_no_room_are_refused() -> None:
    with pytest.raises(StatisticError, match="outside"):
        allocation.allocate(ROOTS, 10, [5, 5, 5], [9, 9, 9])


def test_steps_agree_with_the_exact_plan_and_keep_to_the_grid() -> None:
    found = allocation.on_grid([c.value for c in ROOTS], 1400, [0, 0, 0], [1e9] * 3, 10)
    assert found == pytest.approx([100, 400, 900])
    values = [c.value for c in ROOTS]
    assert allocation.on_grid_to_marginal(values, 0.5, [0, 0, 0], [1e4] * 3, 10) == pytest.approx([100, 400, 900])
    # of a√s the average is twice the marginal; a little less than 1, since the sum of 140 steps is not exact
    assert allocation.on_grid_to_average(values, 0.9999, [0, 0, 0], [1e4] * 3, 10) == pytest.approx([100, 400, 900])
    with pytest.raises(StatisticError, match="each unit"):
        allocation.on_grid_to_average(values, 50.0, [10, 10, 10], [1e4] * 3, 10)
    jump = allocation.on_grid([Curve("hill", (100.0, 50.0, 4.0)).value, Curve("log", (20.0, 10.0)).value], 120,
                              [0, 0], [500, 500], 5)  # fmt: skip
    assert jump[0] > 50
    assert (np.mod(jump, 5) == 0).all()


@pytest.mark.parametrize(
    ("truth", "carry"),
    [(Curve("log", (50.0, 20.0)), 0.0), (Curve("power", (5.0, 0.4)), 0.0),
     (Curve("michaelis_menten", (200.0, 60.0)), 0.5), (Curve("hill", (150.0, 50.0, 2.5)), 0.0)],
)  # fmt: skip
def test_a_curve_without_noise_is_found_again(truth: Curve, carry: float) -> None:
    spend = np.random.default_rng(1).uniform(0, 150, 40)
    y = curves.response(truth.family, curves.carried(spend, carry), truth.parameters)
    found = curves.fit(spend, y, truth.family, carries=carry > 0)
    assert found is not None
    assert found.curve.parameters == pytest.approx(truth.parameters, rel=1e-5)  # the flat valley of least squares
    assert found.carry == pytest.approx(carry, abs=1e-5)
    steady = curves.carried(np.full(400, 40.0), carry)[-1:]  # what steady spend adds up to
    assert found.curve.value([40.0]) == pytest.approx(curves.response(truth.family, steady, truth.parameters), rel=1e-4)


def test_standard_errors_are_those_of_least_squares() -> None:
    """The delta method on our scale equals scipy's covariance on the natural one."""
    rng = np.random.default_rng(2)
    spend = rng.uniform(0, 100, 60)
    y = 80 * spend / (30 + spend) + rng.normal(0, 2, 60)
    found = curves.fit(spend, y, "michaelis_menten")
    assert found is not None
    best, vcov = optimize.curve_fit(lambda s, a, b: a * s / (b + s), spend, y, p0=[80, 30])
    assert found.curve.parameters == pytest.approx(best, rel=1e-6)
    for i in range(2):
        error = found.interval(lambda curve, i=i: curve.parameters[i])
        assert error == pytest.approx(np.sqrt(vcov[i, i]), rel=1e-3)  # a numerical Jacobian on both sides


def test_an_s_shape_needs_evidence() -> None:
    rng = np.random.default_rng(3)
    spend = rng.uniform(0, 150, 80)
    shaped = 150 / (1 + (50 / spend) ** 3) + rng.normal(0, 3, 80)
    concave = 150 * spend / (50 + spend) + rng.normal(0, 3, 80)
    for y, bent in ((shaped, True), (concave, False)):
        fits = [f for f in (curves.fit(spend, y, family) for family in curves.FAMILIES) if f]
        chosen = curves.best(fits)
        assert chosen is not None
        assert (chosen.curve.bend > 0) == bent


def test_what_cannot_be_fitted_is_none() -> None:
    assert curves.fit([1, 2, 3], [1, 2, 3], "hill") is None
    assert curves.fit(np.ones(20), np.arange(20), "log") is None
    assert curves.fit(np.arange(20), np.zeros(20), "log") is None
