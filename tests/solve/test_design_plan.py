"""Sizes, smallest effects and power of the design job invert each other for every metric, arm and alternative."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.config import build
from causal_spark.methods.design import Compressed, Design, planned
from causal_spark.methods.design.compressed import Drawn
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK

RNG = np.random.default_rng(2)
X = RNG.normal(size=500)
CELLS = {
    "m": Moments.from_rows(["v [refuse]", "x [zero]"], np.column_stack([3 + X + RNG.normal(size=500), X])),
    "p": Moments.from_rows(["b [refuse]"], (np.arange(500) < 150)[:, None].astype(float)),
    "r": Moments.from_rows(["n [refuse]", "d [refuse]"], RNG.poisson([2, 5], (500, 2)) + np.array([0, 1])),
}
METRICS = [
    {"name": "m", "kind": "mean", "value": "v", "covariates": ["x"]},
    {"name": "p", "kind": "proportion", "value": "b"},
    {"name": "r", "kind": "ratio", "numerator": "n", "denominator": "d"},
]


def asked(**changes: object) -> Design:
    return build(Design, {"unit": "id", "metrics": METRICS, **changes}, "method")


def history(**more: object) -> Compressed:
    cells = {("all", name): part for name, part in CELLS.items()}
    return Compressed(Grouped(("arm", BLOCK), cells), asked().metrics, {"rows": 500, "caps": {}}, **more)  # type: ignore


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lift=st.floats(0.005, 0.3), alpha=st.floats(1e-3, 0.2), power=st.floats(0.4, 0.99), small=st.floats(0.05, 0.3),
    side=st.sampled_from(["two-sided", "greater", "less"]), formula=st.sampled_from(["pooled", "unpooled", "control"]),
)  # fmt: skip
def test_inverses(lift: float, alpha: float, power: float, small: float, side: str, formula: str) -> None:
    """Closed forms for means and ratios; the root of a share is found to its last digits, hence 1e-7."""
    shares = {"control": 0.5, "a": 0.5 - small, "b": small}
    method = asked(alpha=alpha, power=power, alternative=side, proportions=formula, shares=shares)
    for subject in planned.subjects(method, history()):
        effect = lift * subject.mean
        units = planned.needed(method, subject, effect, planned.split(method), method.level)
        assert planned.smallest(method, subject, units) == pytest.approx(effect, rel=1e-7), subject
        assert planned.chance(method, subject, effect, units) == pytest.approx(power, rel=1e-9), subject
        found = planned.arms_needed(method, subject, effect)
        assert found is not None
        assert 0 <= found.units - units <= 3


def test_every_metric_has_its_tests_and_formulas() -> None:
    found = [(s.outcome, s.test, s.formula) for s in planned.subjects(asked(), history())]
    assert found == [("m", "welch", "welch"), ("m", "cuped", "cuped"), ("p", "z", "z_pooled"), ("r", "delta", "delta")]
    plain, adjusted = planned.subjects(asked(), history())[:2]
    assert adjusted.variance == pytest.approx(plain.variance * (1 - adjusted.rho2), rel=1e-12)


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


def test_what_is_compressed_comes_back() -> None:
    rows = ({"covariate": "x", "arm": "control", "smd": math.nan},)
    given = history(arrivals=((4, 10), (5, 3)), splits=(("m", "welch", (0.5, math.nan)),),
                    drawn=Drawn("s/3", {"control": 5}, 3, 10, balance=rows))  # fmt: skip
    again = Compressed.from_json(given.to_json())
    assert again.to_json() == given.to_json()
    assert again.arrivals == given.arrivals
    assert math.isnan(again.splits[0][2][1])
    assert again.drawn is not None
    assert math.isnan(again.drawn.distance)
    assert again.drawn.counts == {"control": 5}
