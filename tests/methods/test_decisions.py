"""Margins, the decision and the looks of an experiment, from moments made by hand: no engine."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_spark import job
from causal_spark.config import build
from causal_spark.errors import ConfigError
from causal_spark.methods.experiment import Compressed, Experiment, Margin, looks, plan, solve
from causal_spark.report.page import figures, render
from causal_spark.results import Result
from causal_spark.solve.always_valid import always_valid, mixing_variance
from causal_spark.solve.multiplicity import adjust
from causal_spark.solve.sequential import Plan, group_sequential
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK
from causal_spark.words import LANGUAGES, say

Arms = Mapping[str, tuple[float, float, float]]  # arm to units, mean, variance

REVENUE = {"name": "revenue", "kind": "mean", "value": "revenue"}
GUARD = {"name": "latency", "kind": "mean", "value": "latency", "role": "guardrail", "good": "decrease"}
RELATIVE = {**GUARD, "test": "non-inferiority", "margin": {"relative": 0.02}}


def method(*metrics: Mapping[str, Any], **more: Any) -> Experiment:
    base = {"unit": "id", "arm": "arm", "control": "a", "metrics": list(metrics) or [REVENUE]}
    return build(Experiment, {**base, **more}, "method")


def compressed(given: Experiment, found: Mapping[str, Arms], told: Mapping[str, Any] | None = None) -> Compressed:
    """The moments of each metric in each arm, as the cluster would give them."""
    cells = {}
    for metric in given.metrics:
        for arm, (n, mean, variance) in found[metric.name].items():
            column = plan.block(metric).columns[0].name
            cells[(arm, metric.name)] = Moments((column,), n, np.array([mean]), np.array([[variance * (n - 1)]]))
            cells[(arm, plan.ROWS)] = Moments.constant((), n)
    arms = list(next(iter(found.values())))
    facts = {"arms": dict.fromkeys(arms, 1 / len(arms)), "arm": "arm", "rows": 1, "high": {}, "caps": {},
             "suppressed": [], "nulls": {metric.value: 0 for metric in given.metrics}}  # fmt: skip
    more = {} if told is None else {looks.NAME: told}
    return Compressed(Grouped(("arm", BLOCK), cells), given.metrics, facts, more=more)


def solved(given: Experiment, found: Mapping[str, Arms], language: str = "en", **more: Any) -> Result:
    return solve(given, compressed(given, found, **more), language)


def row_of(result: Result, table: str, **which: Any) -> pd.Series:
    frame = result.estimates if table == "estimates" else result.diagnostics[table]
    for name, value in which.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


# margins ------------------------------------------------------------------------------------------------------------

T, C = (4000, 101.0, 400.0), (5000, 100.0, 900.0)
ERROR = math.sqrt(400 / 4000 + 900 / 5000)
DOF = ERROR**4 / ((400 / 4000) ** 2 / 3999 + (900 / 5000) ** 2 / 4999)


def test_non_inferiority_by_an_absolute_margin() -> None:
    """Welch's statistic moved by the margin: a rise of 1 where less is better, against 2 and against 1.2."""
    for size, state in ((2.0, "safe"), (1.2, "open"), (0.2, "open")):
        guard = {**GUARD, "test": "non-inferiority", "margin": {"absolute": size}}
        row = row_of(
            solved(method(REVENUE, guard), {"revenue": {"a": C, "b": T}, "latency": {"a": C, "b": T}}), "margins"
        )
        assert row.estimate == pytest.approx(1.0)
        assert row.p_value == pytest.approx(stats.t.sf((size - 1) / ERROR, DOF), rel=1e-9)
        assert row.conf_high == pytest.approx(1 + stats.t.isf(0.05, DOF) * ERROR, rel=1e-12)
        assert row.conf_low == -math.inf
        assert (row.state == "safe") == (row.p_value < 0.05) == (row.conf_high < size)
        assert row.state == state


def test_a_metric_beyond_its_margin_for_sure_is_worse() -> None:
    guard = {**GUARD, "test": "non-inferiority", "margin": {"absolute": 0.05}}
    row = row_of(solved(method(REVENUE, guard), {"revenue": {"a": C, "b": T}, "latency": {"a": C, "b": T}}), "margins")
    assert row.state == ("worse" if 1 - stats.t.isf(0.05, DOF) * ERROR > 0.05 else "open") == "worse"


def test_a_relative_margin_is_of_the_lift() -> None:
    """The lift's delta-method error √(v_t/c² + t²·v_c/c⁴)."""
    row = row_of(
        solved(method(REVENUE, RELATIVE), {"revenue": {"a": C, "b": T}, "latency": {"a": C, "b": T}}), "margins"
    )
    error = math.sqrt(0.1 / 100**2 + 101**2 * 0.18 / 100**4)
    assert (row.estimate, row.std_error) == pytest.approx((0.01, error), rel=1e-12)
    assert row.p_value == pytest.approx(stats.t.sf((0.02 - 0.01) / error, DOF), rel=1e-9)
    assert (row.scale, row.margin) == ("relative", 0.02)


@pytest.mark.parametrize(("good", "state"), [("increase", "worse"), ("decrease", "safe")])
def test_a_relative_margin_over_a_control_mean_below_0(good: str, state: str) -> None:
    """From -10 to -12 is a fall by a fifth of the mean's size, though the lift (t - c)/c is +0.2."""
    guard = {**RELATIVE, "good": good}
    found = {"revenue": {"a": C, "b": T}, "latency": {"a": (5000, -10.0, 9.0), "b": (5000, -12.0, 9.0)}}
    row = row_of(solved(method(REVENUE, guard), found), "margins")
    above = {**found, "latency": {"a": (5000, 10.0, 9.0), "b": (5000, 12.0, 9.0)}}
    wanted = row_of(solved(method(REVENUE, {**guard, "good": "decrease" if good == "increase" else "increase"}), above),
                    "margins")  # fmt: skip
    assert (row.estimate, row.state) == (pytest.approx(-0.2), state)
    assert (row.p_value, row.std_error) == pytest.approx((wanted.p_value, wanted.std_error), rel=1e-9)
    assert (row.conf_low, row.conf_high) == pytest.approx((-wanted.conf_high, -wanted.conf_low), rel=1e-9)


def test_a_loss_below_0_does_not_win() -> None:
    kept = {**RELATIVE, "role": "success", "good": "increase", "margin": {"relative": 0.05}}
    found = {"latency": {"a": (5000, -10.0, 9.0), "b": (5000, -12.0, 9.0)}}
    assert decided([kept], found).reason == "success_lost"


def test_equivalence_is_both_one_sided_tests() -> None:
    same = {**GUARD, "role": "diagnostic", "test": "equivalence", "margin": {"absolute": 2.0}}
    row = row_of(solved(method(REVENUE, same), {"revenue": {"a": C, "b": T}, "latency": {"a": C, "b": T}}), "margins")
    lower, upper = (1 + 2) / ERROR, (2 - 1) / ERROR
    assert row.p_value == pytest.approx(max(stats.t.sf(lower, DOF), stats.t.sf(upper, DOF)), rel=1e-9)
    assert (row.conf_low, row.conf_high) == pytest.approx(1 + np.array([-1, 1]) * stats.t.isf(0.05, DOF) * ERROR)


def test_power_of_a_guardrail_with_the_units_at_hand_and_planned() -> None:
    """Φ(δ/se - z), the error shrinking with √n; the units needed have exactly the power asked for."""
    guard = {**GUARD, "test": "non-inferiority", "margin": {"absolute": 0.9}}
    given = method(REVENUE, guard, decision={"least_power": 0.9, "units": 36_000})
    row = row_of(solved(given, {"revenue": {"a": C, "b": T}, "latency": {"a": C, "b": T}}), "margins")
    z = stats.norm.isf(0.05)
    assert row.power == pytest.approx(stats.norm.cdf(0.9 / ERROR - z), rel=1e-12)
    assert row.power_planned == pytest.approx(stats.norm.cdf(0.9 / (ERROR / 2) - z), rel=1e-12)
    assert stats.norm.cdf(0.9 / (ERROR * math.sqrt(9000 / row.units_needed)) - z) == pytest.approx(0.9, rel=1e-12)
    assert row.planned == 36_000


def test_no_table_without_a_margin_or_a_rule() -> None:
    found = solved(method(REVENUE, GUARD), {"revenue": {"a": C, "b": T}, "latency": {"a": C, "b": T}})
    assert not {"margins", "decision", "looks"} & set(found.diagnostics)


# the decision ---------------------------------------------------------------------------------------------------------

FLAT, UP, DOWN = (5000, 100.0, 400.0), (5000, 102.0, 400.0), (5000, 98.0, 400.0)
RULE: dict[str, Any] = {"decision": {}}
SOON = {"key": "k", "units": 11_000}


def decided(
    metrics: Sequence[Mapping[str, Any]], found: Mapping[str, Arms], language: str = "en", **more: Any
) -> pd.Series:
    return row_of(solved(method(*metrics, **{**RULE, **more}), found, language), "decision", contrast="b vs a")


@pytest.mark.parametrize(
    ("revenue", "latency", "more", "verdict", "reason"),
    [
        (UP, FLAT, {}, "ship", "won"),
        (UP, (5000, 110.0, 400.0), {}, "stop", "guardrail_broken"),
        (UP, (5000, 102.0, 400.0), {}, "stop", "guardrail_unsettled_end"),
        (UP, (5000, 102.0, 400.0), {"sequential": SOON}, "keep_testing", "guardrail_unsettled"),
        (DOWN, FLAT, {}, "stop", "success_lost"),
        (FLAT, FLAT, {}, "stop", "nothing_won"),
        (FLAT, FLAT, {"sequential": {"key": "k", "units": 20_000}}, "keep_testing", "not_yet"),
        (UP, FLAT, {"sequential": {"key": "k", "units": 20_000}}, "ship", "won"),
        (UP, FLAT, {"decision": {"units": 20_000}}, "keep_testing", "too_early"),
        (UP, (5000, 110.0, 400.0), {"decision": {"units": 20_000}}, "stop", "guardrail_broken"),
        (UP, FLAT, {"decision": {"units": 10_000}}, "ship", "won"),
    ],
)  # fmt: skip
def test_every_way_it_can_end(revenue: Any, latency: Any, more: Any, verdict: str, reason: str) -> None:
    found = {"revenue": {"a": FLAT, "b": revenue}, "latency": {"a": FLAT, "b": latency}}
    for language in LANGUAGES:
        row = decided([REVENUE, RELATIVE], found, language, **more)
        assert (row.verdict, row.reason) == (verdict, reason)
        assert row.metrics in row.sentence
        assert row.sentence.startswith(say(f"decision_{reason}", language, metrics=row.metrics))


def test_a_run_that_is_not_trusted_never_ships() -> None:
    """6,000 against 4,000 units planned equal: a mismatch, however large the win."""
    big = {"a": (6000, 100.0, 400.0), "b": (4000, 200.0, 400.0)}
    result = solved(method(REVENUE, **RULE), {"revenue": big})
    assert not result.trusted
    row = row_of(result, "decision")
    assert (row.verdict, row.reason) == ("stop", "untrusted")
    for language in LANGUAGES:
        text = render(result, {"job": "experiment"}, language)
        assert say("decision_stop", language) in text and say("decision_ship", language) + "<" not in text


def test_guardrails_without_margin_are_named_when_it_ships() -> None:
    row = decided([REVENUE, GUARD], {"revenue": {"a": FLAT, "b": UP}, "latency": {"a": FLAT, "b": FLAT}})
    assert (row.verdict, row.reason, row.weak) == ("ship", "won_no_margin", "latency")
    assert "too little power" not in row.sentence


def test_a_weak_guardrail_is_named() -> None:
    row = decided(
        [REVENUE, RELATIVE],
        {"revenue": {"a": FLAT, "b": UP}, "latency": {"a": (200, 100.0, 4e4), "b": (200, 100.0, 4e4)}},
    )
    assert row.weak == "latency" and "too little power" in row.sentence


def test_every_contrast_is_decided_by_itself() -> None:
    arms = {"a": FLAT, "b": UP, "c": DOWN}
    table = solved(method(REVENUE, **RULE), {"revenue": arms}).diagnostics["decision"].set_index("contrast")
    assert table["verdict"].to_dict() == {"b vs a": "ship", "c vs a": "stop"}


def test_a_success_metric_may_be_shown_no_worse() -> None:
    """A migration: nothing has to win, nothing may be worse. Two such metrics share the level if any suffices."""
    kept = {**RELATIVE, "role": "success"}
    assert decided([kept], {"latency": {"a": FLAT, "b": FLAT}}).reason == "won"
    assert decided([kept], {"latency": {"a": FLAT, "b": (5000, 102.0, 400.0)}}).reason == "nothing_won"
    assert decided([kept], {"latency": {"a": FLAT, "b": (5000, 110.0, 400.0)}}).reason == "success_lost"
    edge = (5000, 100.0 + 2 - 1.8 * 0.4, 400.0)  # p = 0.036: below 0.05, above 0.025
    other = {**kept, "name": "errors", "value": "errors"}
    found = {"latency": {"a": FLAT, "b": edge}, "errors": {"a": FLAT, "b": edge}}
    assert decided([kept], found).reason == "won"
    assert decided([kept, other], found).reason == "nothing_won"
    assert decided([kept, other], found, decision={"needs": "all"}).reason == "won"


# several looks -------------------------------------------------------------------------------------------------------

PLAN = {"key": "checkout", "units": 10_000}


class Store:
    """What the tracked runs of one experiment key would hold."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def look(self, given: Experiment, found: Mapping[str, Arms], key: str | None = None) -> Result:
        key = key or f"run{len(self.texts) + 1}"
        told = looks.told(given, self.texts, key, "2026-02-01T00:00:00+00:00")
        statistics = Compressed.from_json(compressed(given, found, told).to_json())
        result = solve(given, statistics)
        self.texts.append(looks.text(given, result.diagnostics["looks"], key, "2026-02-01T00:00:00+00:00"))
        return result


def arms(n: int, effect: float) -> dict[str, Arms]:
    """n units in all, equal arms; the effect in standard errors of these n."""
    return {"revenue": {"a": (n / 2, 10.0, 4.0), "b": (n / 2, 10.0 + effect * math.sqrt(16 / n), 4.0)}}


def test_bounds_of_five_looks_are_the_published_ones() -> None:
    """ldbounds, O'Brien–Fleming with α/2 on each side, as printed (3.3569 from a coarser grid: 1.2e-4). The nominal
    level of a look is not the alpha spent until then."""
    store, given = Store(), method(sequential=PLAN)
    for number in range(1, 6):
        result = store.look(given, arms(2000 * number, 1.0))
    table = result.diagnostics["looks"]
    assert list(table["look"]) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(table["bound"], [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], atol=1.2e-4)
    np.testing.assert_allclose(table["spent"], [1.0777e-6, 7.8830e-4, 0.0076161, 0.024424, 0.05], rtol=5e-5)
    assert list(table["run_key"]) == ["run1", "run2", "run3", "run4", "run5"]
    np.testing.assert_allclose(table["statistic"], 1.0)
    nominal = 2 * stats.norm.sf(table["bound"])
    np.testing.assert_allclose(table["nominal"], nominal, rtol=1e-9)
    assert (table["nominal"][2:] < 0.98 * table["spent"][2:]).all()


def test_the_sequential_row_counts_and_agrees_with_its_bound() -> None:
    store, given = Store(), method(sequential=PLAN)
    for n, z in ((3000, 2.2), (6000, 2.3), (9000, 2.6)):
        result = store.look(given, arms(n, z))
        row = row_of(result, "estimates", method="group_sequential", term="difference")
        look = result.diagnostics["looks"].iloc[-1]
        error = math.sqrt(16 / n)
        assert row.statistic == pytest.approx(z)
        assert (row.conf_low, row.conf_high) == pytest.approx(
            (z - look.bound) * error + np.array([0, 2]) * look.bound * error
        )
        assert (row.p_value <= 0.05) == bool(look.crossed) == (row.conf_low > 0)
        lift = row_of(result, "estimates", method="group_sequential", term="lift")
        assert lift.p_value == row.p_value and (lift.conf_low > 0) == (row.conf_low > 0)
        single = row_of(result, "estimates", method="welch", term="difference")
        assert math.isnan(single.p_adjusted) and say("note_one_look", "en") in single.note
    assert list(result.diagnostics["looks"]["crossed"]) == [False, False, True]


def test_what_was_crossed_stays_crossed() -> None:
    store, given = Store(), method(sequential=PLAN, decision={})
    store.look(given, arms(5000, 4.0))
    result = store.look(given, arms(8000, 1.0))
    row = row_of(result, "estimates", method="group_sequential", term="difference")
    assert row.p_value < 0.05 and row.conf_low < 0 and "crossed at look 1" in row.note
    assert row_of(result, "decision").verdict == "ship"


def test_success_metrics_are_corrected_on_the_sequential_rows() -> None:
    metrics = [{**REVENUE, "name": name, "value": name} for name in ("x", "y")]
    guard = {**GUARD, "name": "z", "value": "z"}
    found = {name: arms(5000, z)["revenue"] for name, z in (("x", 3.1), ("y", 2.7), ("z", 3.0))}
    result = Store().look(method(*metrics, guard, sequential=PLAN), found)
    rows = result.estimates[result.estimates["method"] == "group_sequential"]
    rows = rows[rows["term"] == "difference"].set_index("outcome")
    np.testing.assert_allclose(rows.loc[["x", "y"], "p_adjusted"], adjust(rows.loc[["x", "y"], "p_value"], "holm"))
    assert math.isnan(rows.loc["z", "p_adjusted"])


def test_guardrails_are_tested_at_the_level_of_the_look() -> None:
    given = method(REVENUE, RELATIVE, sequential=PLAN)
    found = {**arms(4000, 1.0), "latency": {"a": (2000, 10.0, 4.0), "b": (2000, 10.0, 4.0)}}
    row = row_of(Store().look(given, found), "margins")
    bound = group_sequential([0.4], Plan(1, 0.05, alternative="greater"))[0]
    assert row.level == pytest.approx(bound.nominal, rel=1e-12)
    assert row.conf_high == pytest.approx(stats.t.isf(bound.nominal, row.dof) * row.std_error, rel=1e-9)
    always = Store().look(method(REVENUE, RELATIVE, sequential={**PLAN, "kind": "always_valid"}), found)
    error = math.sqrt(16 / 4000)
    low = always_valid(0.0, error, mixing_variance(error**2, 4000, 10_000, 0.05, 1), 0.05, "greater").low
    assert row_of(always, "margins").level == pytest.approx(stats.norm.sf(-low / error), rel=1e-9)


@pytest.mark.parametrize("kind", ["group", "always_valid"])
def test_margins_that_share_their_level_spend_half_of_it_each(kind: str) -> None:
    """Half of alpha spent over the looks gives an early look less than half of its nominal level."""
    kept = {**GUARD, "role": "success", "test": "non-inferiority", "margin": {"absolute": 1.0}}
    twins = [{**kept, "name": name, "value": name} for name in ("x", "y")]
    error = math.sqrt(16 / 4000)

    def level(alpha: float) -> float:
        if kind == "group":
            return group_sequential([0.4], Plan(1, alpha, alternative="greater"))[0].nominal
        tau = mixing_variance(error**2, 4000, 10_000, alpha, 1)
        return float(stats.norm.sf(-always_valid(0.0, error, tau, alpha, "greater").low / error))

    def reason(p: float, needs: str) -> str:
        worse = 1.0 - float(stats.t.isf(p, 3998)) * error
        arm = {"a": (2000, 10.0, 4.0), "b": (2000, 10.0 + worse, 4.0)}
        given = method(*twins, sequential={**PLAN, "kind": kind}, decision={"needs": needs})
        return str(row_of(Store().look(given, {"x": arm, "y": arm}), "decision").reason)

    assert level(0.025) < 0.49 * level(0.05)
    assert reason(0.49 * level(0.05), "any") == "not_yet"
    assert reason(0.99 * level(0.025), "any") == "won"
    assert reason(0.49 * level(0.05), "all") == "won"


def test_always_valid_against_published_numbers() -> None:
    """3,407 and 3,461 units from their sums, tuned for 5,000: half width .379410 and p .290745, as printed."""

    def arm(n: float, first: float, second: float) -> tuple[float, float, float]:
        return n, first / n, (second - first**2 / n) / (n - 1)

    found = {"revenue": {"a": arm(3407, 1396.87, 52377.9767), "b": arm(3461, 2422.7, 134698.29)}}
    store, given = Store(), method(sequential={"key": "k", "units": 5000, "kind": "always_valid"})
    result = store.look(given, found)
    row = row_of(result, "estimates", method="always_valid", term="difference")
    assert (row.conf_high - row.conf_low) / 2 == pytest.approx(0.379410, abs=5.1e-7)
    assert row.p_value == pytest.approx(0.290745, abs=5.1e-7)
    look = result.diagnostics["looks"].iloc[0]
    assert look.bound * row.std_error == pytest.approx(0.379410, abs=5.1e-7) and math.isnan(look.spent)


def test_tau_is_fixed_by_the_first_look_and_p_is_the_smallest() -> None:
    store, given = Store(), method(sequential={**PLAN, "kind": "always_valid"})
    first = store.look(given, arms(4000, 4.0)).diagnostics["looks"].iloc[0]
    wide = {"revenue": {arm: (n, mean, 9.0) for arm, (n, mean, _) in arms(8000, 0.5)["revenue"].items()}}
    second = store.look(given, wide).diagnostics["looks"]
    assert second["tau"].iloc[1] == first.tau
    assert second["p_value"].iloc[1] == first.p_value < 0.05
    assert list(second["crossed"]) == [True, False]


@pytest.mark.parametrize("side", ["greater", "less"])
@pytest.mark.parametrize("kind", ["group", "always_valid"])
def test_one_sided_looks_are_open_on_the_other_side(kind: str, side: str) -> None:
    sign = 1 if side == "greater" else -1
    given = method(sequential={**PLAN, "kind": kind}, alternative=side)
    for z, hit in ((5.0 * sign, True), (-5.0 * sign, False)):
        result = Store().look(given, arms(6000, z))
        row = row_of(result, "estimates", method="group_sequential" if kind == "group" else kind, term="difference")
        assert math.isinf(row.conf_high if side == "greater" else row.conf_low)
        assert (row.p_value < 0.05) == hit == bool(result.diagnostics["looks"]["crossed"].iloc[0])


def test_a_metric_that_cannot_be_estimated_has_no_look() -> None:
    given = method(REVENUE, {**GUARD, "kind": "mean"}, sequential=PLAN, decision={})
    result = Store().look(given, {**arms(4000, 1.0), "latency": {"a": (2000, 3.0, 0.0), "b": (2000, 3.0, 0.0)}})
    assert set(result.diagnostics["looks"]["outcome"]) == {"revenue"}
    assert row_of(result, "margins").state == "unknown"


# refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"sequential": {**PLAN, "units": 20_000}}, "units"),
        ({"sequential": {**PLAN, "spending": "pocock"}}, "spending"),
        ({"sequential": {**PLAN, "kind": "always_valid"}}, "kind"),
        ({"sequential": PLAN, "alpha": 0.1}, "alpha"),
        ({"sequential": PLAN, "alternative": "greater"}, "alternative"),
    ],
)
def test_a_plan_stays_as_it_was_at_the_first_look(more: dict[str, Any], field: str) -> None:
    store = Store()
    statistics = compressed(given := method(sequential=PLAN), arms(2000, 1.0), looks.told(given, [], "run1", ""))
    store.look(given, arms(2000, 1.0))
    changed = method(**more)
    with pytest.raises(ConfigError) as caught:
        store.look(changed, arms(4000, 1.0))
    assert (caught.value.key, caught.value.values["fields"]) == ("plan_changed", field)
    with pytest.raises(ConfigError) as caught:
        solve(changed, statistics)  # solved again with another alpha
    assert caught.value.key == "plan_changed"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_key": "x"}'])
def test_a_look_without_a_plan_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        looks.told(method(sequential=PLAN), [text], "mine", "")
    assert caught.value.key == "plan_missing"


@pytest.mark.parametrize("n", [3000, 3998])
def test_looks_need_more_units_each_time(n: int) -> None:
    store, given = Store(), method(sequential=PLAN)
    store.look(given, arms(4000, 1.0))
    with pytest.raises(ConfigError) as caught:
        store.look(given, arms(n, 1.0))
    assert caught.value.key == "look_out_of_order" and caught.value.values["number"] == 2


def test_other_numbers_from_as_many_units_are_refused() -> None:
    store, given = Store(), method(sequential=PLAN)
    store.look(given, arms(4000, 1.0))
    with pytest.raises(ConfigError) as caught:
        store.look(given, arms(4000, 1.1))
    assert caught.value.key == "look_out_of_order"


def test_the_same_data_is_the_same_look() -> None:
    """Solved again under other settings of the run (another key), and a run that stands in the store already."""
    store, given = Store(), method(sequential=PLAN)
    store.look(given, arms(2000, 1.0))
    second = store.look(given, arms(4000, 1.0)).diagnostics["looks"]
    again = store.look(given, arms(4000, 1.0)).diagnostics["looks"]
    assert list(again["look"]) == list(second["look"]) == [1, 2]
    third = store.look(given, arms(6000, 1.0)).diagnostics["looks"]
    assert list(third["look"]) == [1, 2, 3]
    told = looks.told(given, store.texts, "run2", "")
    assert [look["run_key"] for look in told["earlier"]] == ["run1"]


CASES: list[tuple[dict[str, Any], str]] = [
    ({"metrics": [{**RELATIVE, "margin": {"relative": -0.02}}]}, "bad_margin"),
    ({"metrics": [{**RELATIVE, "margin": {"absolute": 0.0}}]}, "bad_margin"),
    ({"metrics": [{**RELATIVE, "margin": {}}]}, "margin_scale"),
    ({"metrics": [{**RELATIVE, "margin": {"absolute": 1.0, "relative": 0.1}}]}, "margin_scale"),
    ({"metrics": [{**RELATIVE, "margin": None}]}, "test_and_margin"),
    ({"metrics": [{**RELATIVE, "test": "superiority"}]}, "test_and_margin"),
    ({"metrics": [GUARD], "decision": {}}, "no_success_metric"),
    ({"decision": {"units": 100}, "sequential": PLAN}, "units_twice"),
    ({"decision": {"units": 1}}, "bad_number"),
    ({"decision": {"least_power": 1.0}}, "bad_number"),
    ({"margin_alpha": 0.0}, "bad_number"),
    ({"sequential": {**PLAN, "units": 0}}, "bad_number"),
    ({"sequential": {**PLAN, "rho": 0.0}}, "bad_number"),
    ({"sequential": {**PLAN, "spending": "haybittle"}}, "unknown_spending"),
    ({"sequential": {**PLAN, "key": "it's"}}, "bad_experiment_key"),
    ({"sequential": {"units": 10}}, "missing_key"),
]


@pytest.mark.parametrize(("change", "key"), CASES)
def test_wrong_declarations_are_refused(change: dict[str, Any], key: str) -> None:
    base = {"unit": "id", "arm": "arm", "control": "a", "metrics": [REVENUE]}
    with pytest.raises(ConfigError) as caught:
        build(Experiment, {**base, **change}, "method")
    assert caught.value.key == key
    for language in LANGUAGES:
        assert "{" not in caught.value.text(language).replace("{relative", "")


def test_looks_need_tracking() -> None:
    data = {"input": {"units": {"table": "data/u"}}, "output": {"path": "out/x"}, "tracking": {"enabled": False},
            "method": {"unit": "id", "arm": "arm", "control": "a", "metrics": [REVENUE],
                       "sequential": PLAN}}  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        job.validate(data, "experiment")
    assert caught.value.key == "looks_need_tracking"
    assert job.validate({**data, "tracking": {}}, "experiment").method.experiment_key == "checkout"


def test_a_margin_knows_its_scale() -> None:
    assert (Margin(relative=0.1).scale, Margin(absolute=3).size) == ("relative", 3.0)


# the report ----------------------------------------------------------------------------------------------------------


def told_result(language: str, name: str = "revenue") -> tuple[Result, dict[str, Any]]:
    given = method({**REVENUE, "name": name}, {**RELATIVE, "name": f"{name} 2"}, sequential=PLAN, decision={})
    found = {name: arms(6000, 3.5)["revenue"], f"{name} 2": {"a": (3000, 10.0, 1.0), "b": (3000, 10.0, 1.0)}}
    first = {key: {arm: (n / 3, mean, v) for arm, (n, mean, v) in part.items()} for key, part in found.items()}
    store = Store()
    store.look(given, first)
    statistics = compressed(given, found, looks.told(given, store.texts, "run2", ""))
    return solve(given, statistics, language), {"job": "experiment", "alpha": 0.05, "method": asdict(given)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_what_to_do_and_why(language: str) -> None:
    result, facts = told_result(language)
    text = render(result, facts, language)
    row = row_of(result, "decision")
    assert row.verdict == "ship"
    for said in (say("decision_ship", language), row.sentence, say("report_q_decide", language),
                 say("report_s_margins", language), say("report_s_looks", language),
                 say("report_spending_obrien_fleming", language).split(",")[0].replace("'", "&#39;")):  # fmt: skip
        assert said in text
    assert not re.search(r"\b(nan|inf)\b", text.lower())
    assert "looks.svg" in figures(result, facts, language)
    start = text.index(say("report_q_decide", language))
    assert start < text.index(say("report_q_moved", language)) < text.index(say("report_s_margins", language))


def test_the_headline_follows_the_sequential_row() -> None:
    """z = 2.3 of a single look is significant at 5 %, not under the plan."""
    given = method(sequential=PLAN)
    result = Store().look(given, arms(4000, 2.3))
    assert row_of(result, "estimates", method="welch", term="difference").p_value < 0.05
    assert say("report_headline_none", "en") in render(result, {"job": "experiment", "alpha": 0.05})


def test_names_are_text() -> None:
    bad = "<script>alert(1)</script>"
    result, facts = told_result("en", bad)
    assert bad not in render(result, facts)
    assert bad not in figures(result, facts)["looks.svg"]


def test_an_endless_bound_is_drawn_and_told() -> None:
    """Beyond the planned units nothing is left to spend: the bound is infinite, and the interval too."""
    store, given = Store(), method(sequential=PLAN)
    store.look(given, arms(12_000, 1.0))
    result = store.look(given, arms(15_000, 1.0))
    row = row_of(result, "estimates", method="group_sequential", term="difference")
    assert (row.conf_low, row.conf_high) == (-math.inf, math.inf)
    assert not re.search(r"\b(nan|inf)\b", render(result, {"job": "experiment"}).lower())
