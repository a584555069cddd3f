"""Entropy balancing: exact balance, the least entropy, the stacked variance, and infeasible moments by name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from causal_spark.errors import StatisticError
from causal_spark.solve.balancing import (
    Balance,
    Balanced,
    Estimand,
    contribution,
    influence,
    maximise,
    moments,
    solve,
    sums,
    target,
    weights,
)
from causal_spark.solve.logistic import predict

ESTIMANDS = get_args(Estimand)
quick = settings(max_examples=25, deadline=None, derandomize=True)
NAMES = ("constant", "a", "b")


def rows(n: int = 300, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), draw.normal(size=(n, 2))])
    t = (draw.random(n) < predict(x, np.array([-0.4, 0.8, 0.5]))).astype(float)
    base = x @ np.array([2.0, 1.0, -1.0]) + draw.normal(size=n)
    return x, t, np.column_stack([base + t, base**2 / 3 + t * (1 + x[:, 1])])


def balanced(x: np.ndarray, t: np.ndarray, estimand: Estimand, names: tuple[str, ...] = NAMES) -> Balance:
    aim = target(moments(x, t), estimand)
    duals = [
        maximise(lambda lam, g=g: contribution(x, t == g, lam, aim.mean), names) if wanted else None
        for g, wanted in enumerate(aim.groups)
    ]
    return Balance(aim, (duals[0], duals[1]))


def estimate(estimand: Estimand) -> tuple[Balance, Balanced]:
    x, t, y = rows()
    balance = balanced(x, t, estimand)
    return balance, solve(sums(x, t, y, balance), balance)


def refused(x: np.ndarray, t: np.ndarray, estimand: Estimand = "ATT") -> tuple[str, object]:
    with pytest.raises(StatisticError) as caught:
        balanced(x, t, estimand)
    return caught.value.key, caught.value.values.get("columns")


# the weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_balance_is_exact(estimand: Estimand) -> None:
    """To 1e-10 of a standard deviation; the weights add up to the size of the target's population."""
    x, t, y = rows()
    balance, found = estimate(estimand)
    chosen = {"ATE": t >= 0, "ATT": t == 1, "ATC": t == 0}[estimand]
    assert balance.target.mean == pytest.approx(x[chosen].mean(axis=0), abs=1e-14)
    assert found.imbalance == pytest.approx(np.zeros((2, 2)), abs=1e-10)
    w = weights(x, t, balance)
    assert (w > 0).all()
    for g in (0, 1):
        assert w[t == g].sum() == pytest.approx(chosen.sum(), rel=1e-10)
        assert w[t == g] @ x[t == g] / chosen.sum() == pytest.approx(x[chosen].mean(axis=0), abs=1e-10)
        assert found.means[g] == pytest.approx(np.average(y[t == g], axis=0, weights=w[t == g]), rel=1e-10)
        assert found.ess[g] == pytest.approx(w[t == g].sum() ** 2 / (w[t == g] ** 2).sum(), rel=1e-10)


def test_dual_of_scipy() -> None:
    """The multipliers of a general optimiser at its own tolerance of 1e-6, and the effective size."""
    x, t, _ = rows()
    c = x[t == 0, 1:] - x[t == 1, 1:].mean(axis=0)
    theirs = optimize.minimize(lambda lam: special.logsumexp(c @ lam), np.zeros(2), method="BFGS", tol=1e-10)
    balance = balanced(x, t, "ATT")
    dual = balance.duals[0]
    assert dual is not None
    assert dual.converged
    assert dual.lam[1:] == pytest.approx(theirs.x, rel=1e-5)
    w = special.softmax(c @ theirs.x)
    assert dual.ess == pytest.approx(1 / (w**2).sum(), rel=1e-4)
    assert dual.size == (t == 0).sum()


def test_entropy_is_least() -> None:
    """Any other weights that balance as well are further from equal ones."""
    x, t, _ = rows(60)
    balance = balanced(x, t, "ATT")
    own = x[t == 0]
    w = weights(x, t, balance)[t == 0] / t.sum()
    others = np.linalg.svd(own.T)[2][3:]
    for direction in others:
        step = direction * 0.3 * (w / np.abs(direction)).min()
        moved = w + step
        assert moved @ own == pytest.approx(w @ own, abs=1e-12)
        assert (moved * np.log(moved)).sum() > (w * np.log(w)).sum()


@quick
@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_blocks_add_up(cuts: list[int]) -> None:
    x, t, y = rows(60)
    balance = balanced(x, t, "ATE")
    lam = np.array([-1.0, 0.5, 0.2])
    ends = [0, *sorted(cuts), 60]
    passes: tuple[Callable[[slice], object], ...] = (
        lambda s: moments(x[s], t[s]),
        lambda s: contribution(x[s], t[s] == 0, lam, balance.target.mean),
        lambda s: sums(x[s], t[s], y[s], balance),
    )
    for one in passes:
        total = sum(one(slice(a, b)) for a, b in pairwise(ends))  # type: ignore[misc]
        assert total.vector == pytest.approx(one(slice(0, 60)).vector, rel=1e-11, abs=1e-11)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e8])
def test_scale_and_overflow(scale: float) -> None:
    """Columns far from standard: the same weights."""
    x, t, _ = rows()
    plain, scaled = weights(x, t, balanced(x, t, "ATT")), x * [1, scale, 1]
    assert weights(scaled, t, balanced(scaled, t, "ATT")) == pytest.approx(plain, rel=1e-8)


@pytest.mark.filterwarnings("error")
def test_a_target_far_out() -> None:
    """Near the edge of what the controls hold, a first Newton step would overflow; half steps lead there."""
    x = np.column_stack([np.ones(3003), np.concatenate([np.linspace(0, 1, 3000), [1000.0] * 3])])
    t = np.zeros(3003)
    t[-3:] = 1
    x = np.vstack([x, [[1.0, 1001.0]]])
    balance = balanced(x, np.append(t, 0.0), "ATT", NAMES[:2])
    w = weights(x, np.append(t, 0.0), balance)[:-4]
    assert weights(x, np.append(t, 0.0), balance)[-1] / 3 == pytest.approx(0.999, abs=1e-3)
    assert (w >= 0).all()


def test_treated_like_the_controls() -> None:
    """A target that is met already gives equal weights in one pass."""
    x, _, _ = rows(100)
    twice, t = np.vstack([x, x]), np.repeat([0.0, 1.0], 100)
    balance = balanced(twice, t, "ATT")
    assert weights(twice, t, balance) == pytest.approx(np.ones(200), rel=1e-12)
    assert balance.duals[0] is not None
    assert balance.duals[0].iterations == 1


def test_rare_level() -> None:
    """A level of 1 in 50 000 controls that 2 of 3 treated have: far, but within what the controls hold."""
    x = np.column_stack([np.ones(50_003), np.zeros(50_003)])
    x[[0, -1, -2], 1] = 1
    t = np.zeros(50_003)
    t[-3:] = 1
    w = weights(x, t, balanced(x, t, "ATT", NAMES[:2]))
    assert w[0] == pytest.approx(2.0, rel=1e-9)


def test_rare_level_of_many_rows() -> None:
    """20 of 200 000 controls and 2 of 100 000 treated have the level: a small part of the weight, not the boundary."""
    x = np.column_stack([np.ones(300_000), np.zeros(300_000)])
    x[:20, 1] = x[-2:, 1] = 1
    t = np.repeat([0.0, 1.0], [200_000, 100_000])
    assert weights(x, t, balanced(x, t, "ATT", NAMES[:2]))[0] == pytest.approx(0.1, rel=1e-9)


# the effect ---------------------------------------------------------------------------------------------------------


def test_linear_outcomes_are_exact() -> None:
    """Without noise, any outcome linear in the moments gives the effect itself, and an error of 0."""
    x, t, _ = rows()
    y = (x @ np.array([1.0, 2.0, 3.0]) + 5 * t)[:, None]
    for estimand in ESTIMANDS:
        balance = balanced(x, t, estimand)
        found = solve(sums(x, t, y, balance), balance)
        assert found.effect[0] == pytest.approx(5, rel=1e-10)
        assert influence(x, t, y, found) == pytest.approx(np.zeros((300, 1)), abs=1e-8)


def stacked_variance(psi: Callable[[np.ndarray], np.ndarray], theta: np.ndarray) -> np.ndarray:
    """Sandwich A⁻¹·B·A⁻ᵀ/n of estimating functions ``psi(theta)`` (n, k) with a numeric Jacobian."""
    at, n = psi(theta), len(psi(theta))
    steps = np.eye(len(theta)) * 1e-5
    columns = [(psi(theta + s).mean(axis=0) - psi(theta - s).mean(axis=0)) / 2e-5 for s in steps]
    bread = np.linalg.inv(np.stack(columns, axis=1))
    return bread @ (at.T @ at / n) @ bread.T / n


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_variance_of_the_stacked_equations(estimand: Estimand) -> None:
    """Target, multipliers of both groups and means together, with a numeric Jacobian, good to 1e-6."""
    x, t, y = rows()
    balance, found = estimate(estimand)
    c = x[:, 1:]
    member = {"ATE": np.ones(len(t)), "ATT": t, "ATC": 1 - t}[estimand]
    chosen = [g for g, wanted in enumerate(balance.target.groups) if wanted]

    def psi(theta: np.ndarray) -> np.ndarray:
        m, place = theta[:2], 2
        columns = [member[:, None] * (c - m)]
        for g in (0, 1):
            w = (t == g).astype(float)
            if g in chosen:
                w = w * np.exp((c - m) @ theta[place : place + 2])
                columns.append(w[:, None] * (c - m))
                place += 2
            columns.append(w[:, None] * (y - theta[place : place + 2]))
            place += 2
        return np.column_stack(columns)

    parts, rows_of = [balance.target.mean[1:]], []
    for g, dual in enumerate(balance.duals):
        if dual is not None:
            parts.append(dual.lam[1:])
        rows_of.append(sum(map(len, parts)))
        parts.append(found.means[g])
    theta = np.concatenate(parts)
    assert psi(theta).mean(axis=0) == pytest.approx(np.zeros(len(theta)), abs=1e-8)
    contrast = np.zeros((2, len(theta)))
    for k in (0, 1):
        contrast[k, rows_of[0] + k], contrast[k, rows_of[1] + k] = -1, 1
    phi = influence(x, t, y, found)
    assert phi.sum(axis=0) == pytest.approx([0, 0], abs=1e-7)
    assert phi.T @ phi / len(t) ** 2 == pytest.approx(contrast @ stacked_variance(psi, theta) @ contrast.T, rel=1e-6)


def test_removes_the_bias() -> None:
    """The truth 1 of the first outcome within 4 standard errors, where the plain difference is 10 away."""
    x, t, y = rows(20_000, 5)
    for estimand in ESTIMANDS:
        balance = balanced(x, t, estimand)
        found = solve(sums(x, t, y, balance), balance)
        error = np.sqrt((influence(x, t, y, found)[:, 0] ** 2).sum()) / len(t)
        assert abs(found.effect[0] - 1) < 4 * error
        assert abs(y[t == 1, 0].mean() - y[t == 0, 0].mean() - 1) > 10 * error


# what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("far", "named"), [(3.2, "a, b"), (6.0, "b"), (1e6, "b")])
def test_a_target_outside_is_named(far: float, named: str) -> None:
    """All treated beyond every control in b; just beyond, the few controls near them are off in a as well."""
    x, t, _ = rows()
    x[:, 2] = np.where(t == 1, far, np.clip(x[:, 2], -3, 3))
    assert refused(x, t) == ("balance_infeasible", named)


@pytest.mark.filterwarnings("error")
def test_a_target_outside_in_combination_is_named() -> None:
    """Each moment alone could be met, not both together."""
    draw = np.random.default_rng(3)
    a = draw.uniform(-1, 1, 400)
    x = np.column_stack([np.ones(401), np.append(a, 0.8), np.append(a + draw.uniform(-0.1, 0.1, 400), -0.8)])
    assert refused(x, np.append(np.zeros(400), 1.0)) == ("balance_infeasible", "a, b")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [40, 4000])
def test_a_target_on_the_edge_is_named(n: int) -> None:
    """No treated of level b: the controls of that level would need weight 0."""
    x, t, _ = rows(n)
    x[:, 2] = np.where(t == 1, 0.0, x[:, 2] > 0.5)
    assert refused(x, t) == ("balance_infeasible", "b")


def test_empty_and_collinear() -> None:
    x, t, _ = rows()
    assert refused(x, np.ones(300))[0] == "propensity_one_group"
    assert refused(x, np.zeros(300))[0] == "propensity_one_group"
    same = np.column_stack([x[:, :2], 2 * x[:, 1] + 1])
    assert refused(same, t) == ("balance_collinear", "b")
    with pytest.raises(StatisticError) as caught:
        maximise(lambda lam: contribution(x, t > 2, lam, x.mean(axis=0)), NAMES)
    assert caught.value.key == "balance_no_rows"
