"""Numbers on balance and on sensitivity that others have published or printed, reproduced by the solvers.

A tolerance is named by its reason:

- ``printed("0.0794")``: a printed number is right to half a unit of its last digit, and we ask for no less;
- ``same(x)``: 14 or more printed digits of the same algebra in another order of operations, relative 1e-12.
"""

from __future__ import annotations

import importlib.util
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from causal_spark.solve.balance import Balance, cut_points, effective_sizes, solve, sums
from causal_spark.solve.sensitivity import (
    Confounder,
    adjusted,
    benchmark,
    e_value,
    partial_r2,
    robustness,
    signed_rank_p,
    signed_ranks,
)


def printed(text: str) -> object:
    """The number as printed, right to half a unit of its last digit (and a rounding of that half unit)."""
    exponent = Decimal(text).as_tuple().exponent
    assert isinstance(exponent, int)
    return pytest.approx(float(text), rel=0, abs=0.5000001 * 10.0**exponent)


def same(value: float) -> object:
    """Equal but for the roundings of another order of operations."""
    return pytest.approx(value, rel=1e-12, abs=1e-14)


# balance of the LaLonde data (MatchIt, README and vignette) ----------------------------------------------------------

COVARIATES = ("age", "educ", "black", "hispan", "white", "married", "nodegree", "re74", "re75")


def lalonde() -> pd.DataFrame:
    """The 614 rows that MatchIt ships, with race as three indicators, from the files of causalpy (not imported)."""
    found = importlib.util.find_spec("causalpy")
    if found is None or found.origin is None:
        pytest.skip("causalpy, whose files hold the LaLonde data of 614 rows, is not installed")
    frame = pd.read_csv(Path(found.origin).parent / "data" / "lalonde.csv")
    if "race" in frame:
        race = frame["race"].str.lower()
        frame = frame.assign(black=race == "black", hispan=race.str.startswith("hispan"), white=race == "white")
    return frame[["treat", *COVARIATES]].astype(float)


def balance(x: np.ndarray, t: np.ndarray) -> list[Balance]:
    cuts = [cut_points(column, len(column)) for column in x.T]
    found = sums(x, t, np.ones(len(x)), cuts, x.mean(axis=0))
    return list(solve(found, found, cuts, x.mean(axis=0)))


def test_balance_of_lalonde_before_matching() -> None:
    frame = lalonde()
    assert len(frame) == 614
    x, t = frame[list(COVARIATES)].to_numpy(), frame["treat"].to_numpy()
    # White is what the other races leave over: not in the score
    score = sm.Logit(t, sm.add_constant(np.delete(x, COVARIATES.index("white"), axis=1))).fit(disp=0).predict()
    ours = dict(zip(("distance", *COVARIATES), balance(np.column_stack([score, x]), t), strict=True))
    differences = (
        "1.7941", "-0.3094", "0.0550", "1.7615", "-0.3498", "-1.8819", "-0.8263", "0.2450", "-0.7211", "-0.2903",
    )  # fmt: skip
    for name, expected in zip(ours, differences, strict=True):
        assert ours[name].smd == printed(expected), name
    continuous = {
        "age": ("0.4400", "0.0813", "0.1577"),
        "educ": ("0.4959", "0.0347", "0.1114"),
        "re74": ("0.5181", "0.2248", "0.4470"),
        "re75": ("0.9563", "0.1342", "0.2876"),
    }
    for name, expected in continuous.items():
        found = (ours[name].variance_ratio, ours[name].ecdf_mean, ours[name].ks)
        assert found == tuple(printed(text) for text in expected), name


@pytest.mark.parametrize(
    ("treated", "control", "smd", "apart"),
    [
        (156, 87, "1.7615", "0.6404"),
        (11, 61, "-0.3498", "0.0827"),
        (18, 281, "-1.8819", "0.5577"),
        (35, 220, "-0.8263", "0.3236"),
        (131, 256, "0.2450", "0.1114"),
    ],
    ids=["black", "hispan", "white", "married", "nodegree"],
)
def test_balance_of_the_binary_covariates_of_lalonde(treated: int, control: int, smd: str, apart: str) -> None:
    """From their counts among 185 treated and 429 controls."""
    t = np.repeat([1, 0], [185, 429])
    x = np.concatenate([np.arange(185) < treated, np.arange(429) < control]).astype(float)[:, None]
    ours = balance(x, t)[0]
    assert ours.smd == printed(smd)
    assert ours.ks == printed(apart)
    assert ours.ecdf_mean == printed(apart)
    assert np.isnan(ours.variance_ratio)


def test_effective_sizes_of_lalonde_weighted_for_the_ate() -> None:
    """WeightIt README: 329.008 and 58.327."""
    frame = lalonde()
    x, t = frame[list(COVARIATES)].drop(columns="white").to_numpy(), frame["treat"].to_numpy()
    e = sm.Logit(t, sm.add_constant(x)).fit(disp=0, tol=1e-12).predict()
    cuts = [cut_points(column) for column in x.T]
    ours = effective_sizes(sums(x, t, np.where(t == 1, 1 / e, 1 / (1 - e)), cuts, x.mean(axis=0)))
    assert ours == (printed("58.327"), printed("329.008"))


# E-values (VanderWeele & Ding 2017) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(3.9, 7.263034344160047), (1.8, 3.0), (0.80, 1.8090169943749475), (1 / 0.80, 1.8090169943749475)],
)
def test_e_value(ratio: float, expected: float) -> None:
    assert e_value(ratio).estimate == same(expected)


def test_e_value_of_the_published_example() -> None:
    """Respiratory death by bottle feeding: risk ratio 3.9 (1.8 to 8.7)."""
    ours = e_value(3.9, 1.8, 8.7)
    assert ours.estimate == printed("7.26")
    assert ours.limit == printed("3.0")


# Rosenbaum's Γ ------------------------------------------------------------------------------------------------------


def pairs(n: int, statistic: int) -> np.ndarray:
    """Differences ±1 … ±n whose positive ranks add up to ``statistic``."""
    d = -np.arange(1.0, n + 1)
    for rank in range(n, 0, -1):
        if rank <= statistic:
            d[rank - 1], statistic = rank, statistic - rank
    return d


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (1.0, 0.04165411332365703),
        (1.1, 0.09616341785382082),
        (1.25, 0.23145941218774524),
        (1.5, 0.5294267762069914),
        (2.0, 0.9118838008264624),
    ],
)
def test_bounds_of_signed_ranks_of_108_pairs(gamma: float, expected: float) -> None:
    """108 pairs whose difference is not zero, positive ranks of 3508; only these two numbers enter."""
    ranks = signed_ranks(np.append(pairs(108, 3508), [0.0] * 77))
    assert (ranks.pairs, ranks.statistic) == (108, 3508)
    assert signed_rank_p(ranks, gamma) == same(expected)


def test_bounds_of_signed_ranks_by_the_formula() -> None:
    """Rosenbaum (2002, §4.3.3), written out for pairs without ties: p⁺n(n + 1)/2 and p⁺(1 - p⁺)n(n + 1)(2n + 1)/6."""
    n, w, gamma = 108, 3508, 1.3
    share = gamma / (1 + gamma)
    variance = share * (1 - share) * n * (n + 1) * (2 * n + 1) / 6
    expected = stats.norm.sf((w - share * n * (n + 1) / 2) / variance**0.5)
    assert signed_rank_p(signed_ranks(pairs(n, w)), gamma) == same(expected)


# robustness values: violence and attitudes in Darfur (Cinelli & Hazlett 2020; the tests of sensemakr) ---------------

DARFUR = (0.09731581928495575, 0.023256537809811115, 783.0)


def test_robustness_values_of_darfur() -> None:
    ours = robustness(*DARFUR)
    assert ours.partial_r2 == partial_r2(*DARFUR) == same(0.021873093341109522)
    assert ours.value == same(0.1387763538935877)
    assert ours.value_alpha == same(0.07625796554485662)
    percent = [100 * value for value in vars(ours).values()]
    assert percent == [printed("2.2"), printed("13.9"), printed("7.6")]


@pytest.mark.parametrize(
    ("times", "r2_treatment", "r2_outcome", "estimate", "error", "statistic", "interval"),
    [
        (1, 0.00916428667504862, 0.12464092303637, 0.0752202712144491, 0.0218733277437572, 3.43890386024675,
         ("0.032282966", "0.11815758")),
        (2, 0.0183285733500972, 0.249324064199975, 0.0529151723844518, 0.0203500620779637, 2.60024623913809,
         ("0.012968035", "0.09286231")),
        (3, 0.0274928600251459, 0.374050471038094, 0.0303960234641548, 0.0186700648170924, 1.62806202131271,
         ("-0.006253282", "0.06704533")),
    ],
)  # fmt: skip
def test_confounder_some_times_as_strong_as_being_female(
    times: int,
    r2_treatment: float,
    r2_outcome: float,
    estimate: float,
    error: float,
    statistic: float,
    interval: tuple[str, str],
) -> None:
    """The partial R² of the covariate itself are not printed: they follow from the bounds of the first row."""
    d = 0.00916428667504862 / (1 + 0.00916428667504862)
    root = d / (1 - d)  # of the partial R² that conditioning on the treatment makes
    f2 = 0.12464092303637 * (1 - root**2) / (1 + root) ** 2
    bound = benchmark(Confounder(d, f2 / (1 + f2)), times, times)
    assert (bound.r2_treatment, bound.r2_outcome) == (same(r2_treatment), same(r2_outcome))
    ours = adjusted(*DARFUR, bound)
    # The 14 digits of the bounds and of the estimate leave a relative 1e-11 of a difference of the two
    found = (ours.estimate, ours.std_error, ours.statistic)
    assert found == pytest.approx((estimate, error, statistic), rel=1e-11)
    # Printed are limits with the critical value of 783 degrees of freedom; with the confounder there are 782
    half = stats.t.isf(0.025, 783) * ours.std_error
    assert (ours.estimate - half, ours.estimate + half) == tuple(map(printed, interval))
    assert (ours.low, ours.high) == pytest.approx((ours.estimate - half, ours.estimate + half), abs=1e-5 * half)
    assert ours.dof == 782
