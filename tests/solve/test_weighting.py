"""Weighting by the propensity: laws of the sums, the stacked variance, trimming, and what cannot be estimated."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.solve import logistic
from causal_spark.solve.weighting import (
    Estimand,
    common_support,
    crump,
    influence,
    slopes,
    solve,
    stabilised,
    sums,
    tilt,
    weights,
    within,
)

ESTIMANDS = get_args(Estimand)
quick = settings(max_examples=25, deadline=None, derandomize=True)
NAMES = ("constant", "a", "b")


def rows(n: int = 300, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Design (n, 3), treatment (n,), two outcomes (n, 2) with effects 1 and 1 + a."""
    draw = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), draw.normal(size=(n, 2))])
    t = (draw.random(n) < logistic.predict(x, np.array([-0.4, 0.8, 0.5]))).astype(float)
    base = x @ np.array([2.0, 1.0, -1.0]) + draw.normal(size=n)
    return x, t, np.column_stack([base + t, base**2 / 3 + t * (1 + x[:, 1])])


def jacobian(function: Callable[[np.ndarray], np.ndarray], at: np.ndarray) -> np.ndarray:
    steps = np.eye(len(at)) * 1e-5
    return np.stack([(function(at + step) - function(at - step)) / 2e-5 for step in steps], axis=-1)


def stacked_variance(psi: Callable[[np.ndarray], np.ndarray], theta: np.ndarray) -> np.ndarray:
    """Sandwich A⁻¹·B·A⁻ᵀ/n of estimating functions ``psi(theta)`` (n, k) with a numeric Jacobian."""
    at = psi(theta)
    n = len(at)
    bread = np.linalg.inv(jacobian(lambda value: psi(value).mean(axis=0), theta))
    return bread @ (at.T @ at / n) @ bread.T / n


# weights ------------------------------------------------------------------------------------------------------------


def test_weights_as_defined() -> None:
    e, t = np.array([0.2, 0.2, 0.9]), np.array([1, 0, 1])
    expected = {
        "ATE": [5, 1.25, 1 / 0.9],
        "ATT": [1, 0.25, 1],
        "ATC": [4, 1, 0.1 / 0.9],
        "ATO": [0.8, 0.2, 0.1],
    }
    for estimand, values in expected.items():
        assert weights(e, t, estimand) == pytest.approx(values, rel=1e-14)  # type: ignore[arg-type]


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_weights_tilt_both_groups_to_one_population(estimand: Estimand) -> None:
    """e·w for the treated and (1 - e)·w for the others are h(e); h' is its derivative."""
    e = np.linspace(0.02, 0.98, 30)
    h, dh = tilt(e, estimand)
    assert e * weights(e, np.ones(30), estimand) == pytest.approx(h, rel=1e-13)
    assert (1 - e) * weights(e, np.zeros(30), estimand) == pytest.approx(h, rel=1e-13)
    assert dh == pytest.approx((tilt(e + 1e-6, estimand)[0] - tilt(e - 1e-6, estimand)[0]) / 2e-6, abs=1e-9)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("group", [0, 1])
def test_slopes_are_derivatives(estimand: Estimand, group: int) -> None:
    """Central differences by the linear predictor, good to 1e-8."""
    eta = np.linspace(-3, 3, 25)
    t = np.full(25, group)

    def at(shift: float) -> np.ndarray:
        return weights(1 / (1 + np.exp(-eta - shift)), t, estimand)

    expected = (at(1e-5) - at(-1e-5)) / 2e-5
    assert slopes(1 / (1 + np.exp(-eta)), t, estimand) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_overlap_weights_balance_the_means_exactly() -> None:
    """Li, Morgan & Zaslavsky (2018), theorem 3: with a logistic propensity by maximum likelihood."""
    x, t, _ = rows()
    e = logistic.predict(x, logistic.fit(x, t, NAMES).beta)
    assert solve(sums(x, t, e, x, "ATO"), "ATO").effect == pytest.approx(np.zeros(3), abs=1e-10)


def test_stabilised_weights() -> None:
    """Their sum in a group is the group's size in expectation; Hájek's means do not see them."""
    _, t, _ = rows()
    e = np.full(len(t), t.mean())
    assert stabilised(e, t, t.mean()) == pytest.approx(np.ones(len(t)), rel=1e-13)


# the estimate -------------------------------------------------------------------------------------------------------


@quick
@given(cuts=st.lists(st.integers(0, 80), max_size=5), estimand=st.sampled_from(ESTIMANDS), trimmed=st.booleans())
def test_blocks_add_up(cuts: list[int], estimand: Estimand, trimmed: bool) -> None:
    x, t, y = rows(80)
    e = np.linspace(0.05, 0.9, 80)
    keep = within(e, 0.1, 0.8) if trimmed else np.ones(80, bool)
    ends = [0, *sorted(cuts), 80]
    parts = [sums(x[a:b], t[a:b], e[a:b], y[a:b], estimand, keep[a:b]) for a, b in pairwise(ends)]
    whole = sums(x, t, e, y, estimand, keep)
    assert sum(parts).shapes == whole.shapes
    assert sum(parts).vector == pytest.approx(whole.vector, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_estimate_row_by_row(estimand: Estimand) -> None:
    x, t, y = rows()
    e = logistic.predict(x, np.array([-0.3, 0.7, 0.2]))
    ends = [[e[t == g].min(), e[t == g].max()] for g in (0, 1)]
    found = solve(sums(x, t, e, y, estimand), estimand, extremes=ends)
    w = weights(e, t, estimand)
    for g in (0, 1):
        own = w[t == g]
        assert found.means[g] == pytest.approx(np.average(y[t == g], axis=0, weights=own), rel=1e-12)
        assert found.total[g] == pytest.approx(own.sum(), rel=1e-12)
        assert found.ess[g] == pytest.approx(own.sum() ** 2 / (own**2).sum(), rel=1e-12)
        assert found.largest[g] == pytest.approx(own.max(), rel=1e-14)
        assert found.kept[g] == (t == g).sum()
    size = {"ATE": len(t), "ATT": t.sum(), "ATC": (1 - t).sum(), "ATO": (e * (1 - e)).sum()}[estimand]
    plain = solve(sums(x, t, e, y, estimand), estimand, normalised=False)
    expected = ((2 * t - 1) * w) @ y / size
    assert plain.effect == pytest.approx(expected, rel=1e-11)


def test_constant_propensity_is_the_plain_difference() -> None:
    """All estimands agree, and the error is Welch's without its n - 1."""
    x, t, y = rows()
    one = x[:, :1]
    model = logistic.fit(one, t, NAMES[:1])
    e = logistic.predict(one, model.beta)
    plain = y[t == 1].mean(axis=0) - y[t == 0].mean(axis=0)
    variance = sum(y[t == g].var(axis=0) / (t == g).sum() for g in (0, 1))
    for estimand in ESTIMANDS:
        found = solve(sums(one, t, e, y, estimand), estimand)
        phi = influence(one, t, e, y, found, model)
        assert found.effect == pytest.approx(plain, rel=1e-10)
        assert (phi**2).sum(axis=0) / len(t) ** 2 == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_variance_of_the_stacked_equations(estimand: Estimand, normalised: bool, trimmed: bool) -> None:
    """The influence against a numeric Jacobian of score and means together, good to 1e-6."""
    x, t, y = rows()
    model = logistic.fit(x, t, NAMES)
    e = logistic.predict(x, model.beta)
    keep = within(e, 0.2, 0.8) if trimmed else np.ones(len(t), bool)
    found = solve(sums(x, t, e, y, estimand, keep), estimand, normalised)

    def psi(theta: np.ndarray) -> np.ndarray:
        own = logistic.predict(x, theta[:3])
        w = weights(own, t, estimand) * keep
        size = {"ATE": np.ones(len(t)), "ATT": t, "ATC": 1 - t, "ATO": own * (1 - own)}[estimand] * keep
        columns = [x * (t - own)[:, None]]
        for g in (0, 1):
            member = w * (t == g)
            mean = theta[3 + 2 * g : 5 + 2 * g]
            columns.append(member[:, None] * y - (member if normalised else size)[:, None] * mean)
        return np.column_stack(columns)

    theta = np.concatenate([model.beta, *found.means])
    assert psi(theta).mean(axis=0) == pytest.approx(np.zeros(7), abs=1e-9)
    vcov = stacked_variance(psi, theta)
    contrast = np.array([[0, 0, 0, -1, 0, 1, 0], [0, 0, 0, 0, -1, 0, 1.0]])
    phi = influence(x, t, e, y, found, model, keep)
    assert phi.sum(axis=0) == pytest.approx([0, 0], abs=1e-7)
    assert phi.T @ phi / len(t) ** 2 == pytest.approx(contrast @ vcov @ contrast.T, rel=1e-6)


def test_given_weights_need_no_design() -> None:
    """A propensity that is given adds nothing to the error; neither columns nor model are asked for."""
    x, t, y = rows()
    e = logistic.predict(x, np.array([-0.4, 0.8, 0.5]))
    none = x[:, :0]
    found = solve(sums(none, t, e, y, "ATE"), "ATE")
    phi = influence(none, t, e, y, found, None)
    w = weights(e, t, "ATE")
    expected = sum((w[t == g] ** 2 @ (y[t == g] - found.means[g]) ** 2) / w[t == g].sum() ** 2 for g in (0, 1))
    assert (phi**2).sum(axis=0) / len(t) ** 2 == pytest.approx(expected, rel=1e-12)


def test_estimated_propensity_removes_the_bias() -> None:
    """The truth 1 of the first outcome within 4 standard errors, where the plain difference is 10 away."""
    x, t, y = rows(20_000, 5)
    model = logistic.fit(x, t, NAMES)
    e = logistic.predict(x, model.beta)
    plain = y[t == 1, 0].mean() - y[t == 0, 0].mean() - 1
    for estimand in ESTIMANDS:
        found = solve(sums(x, t, e, y, estimand), estimand)
        error = np.sqrt((influence(x, t, e, y, found, model)[:, 0] ** 2).sum()) / len(t)
        assert abs(found.effect[0] - 1) < 4 * error
        assert abs(plain) > 10 * error


# trimming -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0.3, 0.3), (0.5, 2.0), (0.2, 4.0), (1.0, 1.0)])
def test_crump_is_the_least_variance(shape: tuple[float, float]) -> None:
    """Against the α that minimises (Σ g over the kept) / (number kept)² of the rows; bins of 1e-4."""
    e = np.random.default_rng(2).beta(*shape, 20_000)
    e = e[(e > 1e-6) & (e < 1 - 1e-6)]
    counts, edges = np.histogram(e, np.linspace(0, 1, 10_001))
    g = np.sort(1 / (e * (1 - e)))
    best = g[np.argmin(np.cumsum(g) / np.arange(1, len(g) + 1) ** 2)]
    expected = 0.5 - np.sqrt(0.25 - 1 / best)
    assert crump(edges, counts) == pytest.approx(expected, abs=3e-4)
    assert 0.05 < crump(edges, counts) < 0.2


def test_crump_solves_its_equation() -> None:
    """1/(α(1 - α)) = 2·E[1/(e(1 - e)) | α < e < 1 - α]."""
    edges = np.linspace(0, 1, 10_001)
    alpha = crump(edges, np.ones(10_000))
    inside = np.linspace(alpha, 1 - alpha, 100_001)
    assert 1 / (alpha * (1 - alpha)) == pytest.approx(2 * np.mean(1 / (inside * (1 - inside))), rel=2e-3)


def test_crump_keeps_good_overlap() -> None:
    counts, edges = np.histogram(np.linspace(0.3, 0.7, 1000), np.linspace(0, 1, 1001))
    assert crump(edges, counts) == 0
    assert np.isnan(crump(edges, 0 * counts))


def test_bounds() -> None:
    assert common_support([[0.1, 0.7], [0.2, 0.95]]) == (0.2, 0.7)
    assert within(np.array([0.1, 0.2, 0.7, 0.71]), 0.2, 0.7).tolist() == [False, True, True, False]


# what cannot be estimated -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_a_group_without_rows_is_nan(estimand: Estimand, normalised: bool) -> None:
    x, t, y = rows(20)
    e = np.full(20, 0.5)
    for keep in (t == 1, t == 0, np.zeros(20, bool)):
        found = solve(sums(x, t, e, y, estimand, keep), estimand, normalised)
        assert np.isnan(found.effect).all()
        assert found.kept.tolist() == [((t == 0) & keep).sum(), ((t == 1) & keep).sum()]


def test_rows_that_are_trimmed_do_not_matter() -> None:
    """A propensity of exactly 0 or 1 outside the bounds gives neither infinity nor NaN."""
    x, t, y = rows(50)
    e = np.full(50, 0.4)
    e[:4] = [0, 1, 0, 1]
    keep = within(e, 0.1, 0.9)
    found = solve(sums(x, t, e, y, "ATE", keep), "ATE")
    assert found.effect == pytest.approx(y[4:][t[4:] == 1].mean(axis=0) - y[4:][t[4:] == 0].mean(axis=0), rel=1e-12)
    assert np.isfinite(influence(x, t, e, y, found, None, keep)).all()
