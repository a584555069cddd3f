"""Intervals of every model: derivatives of long chains, fewer replicates where one is slow, and what the notes say."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from causal_spark.methods.attribution import Attribution, Compressed, Paths, credits, markov, plan, solve
from causal_spark.methods.attribution.credits import Segment
from causal_spark.methods.attribution.solve import spread
from causal_spark.simulate_journeys import START, JourneyDesign, journeys
from tests.journey_buckets import DAY, credit, of_events, of_paths

EVERY = ("first", "last", "linear", "u_shape", "time_decay", "markov_1", "markov_2", "markov_3", "markov_4", "shapley",
         "shapley_ordered", "shapley_rate", "logistic", "additive_hazard")  # fmt: skip
METHOD = Attribution(models=EVERY, person="p", time="t", channel="c", value="v", replicates=80, top_paths=0)


@cache
def made(method: Attribution = METHOD) -> Compressed:
    log = journeys(600, 3, JourneyDesign(channels=4, most=60))
    touches = [(r["user_id"], (r["t"] - START) / DAY, r["channel"]) for r in rows(log.touches)]
    bought = [(r["user_id"], (r["t"] - START) / DAY, r["revenue"]) for r in rows(log.conversions)]
    return of_events(method, touches, bought, as_of=90, buckets=1)


def rows(table) -> list[dict]:
    return table.append_column("t", table.column("ts").cast("int64")).to_pylist()


def test_every_model_has_an_interval() -> None:
    frame = solve(METHOD, made()).estimates
    mine = frame[(frame["outcome"] == "conversions") & ~frame["term"].str.startswith("(")]
    assert set(mine["method"]) == set(EVERY)
    assert (mine["std_error"] > 0).all()
    assert ((mine["conf_low"] <= mine["estimate"]) & (mine["estimate"] <= mine["conf_high"])).all()


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("nulls", [True, False])
def test_the_first_order_is_the_derivative(order: int, nulls: bool) -> None:
    """Against the difference of two exact solutions at counts moved by a millionth of a replicate."""
    part = Segment(METHOD, made(), 0).sums(f"markov_{order}")
    shape = markov.Steps.of(part.key, order, 4)
    moved = part.base + 1e-6 * (part.replicates[:2] - part.base)
    value, first = markov.linear_effects(shape, part.base, moved, nulls)
    exact = [markov.effects(shape, 1, each, part.replicates[:0], nulls).value for each in moved]
    # the second order is 1e-12, and the difference of numbers of 1 is rounded at 1e-16
    assert first - value == pytest.approx(np.stack(exact) - value, abs=1e-10)
    assert np.abs(first - value).max() > 1e-8


@pytest.mark.parametrize("model", ["markov_1", "markov_2"])
def test_first_order_errors_are_those_of_solved_chains(model: str, monkeypatch) -> None:
    segment = Segment(METHOD, made(), 0)
    solved = segment.credit(model)
    monkeypatch.setattr(markov, "SOLVED_STATES", 0)
    linear = segment.credit(model)
    assert solved.notes == () and linear.notes == ("note_linear_chain",)
    assert linear.value == pytest.approx(solved.value, rel=1e-10)
    ratio = spread(linear.replicates) / spread(solved.replicates)
    # the same replicates; what is left is the second order, a tenth of the first where a credit is known to a fifth
    assert (np.abs(ratio - 1) < 0.25).all(), ratio
    assert abs(ratio.mean() - 1) < 0.1


def test_slow_models_have_fewer_replicates_and_say_so(monkeypatch) -> None:
    monkeypatch.setattr(credits, "WORK", 1.0)
    frame = solve(METHOD, made()).estimates
    for model in ("shapley_rate", "logistic", "additive_hazard"):
        mine = frame[(frame["method"] == model) & ~frame["term"].str.startswith("(")]
        assert (mine["std_error"] > 0).all(), model
        assert mine["note"].str.contains("10 of 80 replicates").all(), model


def test_long_chains_have_the_replicates_that_fit(monkeypatch) -> None:
    cells = 125 * 6 * 3  # of order 3 with four channels, three numbers each
    for room, kept in ((20.5, 20), (9.5, 10)):  # ten at least
        monkeypatch.setattr(plan, "NUMBERS", int(cells * room))
        method = replace(METHOD, models=("markov_3",), window_days=30 + 1e-9 * room)
        result = solve(method, made(method)).estimates
        mine = result[(result["method"] == "markov_3") & ~result["term"].str.startswith("(")]
        assert mine["note"].str.contains(f"{kept} of 80").all()
        assert (mine["std_error"] > 0).all()


def test_sampled_games_add_the_error_of_the_sample() -> None:
    method = replace(METHOD, permutations=200)
    segment = Segment(method, made(), 0)
    part = segment.sums("sets")
    both = segment._rate_sampled(part, ())
    alone = segment._rate_sampled(replace(part, replicates=part.replicates[:0]), ())
    assert both.std_error is not None and alone.std_error is not None
    assert both.value == pytest.approx(alone.value, rel=1e-12)
    assert (both.std_error > alone.std_error).all()
    exact = spread(segment.credit("shapley_rate").replicates)
    assert exact is not None
    within = np.sqrt(both.std_error**2 - alone.std_error**2) / exact
    # 80 replicates on 100 pairs of permutations against 80 exact ones
    assert (np.abs(within - 1) < 0.35).all(), within


def test_ready_paths_have_intervals_and_say_of_what() -> None:
    method = Attribution(models=("linear", "markov_1", "markov_3", "shapley_rate"), paths=Paths(nulls="total_null"),
                         replicates=40)  # fmt: skip
    counts = [("a > b > c", 40, 100), ("a", 30, 200), ("b > c", 20, 90), ("c > a", 50, 80), ("a > a > b", 10, 300)]
    frame = pd.DataFrame(counts, columns=["path", "total_conversions", "total_null"])
    found = solve(method, of_paths(method, frame)).estimates
    mine = found[~found["term"].str.startswith("(")]
    assert (mine["std_error"] > 0).all()
    assert mine["note"].str.contains("as if each were a person").all()
    # 150 conversions as Poisson counts: linear credit of a sum of shares s has the variance Σ s² n
    shares = {"a": 40 / 9 + 30 + 50 / 4 + 10 * 4 / 9, "b": 40 / 9 + 20 / 4 + 10 / 9, "c": 40 / 9 + 20 / 4 + 50 / 4}
    errors = mine[(mine["method"] == "linear")].set_index("term")["std_error"]
    for channel, variance in shares.items():
        # the standard deviation of 40 values is known to 11 %
        assert errors[channel] == pytest.approx(np.sqrt(variance), rel=0.45)


def test_additive_hazard_of_known_journeys() -> None:
    """Two channels that never meet: the rate is conversions by the time that the channel was at work."""
    touches = [("ann", 0, "x"), ("bob", 0, "x"), ("eve", 0, "y")]
    method = replace(METHOD, models=("additive_hazard",), window_days=10, replicates=0)
    result = solve(method, of_events(method, touches, [("ann", 4, 1.0), ("eve", 5, 2.0)], as_of=100))
    assert credit(result, "additive_hazard", "value") == {"x": 1.0, "y": 2.0, "(unattributed)": 0.0}
    rates = result.diagnostics["hazards"].set_index("channel")["per_day"]
    # 4 and 10 days of x, 5 of y, and a second for each touch
    assert rates.to_dict() == pytest.approx({"x": 1 / 14, "y": 1 / 5}, rel=1e-5)


def test_additive_hazard_shares_by_rate() -> None:
    """x alone converts at 1/14 a day, y alone at 1/5; of a conversion after both x has its share of the sum."""
    touches = [("ann", 0, "x"), ("bob", 0, "x"), ("eve", 0, "y"), ("joe", 0, "x"), ("joe", 0.001, "y")]
    bought = [("ann", 4, 1.0), ("eve", 5, 1.0), ("joe", 0.002, 1.0)]
    method = replace(METHOD, models=("additive_hazard",), window_days=10, replicates=0)
    result = solve(method, of_events(method, touches, bought, as_of=100))
    found = credit(result, "additive_hazard")
    rates = result.diagnostics["hazards"].set_index("channel")["per_day"]
    share = rates["x"] / rates.sum()
    assert found["x"] == pytest.approx(1 + share, rel=1e-9)
    assert found["y"] == pytest.approx(2 - share, rel=1e-9)
    # the third conversion belongs to both in proportion, so the rates solve β = (1 + share) / time
    assert rates["x"] == pytest.approx((1 + share) / 14.002, rel=1e-4)


def test_a_young_journey_is_at_risk_until_the_end_of_the_data() -> None:
    method = replace(METHOD, models=("additive_hazard",), window_days=10, replicates=0, censoring="count")
    result = solve(method, of_events(method, [("ann", 0, "x"), ("bob", 7, "x")], [("ann", 4, 1.0)], as_of=9))
    rates = result.diagnostics["hazards"].set_index("channel")["per_day"]
    assert rates["x"] == pytest.approx(1 / 6, rel=1e-5)
