"""Named parts of the attribution that other tests pass by: every rule in a whole run, the order chosen by held-out
persons, what a young journey counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import Attribution, credits, cutting, solve
from causal_spark.methods.attribution.journeys import Rules
from tests.journey_buckets import DAY, credit, of_events

RULES = Attribution(
    models=("w_shape", "j_shape", "inverse_j", "custom", "participation", "time_decay", "last_non_direct"),
    person="p", time="t", channel="c", value="v", positions=(3, 1, 2), half_life_days=1, decay_step_days=2,
    replicates=0,
)  # fmt: skip


def test_every_rule_of_one_journey() -> None:
    """a, b, c, a, direct on days 1 to 5 and a conversion of 20 on day 6: the shares by hand."""
    touches = [("ann", day, channel) for day, channel in enumerate(("a", "b", "c", "a", "direct"), start=1)]
    result = solve(RULES, of_events(RULES, touches, [("ann", 6, 20.0)]))
    # of custom: 3, 2, 1, 1.5, 2 are 3, 1, 2 stretched over five touches
    # ages 5, 4, 3, 2, 1 are 2, 1, 1, 0, 0 whole steps of two days, each a quarter of the weight: 1, 4, 4, 16, 16 of 41
    expected = {
        "w_shape": (0.3 + 0.05, 0.05, 0.3, 0.3), "j_shape": (0.2 + 0.2 / 3, 0.2 / 3, 0.2 / 3, 0.6),
        "inverse_j": (0.6 + 0.2 / 3, 0.2 / 3, 0.2 / 3, 0.2), "custom": (4.5 / 9.5, 2 / 9.5, 1 / 9.5, 2 / 9.5),
        "participation": (1, 1, 1, 1), "time_decay": (17 / 41, 4 / 41, 4 / 41, 16 / 41),
        "last_non_direct": (1, 0, 0, 0),
    }  # fmt: skip
    for model, shares in expected.items():
        for outcome, total in (("conversions", 1.0), ("value", 20.0)):
            found = credit(result, model, outcome)
            mine = [found[name] for name in ("a", "b", "c", "direct")]
            assert mine == pytest.approx([share * total for share in shares], rel=1e-11), model  # fixed point, 2⁻⁴⁴


def test_steps_lags_and_lengths_of_four_persons() -> None:
    """a > b in 5 days, a > a in 2½ days, b that came to nothing, a conversion without touches: the tables by hand."""
    touches = [("ann", 1, "a"), ("ann", 3, "b"), ("bob", 0, "a"), ("bob", 2, "a"), ("cat", 10, "b")]
    bought = [("ann", 6, 20.0), ("bob", 2.5, 5.0), ("dan", 4, 1.0)]
    method = Attribution(models=("last",), person="p", time="t", channel="c", value="v", replicates=0)
    tables = solve(method, of_events(method, touches, bought)).diagnostics
    third, half = pytest.approx(1 / 3, rel=1e-15), pytest.approx(0.5, rel=1e-15)  # one rounding of a division
    assert rows(tables["transitions"], "origin", "target", "count", "share") == [
        ("(start)", "a", 2, pytest.approx(2 / 3, rel=1e-15)), ("(start)", "b", 1, third),
        ("a", "a", 1, third), ("a", "b", 1, third), ("a", "(conversion)", 1, third),
        ("b", "(conversion)", 1, half), ("b", "(null)", 1, half),
    ]  # fmt: skip
    assert rows(tables["lags"], "since", "day", "conversions", "share") == [
        ("first", 2, 1, half), ("first", 5, 1, 1), ("last", 0, 1, half), ("last", 3, 1, 1),
    ]  # fmt: skip
    assert rows(tables["path_lengths"], "touches", "conversions", "nulls", "rate") == [(1, 0, 1, 0), (2, 2, 0, 1)]


def rows(table: pd.DataFrame, *columns: str) -> list[tuple]:
    return list(table[list(columns)].itertuples(index=False, name=None))


def test_views_have_their_own_window_only_where_they_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="type"):
        Attribution(view_days=60)


def test_the_order_is_that_of_the_steps() -> None:
    """What follows "m" depends on what came before it, and on nothing earlier: order 2."""
    rng = np.random.default_rng(8)
    touches: list[tuple[str, float, str]] = []
    bought: list[tuple[str, float, float]] = []
    for person in range(400):
        first = "xy"[rng.integers(2)]
        path = [*("xyz"[i] for i in rng.integers(0, 3, rng.integers(0, 3))), first, "m", {"x": "u", "y": "v"}[first]]
        touches += [(f"p{person}", day / 10, channel) for day, channel in enumerate(path)]
        if rng.random() < 0.5:
            bought.append((f"p{person}", 1.0, 1.0))
    method = Attribution(models=("markov_auto", "markov_2"), person="p", time="t", channel="c", value="v",
                         max_order=3, replicates=0)  # fmt: skip
    result = solve(method, of_events(method, touches, bought))
    orders = result.diagnostics["orders"].set_index("order")
    assert orders.index.tolist() == [1, 2, 3]
    assert orders.index[orders["chosen"]].tolist() == [2]
    assert credit(result, "markov_auto") == credit(result, "markov_2")


def test_a_young_journey_counts_by_the_conversions_of_its_age() -> None:
    """With half of the conversions within a day and all within three: 0, ½, ½, 1 after 0.9, 1, 2 and 3 days."""
    method = Attribution(models=("last",), person="p", time="t", channel="c", window_days=4, censoring="weight")
    rules = Rules(4 * DAY, 4 * DAY, None, None, None, False, False, 10 * DAY, method.censoring, "none", (), 1,
                           lag=(0.5, 0.5, 1.0, 1.0))  # fmt: skip
    last = np.array([round((10 - age) * DAY) for age in (0.9, 1, 2, 3, 4, 9)])
    assert cutting._null_weight(last, rules).tolist() == [0, 500_000, 500_000, 1_000_000, 1_000_000, 1_000_000]


def test_samples_without_a_conversion_are_samples() -> None:
    """Of three conversions one replicate in twenty has none: it has no credit, and the others keep their interval."""
    touches = [(f"p{i}", day, "abc"[(i + day) % 3]) for i in range(30) for day in range(1 + i % 3)]
    bought = [(f"p{i}", 5.0, 1.0) for i in (1, 5, 9)]
    method = Attribution(models=("markov_1", "logistic", "additive_hazard", "shapley_rate"), person="p", time="t",
                         channel="c", value="v", replicates=200)  # fmt: skip
    made = of_events(method, touches, bought)
    assert (credits.Segment(method, made, 0).attributed_replicates[:, 0] == 0).any()
    frame = solve(method, made).estimates
    mine = frame[~frame["term"].str.startswith("(")]
    assert (mine["std_error"] > 0).all() and mine["estimate"].notna().all()
    none = solve(method, of_events(method, touches, [("eve", 1.0, 1.0)])).estimates
    assert (none[~none["term"].str.startswith("(")]["estimate"] == 0).all()
