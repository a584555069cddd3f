"""AIPW and the partially linear model: least squares by fold, scores, influence, and robustness to a wrong model."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.errors import StatisticError
from causal_spark.solve import logistic
from causal_spark.solve.doubly import (
    augment,
    effect,
    fitted,
    gram,
    level_influence,
    level_solve,
    level_sums,
    pair_influence,
    pair_sums,
    partial_influence,
    partial_sums,
    potential,
    regress,
    score,
)
from causal_spark.solve.weighting import Estimand, weights

ESTIMANDS = get_args(Estimand)
quick = settings(max_examples=25, deadline=None, derandomize=True)
NAMES = ("constant", "a", "b")


def rows(n: int = 240, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Design (n, 3), treatment (n,), two outcomes (n, 2) with effects 1 and 2 + a, fold (n,) of 4."""
    draw = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), draw.normal(size=(n, 2))])
    t = (draw.random(n) < truth(x)).astype(int)
    base = x @ np.array([2.0, 1.0, -1.0]) + draw.normal(size=n)
    return x, t, np.column_stack([base + t, base + t * (2 + x[:, 1])]), np.arange(n) % 4


def truth(x: np.ndarray) -> np.ndarray:
    return logistic.predict(x, np.array([-0.4, 0.8, 0.5]))


def models(n: int = 240, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, treatment, propensity and cross-fitted predictions (n, 2, 2)."""
    x, t, y, fold = rows(n, seed)
    mu = potential(x, regress(gram(x, y, t, fold, 2, 4), NAMES), fold)
    return y, t, truth(x), mu


# least squares ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [1, 4])
def test_least_squares_without_each_fold(folds: int) -> None:
    """Against a least-squares solver on the rows themselves."""
    x, t, y, fold = rows()
    part = fold % folds
    beta = regress(gram(x, y, t, part, 2, folds), NAMES)
    assert beta.shape == (2, folds, 3, 2)
    for level in (0, 1):
        for k in range(folds):
            used = (t == level) & ((part != k) | (folds == 1))
            assert beta[level, k] == pytest.approx(np.linalg.lstsq(x[used], y[used])[0], rel=1e-10)
    mu = potential(x, beta, part)
    for i in (0, 5, 17):
        assert mu[i] == pytest.approx(np.einsum("p,lpq->lq", x[i], beta[:, part[i]]), rel=1e-12)


def test_no_row_sees_itself() -> None:
    """The prediction of a row does not move with its own outcome; without folds it does."""
    x, t, y, fold = rows()
    moved = y.copy()
    moved[7] += 1000

    def prediction(outcome: np.ndarray, folds: int) -> np.ndarray:
        part = fold % folds
        return potential(x, regress(gram(x, outcome, t, part, 2, folds), NAMES), part)[7]

    # the total minus the fold, so up to the rounding of sums of thousands
    assert prediction(moved, 4) == pytest.approx(prediction(y, 4), rel=1e-9)
    assert abs(prediction(moved, 1) - prediction(y, 1)).max() > 1


def test_rows_of_no_level() -> None:
    x, t, y, fold = rows()
    left = np.where(fold == 2, -1, t)
    used = fold != 2
    some, all_of = gram(x, y, left, fold, 2, 4), gram(x[used], y[used], t[used], fold[used], 2, 4)
    assert some.vector == pytest.approx(all_of.vector, rel=1e-14)


def test_scale_of_a_column_is_free() -> None:
    x, t, y, fold = rows()
    scale = np.array([1, 1e6, 1e-6])
    plain, scaled = (regress(gram(z, y, t, fold, 2, 4), NAMES) for z in (x, x * scale))
    assert scaled * scale[:, None] == pytest.approx(plain, rel=1e-9)


def test_collinear_columns_are_named_with_their_level() -> None:
    """b is constant among the treated, and only there."""
    x, t, y, fold = rows()
    x[:, 2] = np.where(t == 1, 3.0, x[:, 2])
    with pytest.raises(StatisticError) as caught:
        regress(gram(x, y, t, fold, 2, 4), NAMES)
    assert caught.value.key == "outcome_collinear"
    assert (caught.value.values["level"], caught.value.values["columns"]) == (1, "b")
    assert "b" in str(caught.value)
    with pytest.raises(StatisticError) as empty:
        regress(gram(x, y, 0 * t, 0 * fold, 2, 1), NAMES)
    assert empty.value.values["columns"] == "constant, a, b"


# laws ---------------------------------------------------------------------------------------------------------------


@quick
@given(cuts=st.lists(st.integers(0, 80), max_size=5), estimand=st.sampled_from(ESTIMANDS))
def test_blocks_add_up(cuts: list[int], estimand: Estimand) -> None:
    x, t, y, fold = rows(80)
    _, _, e, mu = models(80)
    both, keep = np.column_stack([1 - e, e]), e > 0.3
    ends = [0, *sorted(cuts), 80]
    passes = (
        lambda s: gram(x[s], y[s], t[s], fold[s], 2, 4),
        lambda s: level_sums(y[s], t[s], both[s], mu[s], keep[s]),
        lambda s: pair_sums(y[s], t[s], e[s], mu[s], estimand, keep[s]),
        lambda s: partial_sums(y[s], t[s], mu[s, 0], e[s]),
    )
    for one in passes:
        parts = [one(slice(a, b)) for a, b in pairwise(ends)]
        assert sum(parts).shapes == one(slice(0, 80)).shapes
        assert sum(parts).vector == pytest.approx(one(slice(0, 80)).vector, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_influence_of_a_pair(estimand: Estimand, trimmed: bool) -> None:
    """Σφ = 0, and φ is the change of the estimate, times n, when a row counts a little more."""
    y, t, e, mu = models()
    keep = e > 0.35 if trimmed else None
    found = effect(pair_sums(y, t, e, mu, estimand, keep))
    phi = pair_influence(y, t, e, mu, estimand, found, keep)
    assert phi.sum(axis=0) == pytest.approx([0, 0], abs=1e-9)
    top, bottom = score(y, t, e, mu, estimand)
    kept = np.ones(len(t), bool) if keep is None else keep
    for i in (0, 3, 11):
        w = np.ones(len(t))
        w[i] += 1e-6
        moved = (w * kept) @ top / ((w * kept) @ bottom)
        assert (moved - found.effect) * len(t) / 1e-6 == pytest.approx(phi[i], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("trimmed", [False, True])
def test_levels_are_pairs(trimmed: bool) -> None:
    """Two levels are the ATE of the pair, estimate and influence; a third level does not change the first two."""
    y, t, e, mu = models()
    keep = e > 0.35 if trimmed else None
    both = np.column_stack([1 - e, e])
    found = level_solve(level_sums(y, t, both, mu, keep))
    phi = level_influence(y, t, both, mu, found, keep)
    pair = effect(pair_sums(y, t, e, mu, "ATE", keep))
    assert found.means[1] - found.means[0] == pytest.approx(pair.effect, rel=1e-11)
    assert phi[:, 1] - phi[:, 0] == pytest.approx(pair_influence(y, t, e, mu, "ATE", pair, keep), abs=1e-9)
    third = level_sums(y, t, np.column_stack([both, 0 * e]), np.concatenate([mu, mu[:, :1]], axis=1), keep)
    assert level_solve(third).means[:2] == pytest.approx(found.means, rel=1e-12)
    assert level_solve(third).means[2] == pytest.approx(mu[:, 0][keep if trimmed else slice(None)].mean(axis=0))


def test_scores_of_the_papers() -> None:
    """ATT of Chernozhukov et al. (2018), eq. 5.4; the bottom of ATO is that of the partially linear model."""
    y, t, e, mu = models()
    top, bottom = score(y, t, e, mu, "ATT")
    residual = y - mu[:, 0]
    expected = (t - (1 - t) * e / (1 - e))[:, None] * residual
    assert top == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert bottom == pytest.approx(t, abs=1e-14)
    assert score(y, t, e, mu, "ATC")[1] == pytest.approx(1 - t, abs=1e-14)
    assert score(y, t, e, mu, "ATO")[1] == pytest.approx((t - e) ** 2, abs=1e-14)


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_a_common_regression_residualises(estimand: Estimand) -> None:
    """With μ₁ = μ₀ the score is the Horvitz–Thompson difference of the residuals."""
    y, t, e, mu = models()
    same = np.stack([mu[:, 0]] * 2, axis=1)
    top, _ = score(y, t, e, same, estimand)
    w = weights(e, t, estimand) * (2 * t - 1)
    assert top == pytest.approx(w[:, None] * (y - mu[:, 0]), rel=1e-10, abs=1e-12)


def test_partial_is_a_regression_of_residuals() -> None:
    """Frisch, Waugh & Lovell: with in-sample least squares it is the coefficient of t, and φ gives HC0."""
    x, t, y, fold = rows()
    none = 0 * fold
    fits = fitted(x, regress(gram(x, np.column_stack([y, t]), none, none, 1, 1), NAMES)[0], none)
    arguments = (y, t, fits[:, :2], fits[:, 2])
    found = effect(partial_sums(*arguments))
    full = np.column_stack([x, t])
    beta = np.linalg.lstsq(full, y)[0]
    assert found.effect == pytest.approx(beta[3], rel=1e-10)
    phi = partial_influence(*arguments, found)
    bread = np.linalg.inv(full.T @ full)
    for k in (0, 1):
        hc0 = bread @ (full.T * (y - full @ beta)[:, k] ** 2) @ full @ bread
        assert (phi[:, k] ** 2).sum() / len(t) ** 2 == pytest.approx(hc0[3, 3], rel=1e-10)


# truth --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["propensity", "outcome", "neither", "both"])
def test_double_robustness(wrong: str) -> None:
    """One wrong model does no harm: within 4 standard errors of 1 and 2; both wrong are 10 and more away."""
    x, t, y, fold = rows(40_000, 11)
    e = np.full(len(t), t.mean()) if wrong in ("propensity", "both") else truth(x)
    z = x[:, :1] if wrong in ("outcome", "both") else x
    mu = potential(z, regress(gram(z, y, t, fold, 2, 4), NAMES[: z.shape[1]]), fold)
    found = effect(pair_sums(y, t, e, mu, "ATE"))
    error = np.sqrt((pair_influence(y, t, e, mu, "ATE", found) ** 2).sum(axis=0)) / len(t)
    away = np.abs(found.effect - [1, 2]) / error
    assert (away > 10).all() if wrong == "both" else (away < 4).all()


def test_treated_of_a_mixed_effect() -> None:
    """The second effect is 2 + a: the treated have more of a, the others less, and each estimand finds its own."""
    x, t, y, fold = rows(40_000, 12)
    mu = potential(x, regress(gram(x, y, t, fold, 2, 4), NAMES), fold)
    e = truth(x)
    h = {"ATE": np.ones(len(e)), "ATT": e, "ATC": 1 - e, "ATO": e * (1 - e)}
    values = []
    for estimand in ESTIMANDS:
        found = effect(pair_sums(y, t, e, mu, estimand))
        error = np.sqrt((pair_influence(y, t, e, mu, estimand, found)[:, 1] ** 2).sum()) / len(t)
        assert abs(found.effect[1] - 2 - np.average(x[:, 1], weights=h[estimand])) < 4 * error
        values.append(found.effect[1])
    assert values[1] > values[0] + 0.1 > values[2] + 0.2


def test_partially_linear_with_a_dose() -> None:
    """A continuous treatment of slope 1.5, confounded: within 4 standard errors, where the plain slope is 10 away."""
    draw = np.random.default_rng(13)
    x, _, _, fold = rows(20_000, 13)
    dose = x @ np.array([0.5, 1.0, 0.3]) + draw.normal(size=len(x))
    y = (1.5 * dose + x @ np.array([0.0, 2.0, 1.0]) + draw.normal(size=len(x)))[:, None]
    total = gram(x, np.column_stack([y, dose]), 0 * fold, fold, 1, 4)
    fits = fitted(x, regress(total, NAMES)[0], fold)
    found = effect(partial_sums(y, dose, fits[:, :1], fits[:, 1]))
    error = np.sqrt((partial_influence(y, dose, fits[:, :1], fits[:, 1], found) ** 2).sum()) / len(x)
    assert abs(found.effect[0] - 1.5) < 4 * error
    assert abs(np.polyfit(dose, y[:, 0], 1)[0] - 1.5) > 10 * error


def test_coverage() -> None:
    """95 % intervals of 150 samples of 200 rows: between 88 and 100 %, four errors of a share of 150."""
    hits = np.zeros(2)
    for seed in range(150):
        x, t, y, fold = rows(200, 1000 + seed)
        mu = potential(x, regress(gram(x, y, t, fold, 2, 4), NAMES), fold)
        fits = [logistic.fit(x, t, NAMES, weight=fold != k) for k in range(4)]
        e = np.stack([logistic.predict(x, one.beta) for one in fits])[fold, np.arange(len(t))]
        found = effect(pair_sums(y, t, e, mu, "ATE"))
        error = np.sqrt((pair_influence(y, t, e, mu, "ATE", found) ** 2).sum(axis=0)) / len(t)
        hits += np.abs(found.effect - [1, 2]) < 1.96 * error
    assert (hits / 150 > 0.88).all()
    assert (hits < 150).all()


# what cannot be estimated -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_without_rows_is_nan() -> None:
    y, t, e, mu = models()
    none = np.zeros(len(t), bool)
    for estimand in ESTIMANDS:
        assert np.isnan(effect(pair_sums(y, t, e, mu, estimand, none)).effect).all()
    assert np.isnan(level_solve(level_sums(y, t, np.column_stack([1 - e, e]), mu, none)).means).all()
    assert np.isnan(effect(partial_sums(y, e, mu[:, 0], e)).effect).all()


@pytest.mark.filterwarnings("error")
def test_rows_that_are_trimmed_do_not_matter() -> None:
    y, t, e, mu = models()
    broken = e.copy()
    broken[:2] = [0.0, 1.0]
    keep = np.arange(len(t)) > 1
    for estimand in ESTIMANDS:
        found = effect(pair_sums(y, t, broken, mu, estimand, keep))
        assert found.effect == pytest.approx(effect(pair_sums(y, t, e, mu, estimand, keep)).effect, rel=1e-13)
        assert np.isfinite(pair_influence(y, t, broken, mu, estimand, found, keep)).all()
    assert np.isfinite(augment(y, t, np.column_stack([1 - e, e]), mu)).all()
