"""Sizes, smallest effects and power of the design job invert each other for every metric, arm and alternative."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.config import build
from causal_spark.methods.design import Compressed, Design, planned, solve
from causal_spark.methods.design.compressed import Drawn, Spread
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK

RNG = np.random.default_rng(2)
X = RNG.normal(size=500)
CELLS = {
    "m": Moments.from_rows(["v [refuse]", "x [zero]"], np.column_stack([3 + X + RNG.normal(size=500), X])),
    "p": Moments.from_rows(["b [refuse]"], (np.arange(500) < 150)[:, None].astype(float)),
    "r": Moments.from_rows(["n [refuse]", "d [refuse]"], RNG.poisson([2, 5], (500, 2)) + np.array([0, 1])),
    "held": Moments.from_rows(["v [refuse]"], (3 + X)[:, None]),
    "same": Moments.from_rows(["b [refuse]"], (np.arange(500) < 150)[:, None].astype(float)),
}
METRICS = [
    {"name": "m", "kind": "mean", "value": "v", "covariates": ["x"]},
    {"name": "p", "kind": "proportion", "value": "b"},
    {"name": "r", "kind": "ratio", "numerator": "n", "denominator": "d"},
    {
        "name": "held",
        "kind": "mean",
        "value": "v",
        "test": "non-inferiority",
        "margin": {"absolute": 0.2},
        "quantiles": [0.9],
    },
    {"name": "same", "kind": "proportion", "value": "b", "test": "equivalence", "margin": {"relative": 0.1}},
]
NINTH = Spread("held", 0.9, 4.3, 2.9, 500)


def asked(**changes: object) -> Design:
    return build(Design, {"unit": "id", "metrics": METRICS, **changes}, "method")


def history(**more: object) -> Compressed:
    cells = {("all", name): part for name, part in CELLS.items()}
    facts = {"rows": 500, "caps": {}}
    return Compressed(Grouped(("arm", BLOCK), cells), asked().metrics, facts, quantiles=(NINTH,), **more)  # type: ignore


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lift=st.floats(0.005, 0.3), alpha=st.floats(1e-3, 0.2), power=st.floats(0.4, 0.99), small=st.floats(0.05, 0.3),
    side=st.sampled_from(["two-sided", "greater", "less"]), formula=st.sampled_from(["pooled", "unpooled", "control"]),
)  # fmt: skip
def test_inverses(lift: float, alpha: float, power: float, small: float, side: str, formula: str) -> None:
    """Closed forms but for shares, whose root is found to its last digits, hence 1e-7."""
    shares = {"control": 0.5, "a": 0.5 - small, "b": small}
    method = asked(alpha=alpha, power=power, alternative=side, proportions=formula, shares=shares)
    for subject in planned.subjects(method, history()):
        effect = lift * subject.mean
        units = planned.needed(method, subject, effect, planned.split(method), planned.level(method, subject))
        assert planned.smallest(method, subject, units) == pytest.approx(effect, rel=1e-7), subject
        assert planned.chance(method, subject, effect, units) == pytest.approx(power, rel=1e-9), subject
        found = planned.arms_needed(method, subject, effect)
        assert found is not None
        assert 0 <= found.units - units <= 3


def test_every_metric_has_its_tests_and_formulas() -> None:
    found = [(s.outcome, s.test, s.formula) for s in planned.subjects(asked(), history())]
    assert found == [
        ("m", "welch", "welch"), ("m", "cuped", "cuped"), ("p", "z", "z_pooled"), ("r", "delta", "delta"),
        ("held", "welch", "non_inferiority"), ("held p90", "quantile", "quantile"), ("same", "z", "equivalence"),
    ]  # fmt: skip
    plain, adjusted = planned.subjects(asked(), history())[:2]
    assert adjusted.variance == pytest.approx(plain.variance * (1 - adjusted.rho2), rel=1e-12)


def test_margins_have_their_own_level_and_sizes() -> None:
    """Chow, Shao & Wang (2008), ch. 3, with z of 0.05, 0.2 and 0.1 (scipy): whatever alpha and the effects are."""
    method = asked(shares={"control": 0.5, "a": 0.25, "b": 0.25}, alternative="less", alpha=0.01)
    sizes = solve(method, history()).diagnostics["sizes"].set_index("outcome")
    v, p = float(CELLS["held"].covariance[0, 0]), 0.3
    held = (1.6448536269514722 + 0.8416212335729143) ** 2 * v * (1 / 0.25 + 1 / 0.5) / 0.2**2
    same = (1.6448536269514722 + 1.2815515655446004) ** 2 * p * (1 - p) * 500 / 499 * 6 / 0.03**2
    for name, units in (("held", held), ("same", same)):
        row = sizes.loc[name]
        assert 0 <= row["units"] - units <= 3
        assert row["alpha"] == 0.05
    assert sizes.loc["held", "goal"] == "non-inferiority"
    assert sizes.loc["same", "lift"] == pytest.approx(0.1)
    assert sizes.loc[["held p90"], "effect"].tolist() == pytest.approx([lift * 4.3 for lift in method.lifts])
    terms = set(solve(method, history()).estimates["term"])
    assert {"sample_size margin=0.1", "margin units=500", "power units=500 margin=0.1"} <= terms


def test_a_quantile_that_history_does_not_tell_has_a_reason() -> None:
    unknown = replace(history(), quantiles=(replace(NINTH, variance=math.nan),))
    tables = solve(asked(), unknown).diagnostics
    for name, value in (("sizes", "units"), ("detectable", "effect"), ("power", "power")):
        rows = tables[name][tables[name]["outcome"] == "held p90"]
        assert rows[value].isna().all()
        assert rows["note"].str.contains("does not tell").all()


def test_several_covariates_have_one_r_squared() -> None:
    """R² of the regression on all of them (statsmodels); one that repeats another changes nothing."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(500, 2))
    y = x @ [1.0, 0.5] + rng.normal(size=500)
    rows = np.column_stack([y, x, 2 * x[:, 0]])
    part = Moments.from_rows(["y [refuse]", "a [zero]", "b [zero]", "c [zero]"], rows)
    metrics = [{"name": "y", "kind": "mean", "value": "y", "covariates": ["a", "b", "c"]}]
    method = asked(metrics=metrics)
    found = Compressed(Grouped(("arm", BLOCK), {("all", "y"): part}), method.metrics, {"rows": 500, "caps": {}})
    plain, adjusted = planned.subjects(method, found)
    r2 = sm.OLS(y, sm.add_constant(x)).fit().rsquared
    assert adjusted.rho2 == pytest.approx(r2, rel=1e-10)
    assert adjusted.variance == pytest.approx(plain.variance * (1 - r2), rel=1e-10)


def test_weekdays_count_days_without_units() -> None:
    """Day 4 is a Monday (5 January 1970). Three weeks with units on Mondays alone; the last two count."""
    days = [(4, 10), (11, 20), (18, 40), (24, 1)]
    assert planned.by_weekday(asked(recent_days=14), days) == (30.0, 0, 0, 0, 0, 0, 0.5)
    assert planned.by_weekday(asked(recent_days=14, traffic=0.5), days) == (15.0, 0, 0, 0, 0, 0, 0.25)
    assert planned.by_weekday(asked(), [(4, 10), (9, 3)]) is None
    assert planned.by_weekday(asked(), []) is None


def test_time_that_is_not_known() -> None:
    week = (10.0,) * 7
    assert planned.time_needed(71, week) == (8, 2)
    for units, arrivals in ((71, None), (71, (0.0,) * 7), (1e9, week)):
        assert all(math.isnan(value) for value in planned.time_needed(units, arrivals))


def test_a_day_before_the_first_arrival_has_a_reason() -> None:
    """New units come on Sundays alone; day 1 is a Monday."""
    tables = solve(asked(days=[1, 7]), history(arrivals=((3, 10), (10, 20)))).diagnostics
    for name, value in (("detectable", "effect"), ("power", "power")):
        first, later = (tables[name][tables[name]["days"] == day] for day in (1, 7))
        assert set(first["outcome"]) == set(later["outcome"]) == {"m", "p", "r", "held", "held p90", "same"}
        assert first[value].isna().all()
        assert set(first["note"]) == {"No units have come by then."}
        assert later[value].notna().all()
        assert set(later["note"]) == {""}


def test_what_is_compressed_comes_back() -> None:
    rows = ({"covariate": "x", "arm": "control", "smd": math.nan},)
    given = history(arrivals=((4, 10), (5, 3)), splits=(("m", "welch", (0.5, math.nan)),),
                    drawn=Drawn("s/3", {"control": 5}, 3, 10, balance=rows))  # fmt: skip
    again = Compressed.from_json(given.to_json())
    assert again.to_json() == given.to_json()
    assert again.arrivals == given.arrivals
    assert again.quantiles == (NINTH,)
    assert math.isnan(again.splits[0][2][1])
    assert again.drawn is not None
    assert math.isnan(again.drawn.distance)
    assert again.drawn.counts == {"control": 5}
