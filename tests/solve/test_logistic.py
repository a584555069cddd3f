"""Logistic regression from sums: parity with statsmodels, laws of the sums, and what is refused by name."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.discrete.discrete_model import Logit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from causal_spark.errors import StatisticError
from causal_spark.solve.logistic import (
    PASSES,
    Logistic,
    advance,
    aliased,
    begin,
    contribution,
    finish,
    fit,
    follow,
    maximise,
    predict,
)

quick = settings(max_examples=25, deadline=None, derandomize=True)
NAMES = ("constant", "a", "b", "c")


def rows(n: int = 400, seed: int = 1, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), draw.normal(size=(n, 3))])
    t = draw.random(n) < predict(x, slope * np.array([-0.5, 1.0, -0.7, 0.2]))
    return x, t.astype(float)


def dummies(counts: dict[tuple[int, ...], tuple[float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct rows of 0/1 columns with how many are control and treated."""
    x = np.array([[1.0, *key] for key in counts for _ in (0, 1)])
    return x, np.tile([0.0, 1.0], len(counts)), np.array([n for pair in counts.values() for n in pair], float)


def refused(x: np.ndarray, t: np.ndarray, weight: np.ndarray | None = None) -> StatisticError:
    with pytest.raises(StatisticError) as caught:
        fit(x, t, NAMES[: x.shape[1]], weight)
    return caught.value


# parity -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_parity_with_statsmodels(seed: int, slope: float) -> None:
    """Coefficients and likelihood at 1e-8. The information is that of the last pass, within 1e-6 (see CONVERGED)."""
    x, t = rows(300, seed, slope)
    ours = fit(x, t, NAMES)
    theirs = Logit(t, x).fit(disp=0, tol=1e-14, maxiter=100)
    assert ours.converged
    assert ours.beta == pytest.approx(theirs.params, rel=1e-8, abs=1e-9)
    assert ours.loglik == pytest.approx(theirs.llf, rel=1e-10)
    assert np.linalg.inv(ours.information) == pytest.approx(theirs.cov_params(), rel=1e-6, abs=1e-9)


def test_counted_patterns() -> None:
    """Distinct rows with counts are the same fit as the rows, and as statsmodels with frequency weights."""
    draw = np.random.default_rng(3)
    x = np.column_stack([np.ones(500), draw.integers(0, 2, (500, 3))])
    t = (draw.random(500) < predict(x, np.array([0.2, 0.5, -1.0, 0.3]))).astype(float)
    distinct, count = np.unique(np.column_stack([x, t]), axis=0, return_counts=True)
    ours = fit(distinct[:, :4], distinct[:, 4], NAMES, count)
    assert ours.beta == pytest.approx(fit(x, t, NAMES).beta, rel=1e-12, abs=1e-12)
    model = GLM(distinct[:, 4], distinct[:, :4], family=Binomial(), freq_weights=count)
    theirs = model.fit(tol=1e-14)
    assert ours.beta == pytest.approx(theirs.params, rel=1e-8)
    assert np.sqrt(np.diag(np.linalg.inv(ours.information))) == pytest.approx(theirs.bse, rel=1e-6)


def test_constant_only() -> None:
    assert fit(np.ones((10, 1)), np.arange(10) < 3, ["constant"]).beta[0] == pytest.approx(np.log(3 / 7), rel=1e-12)


# the sums -----------------------------------------------------------------------------------------------------------


@quick
@given(cuts=st.lists(st.integers(0, 60), max_size=6), weighted=st.booleans())
def test_blocks_add_up(cuts: list[int], weighted: bool) -> None:
    """However the rows are cut, blocks without rows included."""
    x, t = rows(60)
    w = np.arange(60.0) if weighted else None
    beta = np.array([0.1, 0.4, -2.0, 0.0])
    ends = [0, *sorted(cuts), 60]
    parts = [contribution(x[a:b], t[a:b], beta, None if w is None else w[a:b]) for a, b in pairwise(ends)]
    whole, total = contribution(x, t, beta, w), sum(parts)
    assert total.shapes == whole.shapes
    assert total.vector == pytest.approx(whole.vector, rel=1e-12, abs=1e-12)


def test_derivatives() -> None:
    """Central differences with a step of 1e-5 are good to 1e-8 here."""
    x, t = rows()
    beta = np.array([0.3, -0.2, 0.5, 0.1])
    at = contribution(x, t, beta)
    for j, step in enumerate(np.eye(4) * 1e-5):
        up, down = contribution(x, t, beta + step), contribution(x, t, beta - step)
        assert at["gradient"][j] == pytest.approx((up.number("loglik") - down.number("loglik")) / 2e-5, abs=1e-5)
        assert at["information"][j] == pytest.approx(-(up["gradient"] - down["gradient"]) / 2e-5, abs=1e-5)


@pytest.mark.filterwarnings("error")
def test_no_overflow() -> None:
    x, t = rows()
    sums = contribution(x * 1e6, t, np.ones(4))
    assert np.isfinite(sums.vector).all()
    assert sums.number("loglik") < -1e6


@quick
@given(scale=st.sampled_from([1e-3, 1.0, 40.0]), seed=st.integers(0, 100))
def test_start_is_free(scale: float, seed: int) -> None:
    """Any start leads to the same fit: a far one by halved steps, or back by way of 0."""
    x, t = rows()
    start = np.random.default_rng(seed).normal(size=4) * scale
    ours = fit(x, t, NAMES, start=start)
    assert ours.converged
    assert ours.beta == pytest.approx(fit(x, t, NAMES).beta, rel=1e-9)


def test_good_start_saves_passes() -> None:
    x, t = rows(4000)
    start = fit(x[:1000], t[:1000], NAMES).beta
    assert fit(x, t, NAMES, start=start).iterations < fit(x, t, NAMES).iterations


def test_scale_of_a_column_is_free() -> None:
    x, t = rows()
    scaled = fit(x * [1, 1e4, 1e-4, 1], t, NAMES)
    assert scaled.beta * [1, 1e4, 1e-4, 1] == pytest.approx(fit(x, t, NAMES).beta, rel=1e-9)


def test_several_models_in_the_same_passes() -> None:
    """Walks side by side, each without one of three folds, end where each ends alone."""
    x, t = rows()
    fold = np.arange(len(t)) % 3
    walks = [begin(np.zeros(4)) for _ in range(3)]
    while not all(walk.done for walk in walks):
        totals = [contribution(x, t, walk.point, fold != k) for k, walk in enumerate(walks)]
        walks = [walk if walk.done else follow(walk, total, NAMES) for walk, total in zip(walks, totals, strict=True)]
    for k, walk in enumerate(walks):
        alone = fit(x[fold != k], t[fold != k], NAMES)
        assert finish(walk).beta == pytest.approx(alone.beta, rel=1e-11)


def test_that_a_fit_can_fail_to_converge() -> None:
    """A likelihood that is never the same twice is given up, not followed for ever."""
    x, t = rows()
    draw = np.random.default_rng(1)
    found = maximise(lambda beta: contribution(x, draw.permutation(t), beta), NAMES)
    assert isinstance(found, Logistic)
    assert not found.converged


def test_passes_are_bounded() -> None:
    """A function that rises for ever at the same slope, which no logistic likelihood does, ends the walk as well."""
    walk = begin(np.zeros(1))
    while not walk.done:
        walk = advance(walk, float(walk.passes), np.ones(1), np.ones((1, 1)))
    assert walk.passes == PASSES
    assert not walk.converged


# what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 50, 5000])
def test_complete_separation(n: int) -> None:
    x, _ = rows(n)
    error = refused(x, x[:, 2] > 0.1)
    assert error.key == "propensity_separated"
    assert "b" in str(error.values["columns"])


@pytest.mark.parametrize("n", [3.0, 1e3, 5e7])
@pytest.mark.parametrize("others", [100.0, 1e4, 1e8])
def test_a_level_with_one_group_only(n: float, others: float) -> None:
    """Quasi-separation: the level b has no controls, however large or small it is."""
    counts = {(0, 0): (others, others / 2), (1, 0): (others / 3, others / 2), (0, 1): (0.0, n), (1, 1): (0.0, n)}
    error = refused(*dummies(counts))
    assert (error.key, error.values["columns"]) == ("propensity_separated", "b")


def test_the_constant_is_not_to_blame() -> None:
    """No treated where b is 0: the constant falls as b rises, but b is the column to leave out."""
    error = refused(*dummies({(0, 0): (50.0, 0.0), (1, 0): (70.0, 0.0), (0, 1): (30.0, 20.0), (1, 1): (25.0, 40.0)}))
    assert (error.key, error.values["columns"]) == ("propensity_separated", "b")


def test_a_combination_that_separates() -> None:
    x, _ = rows(300)
    error = refused(x, x[:, 1] - x[:, 3] > 0)
    assert (error.key, error.values["columns"]) == ("propensity_separated", "a, c")


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize(
    ("rare", "others"), [((1.0, 1.0), 1e8), ((1000.0, 1.0), 1e8), ((1.0, 5e7), 1e8), ((1.0, 9.0), 20)]
)
def test_a_rare_level_is_not_separation(rare: tuple[float, float], others: float, standard: bool) -> None:
    """One row of the other group is enough for a maximum: the log-odds of the level."""
    x, t, w = dummies({(0, 0): (others, others / 2), (1, 0): (others / 3, others / 2), (0, 1): rare})
    share = w @ x[:, 2] / w.sum()
    spread = np.sqrt(share * (1 - share)) if standard else 1.0
    x[:, 2] = (x[:, 2] - share * standard) / spread
    found = fit(x, t, NAMES[:3], w)
    assert found.converged
    assert found.beta[2] / spread == pytest.approx(np.log(rare[1] / rare[0]) - np.log(0.5), rel=1e-9)


def test_strong_but_overlapping() -> None:
    """Thousands of rows with 5 on the wrong side: a maximum far out, and no refusal."""
    draw = np.random.default_rng(8)
    a = draw.normal(size=4000)
    t = a > 0
    t[np.argsort(np.abs(a))[:5]] ^= True
    x = np.column_stack([np.ones(4000), a])
    found = fit(x, t.astype(float), NAMES[:2])
    theirs = Logit(t.astype(float), x).fit(disp=0, tol=1e-14, maxiter=200)
    assert found.beta == pytest.approx(theirs.params, rel=1e-6)
    assert found.beta[1] > 100


def test_separation_from_a_start_far_out() -> None:
    x, _ = rows(200)
    t = (x[:, 1] > 0).astype(float)
    with pytest.raises(StatisticError) as caught:
        fit(x, t, NAMES, start=np.array([0.0, 1e4, 0, 0]))
    assert (caught.value.key, caught.value.values["columns"]) == ("propensity_separated", "a")


@pytest.mark.parametrize("t", [np.zeros(20), np.ones(20), np.zeros(0)])
def test_one_group(t: np.ndarray) -> None:
    assert refused(rows(len(t))[0], t).key == "propensity_one_group"


def test_collinear_columns_are_named() -> None:
    x, t = rows()
    for last, expected in ((x[:, 1] * 2 + 1, "c"), (np.full(400, 7.0), "c"), (np.zeros(400), "c")):
        broken = np.column_stack([x[:, :3], last])
        error = refused(broken, t)
        assert (error.key, error.values["columns"]) == ("propensity_collinear", expected)


def gram_of(*columns: np.ndarray) -> np.ndarray:
    x = np.column_stack(columns)
    return x.T @ x


def test_aliased() -> None:
    x, _ = rows()
    one, a, b, c = x.T
    assert aliased(gram_of(one, a, b, c), NAMES) == ()
    assert aliased(gram_of(one, a, a + b, b), NAMES) == ("c",)
    assert aliased(gram_of(one, a, 3 * a, -a), NAMES) == ("b", "c")
    assert aliased(gram_of(one, 0 * a, b, 2 * one), NAMES) == ("a", "c")


@pytest.mark.parametrize(("noise", "expected"), [(1e-3, ()), (3e-5, ()), (3e-6, ("b",)), (1e-9, ("b",))])
def test_aliased_at_a_condition_of_1e5(noise: float, expected: tuple[str, ...]) -> None:
    """Columns that agree but for a relative ``noise`` have a condition of 2/noise; 1e5 is the limit of a Gram."""
    x, _ = rows()
    one, a, b, c = x.T
    assert aliased(gram_of(one, a * 1e6, (a + noise * b) * 1e-6, c), NAMES) == expected


def test_aliased_by_many_small_steps() -> None:
    """No column leaves little of itself, but the design as a whole is near singular (Kahan's matrix)."""
    p = 60
    upper = np.diag(0.8 ** np.arange(p)) @ (np.eye(p) - 0.6 * np.triu(np.ones((p, p)), 1))
    gram = upper.T @ upper
    assert np.linalg.cond(gram) > 1e10
    found = aliased(gram, [f"c{i}" for i in range(p)])
    left = [i for i in range(p) if f"c{i}" not in found]
    assert found
    assert np.linalg.cond(gram[np.ix_(left, left)]) < 1e11
