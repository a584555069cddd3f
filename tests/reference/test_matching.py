"""Published and recomputed numbers of matching on public data.

A number with 15 digits is compared at relative 1e-9: it comes from other code and another order of operations.
Printed numbers are right to half a unit of their last digit.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import causaldata
import numpy as np
import pandas as pd
import pytest

from causal_spark.solve import balance, logistic, metric
from causal_spark.solve.abadie_imbens import Effect, with_border, with_replacement, without_replacement
from causal_spark.solve.matched import sums_with_replacement, sums_without_replacement
from causal_spark.solve.pairing import Points, Rules, matches

SPEC = importlib.util.find_spec("causalpy")
COVARIATES = ("age", "educ", "black", "hispan", "married", "nodegree", "re74", "re75")


def standardised(columns: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(columns)), (columns - columns.mean(axis=0)) / columns.std(axis=0)])


def propensity(columns: np.ndarray, t: np.ndarray) -> np.ndarray:
    x = standardised(columns)
    return logistic.predict(x, logistic.fit(x, t, [str(i) for i in range(x.shape[1])]).beta)


def points(line: np.ndarray, t: np.ndarray, y: np.ndarray, x: np.ndarray | None = None) -> Points:
    """Ties in order of the row number."""
    n = len(line)
    order, inside = np.argsort(line, kind="stable"), np.ones(n, bool)
    columns = np.zeros((n, 0)) if x is None else x
    return Points(
        line[order], t[order] == 1, np.zeros(n), inside, ~inside, y[order, None], columns[order], np.full(n, 0.5)
    )


def number(value: float, rel: float = 1e-9) -> object:
    return pytest.approx(value, rel=rel)


def found(whole: Points, rules: Rules, *options: object) -> Effect:
    sums, records = sums_with_replacement(whole, rules)
    return with_replacement(with_border(sums, records, rules), rules, *options)  # type: ignore[arg-type]


# the experiment, with replacement -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nsw() -> pd.DataFrame:
    """The file holds small integers and single precision."""
    table = pd.read_stata(Path(causaldata.__file__).parent / "nsw_mixtape" / "nsw_mixtape.dta")
    return table.drop(columns="data_id").astype(float)


def test_row_19_matching_on_age(nsw: pd.DataFrame) -> None:
    """Imbens' nnmatch prints 1785.191 (686.7167), in single precision: effect of the sample, equal variances."""
    whole = points(*(nsw[name].to_numpy() for name in ("age", "treat", "re78")))
    ours = found(whole, Rules("ATE"), "sample", True)
    assert ours.estimate[0] == number(1785.1903936201911)
    assert ours.std_error[0] == number(686.7165271617878)


def test_row_21_matching_on_the_propensity(nsw: pd.DataFrame) -> None:
    """R's Match prints 2153.3 (825.4) and 346 pairs: ties are squared distances within 1e-5 of the variance."""
    n = nsw
    squares = [n[name] ** power for name in ("age", "educ", "re74", "re75") for power in (1, 2)]
    others = [n.re74 == 0, n.re75 == 0, n.black, n.hisp, n.marr, n.nodegree]
    t = n.treat.to_numpy()
    e = propensity(np.column_stack([*squares, *others]).astype(float), t)
    rules = Rules("ATT", tolerance=1e-5 * float(e.var(ddof=1)), neighbours=1)
    whole = points(e, t, n.re78.to_numpy())
    ours = found(whole, rules, "population", True)
    assert ours.estimate[0] == number(2153.303667316707)
    assert len(matches(whole, rules, True).treated) == 346
    assert ours.std_error[0] == number(825.397927401887)


# 614 rows, without replacement ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lalonde() -> pd.DataFrame:
    assert SPEC is not None and SPEC.submodule_search_locations
    table = pd.read_csv(Path(SPEC.submodule_search_locations[0]) / "data" / "lalonde.csv")
    return table.assign(black=table.race == "black").astype(dict.fromkeys(COVARIATES, float))


def by_pairs(table: pd.DataFrame, columns: tuple[str, ...], caliper: float = math.inf) -> tuple[Points, Rules, Effect]:
    """Largest propensity first, the nearest control that is left, the lower of two."""
    x, t = table[list(columns)].to_numpy(), table.treat.to_numpy()
    e = propensity(x, t)
    whole = points(e, t, table.re78.to_numpy(dtype=float), np.column_stack([e, table[list(COVARIATES)]]))
    rules = Rules("ATT", order="largest", caliper=caliper * float(e.std(ddof=1)))
    return whole, rules, without_replacement(sums_without_replacement(whole, rules)[0], rules)


def balances(whole: Points, rules: Rules) -> dict[str, balance.Balance]:
    names = ("ps", *COVARIATES)
    cuts = [balance.cut_points(column) for column in whole.covariates.T]
    centre, t = whole.covariates.mean(axis=0), whole.treated.astype(float)
    after = balance.sums(whole.covariates, t, matches(whole, rules, False).weight, cuts, centre)
    before = balance.sums(whole.covariates, t, np.ones(len(t)), cuts, centre)
    return dict(zip(names, balance.solve(after, before, cuts, centre), strict=True))


def test_row_9_pairs(lalonde: pd.DataFrame) -> None:
    """MatchIt's vignette prints 0.9739 and 0.0718."""
    whole, rules, ours = by_pairs(lalonde, COVARIATES)
    assert (ours.matched, ours.used) == (185, 185)
    assert ours.estimate[0] == number(894.3674802702703)
    assert ours.std_error[0] == pytest.approx(715.763, abs=5e-4)
    smd = {name: round(found.smd, 4) for name, found in balances(whole, rules).items()}
    assert (smd["ps"], smd["age"], smd["educ"]) == (0.9739, 0.0718, -0.1290)


def test_row_10_balance_of_pairs(lalonde: pd.DataFrame) -> None:
    """Printed by MatchIt 4.5.1 for treat ~ age + educ."""
    whole, rules, ours = by_pairs(lalonde, ("age", "educ"))
    after = balances(whole, rules)
    names = ("ps", "age", "educ")
    assert ours.matched == 185
    assert [round(after[name].smd, 4) for name in names] == [0.0094, -0.0068, 0.0296]
    assert [round(after[name].variance_ratio, 4) for name in names] == [0.9963, 1.0300, 0.5886]


def test_row_11_pairs_within_a_caliper(lalonde: pd.DataFrame) -> None:
    """A fifth of the standard deviation of the propensity over all rows."""
    _, _, ours = by_pairs(lalonde, COVARIATES, 0.2)
    assert (ours.matched, ours.n) == (113, 185)
    assert ours.estimate[0] == number(1571.744454424779)
    assert ours.std_error[0] == number(999.4230460315907)


# several covariates ---------------------------------------------------------------------------------------------------


def test_row_13_mahalanobis(lalonde: pd.DataFrame) -> None:
    """MatchIt's README prints the control means; 23 treated rows have exact ties, and averaged they give this effect.

    The pooled covariance within the arms, of the three levels of race as well.
    """
    t = lalonde.treat.to_numpy()
    levels = [lalonde.race == level for level in ("black", "hispan", "white")]
    columns = lalonde[["age", "educ", "married", "nodegree", "re74", "re75"]].to_numpy(dtype=float)
    x = np.column_stack([*levels, columns]).astype(float)
    centred = x - np.where(t[:, None] == 1, x[t == 1].mean(axis=0), x[t == 0].mean(axis=0))
    rules = Rules("ATT", metric=metric.whitening(centred.T @ centred, len(x) - 2))
    ours = found(points(np.zeros(len(t)), t, lalonde.re78.to_numpy(dtype=float), x), rules)
    assert ours.matched == 185
    assert ours.estimate[0] == number(382.90247286486476)


@pytest.mark.parametrize(
    ("estimand", "ratio", "estimate", "error"),
    [
        ("ATE", 1, 1714.4045019840669, 740.1290636718358),
        ("ATT", 1, 1726.9104186065163, 836.6296849654215),
        ("ATE", 3, 1536.301482370252, 661.9302941147799),
    ],
)
def test_row_20_inverse_variances(nsw: pd.DataFrame, estimand, ratio: int, estimate: float, error: float) -> None:  # type: ignore
    """Imbens' nnmatch prints 1714.407 (740.1292) for the first."""
    x = nsw[["age", "educ", "re74", "re75"]].to_numpy()
    rules = Rules(estimand, ratio=ratio, metric=np.diag(1 / x.std(axis=0, ddof=1)))
    whole = points(np.zeros(len(x)), nsw.treat.to_numpy(), nsw.re78.to_numpy(), x)
    ours = found(whole, rules, "sample", True)
    assert ours.estimate[0] == number(estimate)
    assert ours.std_error[0] == number(error)
