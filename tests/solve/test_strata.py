"""Post-stratification and cross-fitted prediction, as images of moments."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_spark.errors import StatisticError
from causal_spark.solve.lifts import lift
from causal_spark.solve.linear import cuped
from causal_spark.solve.means import Form, difference, evaluate
from causal_spark.solve.strata import PREDICTION, cross_fit, poststratify
from causal_spark.statistics import Moments

NAMES = ("y", "x", "z")


def cells(n: int, seed: int, effect: float = 0.0, strata: int = 4) -> dict[str, dict[str, Moments]]:
    """Strata far apart; y depends on x and z."""
    rng = np.random.default_rng(seed)
    stratum, arm = rng.integers(0, strata, n), rng.integers(0, 2, n)
    x, z = rng.normal(size=n), rng.normal(size=n)
    y = 3 * stratum + x + 0.5 * z + rng.normal(size=n) + effect * arm
    rows = np.column_stack([y, x, z])
    return {
        str(s): {a: Moments.from_rows(NAMES, rows[(stratum == s) & (arm == i)]) for i, a in enumerate("ct")}
        for s in range(strata)
    }


def merged(strata: dict[str, dict[str, Moments]]) -> dict[str, Moments]:
    return {arm: sum((part[arm] for part in strata.values()), Moments.empty(NAMES)) for arm in "ct"}


def test_difference_by_hand() -> None:
    strata = cells(400, 1)
    found = poststratify(strata)
    total = sum(part.n for arms in strata.values() for part in arms.values())
    estimate = variance = 0.0
    for arms in strata.values():
        w = sum(part.n for part in arms.values()) / total
        estimate += w * (arms["t"].mean[0] - arms["c"].mean[0])
        variance += w**2 * sum(part.covariance[0, 0] / part.n for part in arms.values())
    test = difference(*(evaluate(found[arm], [Form("y")]) for arm in "tc"))
    assert (test.estimate, test.std_error) == pytest.approx((estimate, math.sqrt(variance)), rel=1e-12)


def test_one_stratum_changes_nothing() -> None:
    strata = cells(100, 2, strata=1)
    found = poststratify(strata)
    np.testing.assert_allclose(found["t"].scatter, strata["0"]["t"].scatter, rtol=1e-12)
    np.testing.assert_allclose(found["t"].mean, strata["0"]["t"].mean, rtol=1e-14)


def test_narrower_and_of_the_right_size_also_with_cuped() -> None:
    """300 experiments with effect 0.5: coverage within four standard errors, and se falls with each step."""
    inside = {"strata": 0, "both": 0}
    ratio = []
    for seed in range(300):
        strata = cells(300, seed + 10, 0.5)
        plain = difference(*(evaluate(merged(strata)[arm], [Form("y")]) for arm in "tc"))
        arms = poststratify(strata)
        post = difference(*(evaluate(arms[arm], [Form("y")]) for arm in "tc"))
        groups = cuped(arms, [Form("y"), Form("x")]).groups
        both = difference(groups["t"], groups["c"])
        inside["strata"] += post.low <= 0.5 <= post.high
        inside["both"] += both.low <= 0.5 <= both.high
        ratio.append((post.std_error / plain.std_error, both.std_error / post.std_error))
    assert all(0.90 <= count / 300 <= 0.995 for count in inside.values())
    assert np.mean(ratio, axis=0) == pytest.approx([math.sqrt(2.25 / 13.5), math.sqrt(1.25 / 2.25)], rel=0.05)


def test_ratios_and_lifts_work_on_the_result() -> None:
    found = poststratify(cells(400, 3))
    values = [evaluate(found[arm], [Form("y")]) for arm in "tc"]
    assert math.isfinite(lift(*values).low)
    assert math.isfinite(evaluate(found["t"], [Form("x", "y")]).vcov[0, 0])


def test_small_strata_are_merged() -> None:
    strata = cells(200, 4)
    small = {**strata, "new": {"c": Moments.constant(NAMES, 1, 1.0)}, "other": {"t": Moments.constant(NAMES, 1, 1.0)}}
    with pytest.raises(StatisticError, match="fewer than 2 units of c, t"):
        poststratify(small)
    enough = {**small, "last": {"c": Moments.constant(NAMES, 1, 1.0), "t": Moments.constant(NAMES, 1, 3.0)}}
    found = poststratify(enough)
    assert found["c"].n == merged(strata)["c"].n + 2
    by_hand = {**strata, "rest": {"c": Moments.from_rows(NAMES, [[1.0] * 3] * 2),
                                  "t": Moments.from_rows(NAMES, [[1.0] * 3, [3.0] * 3])}}  # fmt: skip
    np.testing.assert_allclose(found["t"].mean, poststratify(by_hand)["t"].mean, rtol=1e-12)


# CUPAC --------------------------------------------------------------------------------------------------------------


def folded(n: int, seed: int, effect: float) -> tuple[dict[str, dict[str, Moments]], np.ndarray]:
    rng = np.random.default_rng(seed)
    fold, arm = rng.integers(0, 5, n), rng.integers(0, 2, n)
    x, z = rng.normal(size=n), rng.normal(size=n)
    rows = np.column_stack([2 * x - z + rng.normal(size=n) + effect * arm, x, z])
    groups = {
        str(f): {a: Moments.from_rows(NAMES, rows[(fold == f) & (arm == i)]) for i, a in enumerate("ct")}
        for f in range(5)
    }
    return groups, np.column_stack([fold, arm, rows])


def test_prediction_row_by_row() -> None:
    """The same by rows: least squares with arm intercepts on the other folds, predictions merged over folds."""
    folds, table = folded(500, 1, 1.0)
    found = cross_fit(folds, ["y"], ["x", "z"])
    predicted = np.zeros(len(table))
    for f in range(5):
        others, inside = table[table[:, 0] != f], table[:, 0] == f
        centred = [others[others[:, 1] == a, 2:] - others[others[:, 1] == a, 2:].mean(0) for a in (0, 1)]
        slope = np.linalg.lstsq(np.concatenate(centred)[:, 1:], np.concatenate(centred)[:, 0], rcond=None)[0]
        predicted[inside] = others[:, 2].mean() + (table[inside, 3:] - others[:, 3:].mean(0)) @ slope
    for i, arm in enumerate("ct"):
        mine = table[:, 1] == i
        expected = Moments.from_rows(["y", "p"], np.column_stack([table[mine, 2], predicted[mine]]))
        assert found[arm].names == ("y", PREDICTION + "y")
        np.testing.assert_allclose(found[arm].mean, expected.mean, rtol=1e-10)
        np.testing.assert_allclose(found[arm].scatter, expected.scatter, rtol=1e-10)


def test_as_a_covariate_it_cuts_the_variance_and_keeps_the_effect() -> None:
    errors, shrink = [], []
    for seed in range(200):
        folds, _ = folded(400, seed, 0.3)
        arms = cross_fit(folds, ["y"], ["x", "z"])
        groups = cuped(arms, [Form("y"), Form(PREDICTION + "y")]).groups
        test = difference(groups["t"], groups["c"])
        errors.append((test.estimate - 0.3) / test.std_error)
        plain = difference(evaluate(arms["t"], [Form("y")]), evaluate(arms["c"], [Form("y")]))
        shrink.append(test.std_error / plain.std_error)
    assert np.mean(errors) == pytest.approx(0.0, abs=4 / math.sqrt(200))
    assert np.std(errors) == pytest.approx(1.0, abs=0.2)
    assert np.mean(shrink) == pytest.approx(math.sqrt(1 / 6), rel=0.05)


def test_an_empty_cell_and_one_fold() -> None:
    folds, _ = folded(200, 3, 0.0)
    folds["0"]["t"] = Moments.empty(NAMES)
    assert cross_fit(folds, ["y"], ["x"])["t"].n == sum(arms["t"].n for arms in folds.values())
    with pytest.raises(StatisticError, match="two folds"):
        cross_fit({"0": folds["1"]}, ["y"], ["x"])
