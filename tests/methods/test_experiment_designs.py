"""Triggered units, concurrent experiments, trends and holdouts of an experiment, from compressed data without Spark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.methods.experiment import Compressed, Experiment, Metric, Switchback, plan, solve
from causal_spark.methods.experiment.rules import Sequential
from causal_spark.report.page import render
from causal_spark.results import Result
from causal_spark.solve.triggered import triggered
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK, MISSING
from causal_spark.words import LANGUAGES, say

METRICS = (
    Metric("y", "mean", value="y", covariates=("x",)),
    Metric("ctr", "ratio", numerator="y", denominator="z", role="guardrail"),
)
BASE = Experiment(
    unit="u", arm="arm", control="c", metrics=METRICS, shares={"c": 0.5, "t": 0.5}, alternative="two-sided"
)
SHARES = {"c": 0.5, "t": 0.5}


def draw(n: int = 4_000, seed: int = 1, arms: Sequence[str] = ("c", "t")) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"arm": rng.choice(arms, n), "hit": rng.random(n) < 0.3, "x": rng.normal(size=n)})
    frame["other"] = rng.choice(["new", "old", "c"], n)
    frame["third"] = rng.choice(["on", "off"], n)
    frame["y"] = 5 + frame["x"] + rng.normal(size=n)
    frame["z"] = rng.integers(1, 5, n)
    return frame


def cells(frame: pd.DataFrame, keys: Sequence[str], whole: bool) -> Grouped:
    """Moments by ``keys`` and metric, as the passes make them; ``whole``: with covariates."""
    found: dict[tuple[str | None, ...], Moments] = {}
    for key, part in frame.groupby(list(keys)):
        labels = tuple(str(int(label)) if isinstance(label, bool | np.bool_) else str(label) for label in key)
        found[(*labels, plan.ROWS)] = Moments((), float(len(part)), np.zeros(0), np.zeros((0, 0)))
        for block in plan.blocks(METRICS):
            columns = block.columns if whole else block.parts[0].columns
            rows = part[[column.source for column in columns]].to_numpy(float)
            found[(*labels, block.metric.name)] = Moments.from_rows([column.name for column in columns], rows)
    return Grouped((*keys, BLOCK), found)


def compressed(frame: pd.DataFrame, more: Mapping[str, object], shares: Mapping[str, float] = SHARES) -> Compressed:
    facts = {"arms": dict(shares), "arm": "arm", "rows": len(frame), "nulls": {"y": 0, "x": 0, "z": 0}, "high": {},
             "caps": {}, "suppressed": []}  # fmt: skip
    return Compressed(cells(frame, ["arm"], True), METRICS, facts, more=more)


def by_trigger(frame: pd.DataFrame) -> Compressed:
    return compressed(frame, {"triggered": cells(frame, ["arm", "hit"], False).to_dict()})


def by_others(frame: pd.DataFrame, *columns: str) -> Compressed:
    return compressed(frame, {"interactions": cells(frame, ["arm", *columns], False).to_dict()})


def rows_of(result: Result, *terms: str) -> pd.DataFrame:
    frame = result.estimates
    return frame[frame["term"].isin(terms)].set_index(["outcome", "contrast", "term", "method"])


def verdicts(result: Result) -> dict[str, str]:
    checks = result.diagnostics["checks"]
    return dict(zip(checks["code"], checks["verdict"], strict=True))


# triggered ------------------------------------------------------------------------------------------------------------

TRIGGERED = replace(BASE, triggered="hit")


def test_triggered_rows_are_welch_among_the_triggered_and_the_diluted_effect() -> None:
    frame = draw()
    frame.loc[frame["hit"] & (frame["arm"] == "t"), "y"] += 0.5
    result = solve(TRIGGERED, Compressed.from_json(by_trigger(frame).to_json()))
    found = rows_of(result, "triggered difference", "diluted difference", "diluted lift").xs("t vs c", level=1)
    t, c = (frame[frame["hit"] & (frame["arm"] == arm)]["y"] for arm in ("t", "c"))
    row = found.loc[("y", "triggered difference", "triggered")]
    welch = stats.ttest_ind(t, c, equal_var=False)
    assert (row.estimate, row.p_value) == pytest.approx((t.mean() - c.mean(), welch.pvalue), rel=1e-9)
    assert (row.n, row.estimand) == (len(t) + len(c), "ATE (triggered)")
    parts = [
        {hit: Moments.from_rows(["y"], of_arm[of_arm["hit"] == hit]["y"]) for hit in (True, False)}
        for of_arm in (frame[frame["arm"] == arm] for arm in ("t", "c"))
    ]
    wanted = triggered(*parts, "y")
    for term, test in (("diluted difference", wanted.diluted), ("diluted lift", wanted.diluted_lift)):
        row = found.loc[("y", term, "triggered")]
        assert (row.estimate, row.std_error, row.conf_low) == pytest.approx((test.estimate, test.std_error, test.low))
        assert (row.n, row.estimand) == (len(frame), "ATE")
    table = result.diagnostics["triggered"].set_index("outcome").loc["y"]
    assert table.variance_reduction == pytest.approx(1 - (wanted.diluted.std_error / wanted.naive.std_error) ** 2)
    assert table.variance_reduction > 0.5
    assert verdicts(result)["TRIGGER_RATIO"] == verdicts(result)["TRIGGER_LEAK"] == "pass"


def test_under_a_plan_every_row_but_the_plans_is_of_one_look() -> None:
    for language in LANGUAGES:
        found = solve(replace(TRIGGERED, sequential=Sequential("k", 8_000)), by_trigger(draw()), language).estimates
        told = found["note"].str.contains(say("note_one_look", language), regex=False)
        assert (told == (found["method"] != "group_sequential")).all()
        assert {"triggered", "group_sequential"} <= set(found["method"])


def test_a_trigger_rate_of_one_in_twenty_cuts_the_variance_twentyfold() -> None:
    """R14: Deng et al. 2021, arXiv 2112.13299; the rate drawn differs from 5 % by 0.1 %."""
    frame = draw(40_000, 6)
    frame["hit"] = np.random.default_rng(7).random(len(frame)) < 0.05
    row = solve(TRIGGERED, by_trigger(frame)).diagnostics["triggered"].iloc[0]
    assert 1 / (1 - row.variance_reduction) == pytest.approx(20, rel=0.06)


def test_a_ratio_is_compared_among_the_triggered_but_not_diluted() -> None:
    frame = draw()
    result = solve(TRIGGERED, by_trigger(frame))
    found = rows_of(result, "triggered difference", "diluted difference")
    t, c = (frame[frame["hit"] & (frame["arm"] == arm)] for arm in ("t", "c"))
    row = found.loc[("ctr", "t vs c", "triggered difference", "triggered")]
    assert row.estimate == pytest.approx(t["y"].sum() / t["z"].sum() - c["y"].sum() / c["z"].sum(), rel=1e-12)
    row = found.loc[("ctr", "t vs c", "diluted difference", "triggered")]
    assert math.isnan(row.estimate)
    assert "ratios" in row.note
    assert set(result.diagnostics["triggered"]["outcome"]) == {"y"}


def test_a_trigger_that_the_change_moves_is_found_and_noted() -> None:
    frame = draw()
    rng = np.random.default_rng(2)
    frame.loc[frame["arm"] == "t", "hit"] |= rng.random((frame["arm"] == "t").sum()) < 0.15
    result = solve(TRIGGERED, by_trigger(frame))
    assert verdicts(result)["TRIGGER_RATIO"] == "warn"
    assert result.diagnostics["trigger_rates"]["flagged"].all()
    assert rows_of(result, "diluted difference")["note"].str.contains("do not act").all()
    assert result.trusted  # the comparison of all units is as good as before


def test_a_trigger_that_is_too_narrow_is_found() -> None:
    frame = draw()
    frame.loc[(frame["arm"] == "t") & ~frame["hit"], "y"] += 0.4
    result = solve(TRIGGERED, by_trigger(frame))
    assert verdicts(result)["TRIGGER_LEAK"] == "warn"
    assert verdicts(result)["TRIGGER_RATIO"] == "pass"


def test_nobody_triggered_is_an_error() -> None:
    with pytest.raises(StatisticError) as caught:
        solve(TRIGGERED, by_trigger(draw().assign(hit=False)))
    assert caught.value.key == "none_triggered"


# interactions ---------------------------------------------------------------------------------------------------------


def test_an_interaction_is_the_difference_of_differences() -> None:
    """The reference is the arm called as the control; the contrasts' p are Holm-corrected together."""
    frame = draw()
    frame.loc[(frame["arm"] == "t") & (frame["other"] == "new"), "y"] += 0.6
    result = solve(replace(BASE, interactions=("other",)), by_others(frame, "other"))
    found = rows_of(result, "interaction")
    mean = frame.groupby(["arm", "other"])["y"].agg(["mean", "var", "count"])
    variance = mean["var"] / mean["count"]
    for other in ("new", "old"):
        corners = list(product("tc", (other, "c")))
        row = found.loc[("y", f"t vs c × other: {other} vs c", "interaction", "interaction")]
        signs = [1, -1, -1, 1]
        estimate = sum(sign * mean["mean"][corner] for sign, corner in zip(signs, corners, strict=True))
        assert row.estimate == pytest.approx(estimate, rel=1e-9)
        assert row.std_error == pytest.approx(math.sqrt(sum(variance[corner] for corner in corners)), rel=1e-9)
        assert row.n == sum(mean["count"][corner] for corner in corners)
    ordered = found.sort_values("p_value")
    holm = np.minimum(np.maximum.accumulate(ordered["p_value"] * np.arange(len(ordered), 0, -1)), 1)
    np.testing.assert_allclose(ordered["p_adjusted"], holm, rtol=1e-12)
    tests = result.diagnostics["interactions"].set_index("outcome")
    assert (tests.loc["y"].dof, bool(tests.loc["y"].flagged)) == (2, True)
    assert verdicts(result)["INTERACTION"] == "warn"


def test_several_experiments_are_tested_one_by_one_and_together() -> None:
    """Units outside one of the experiments take part in the pairs of the others only."""
    frame = draw()
    frame.loc[:99, "third"] = MISSING
    method = replace(BASE, interactions=("other", "third"), correction="bonferroni")
    result = solve(method, by_others(frame, "other", "third"))
    tests = result.diagnostics["interactions"].set_index(["outcome", "experiments"])
    assert [key[1] for key in tests.index if key[0] == "y"] == ["other", "third", "other × third"]
    assert tests["n"]["y"].tolist() == [4000, 3900, 3900]
    assert tests["dof"]["y"].tolist() == [2, 1, 2]
    np.testing.assert_allclose(tests["p_adjusted"], np.minimum(6 * tests["p_value"], 1))
    pair = solve(replace(BASE, interactions=("other",)), by_others(frame, "other"))
    one = pair.diagnostics["interactions"].set_index("outcome")
    assert tests.loc[("y", "other")].p_value == pytest.approx(one.loc["y"].p_value, rel=1e-9)
    assert verdicts(result)["INTERACTION"] == "pass"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda frame: frame.assign(other=MISSING), "no_other_arms"),
        (lambda frame: frame.assign(other="only"), "no_other_arms"),
        (lambda frame: frame[(frame["arm"] == "t") | (frame["other"] != "new")], "no_shared_units"),
    ],
)
def test_experiments_that_share_no_units_are_refused(change, key) -> None:
    with pytest.raises(StatisticError) as caught:
        solve(replace(BASE, interactions=("other",)), by_others(change(draw()), "other"))
    assert caught.value.key == key


# novelty --------------------------------------------------------------------------------------------------------------


FADING = (0.6, 0.4, 0.3, 0.2, 0.1)


def by_days(curve: Sequence[float], seed: int = 3) -> tuple[Compressed, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    names = [f"y (days {2 * i} to {2 * i + 1})" for i in range(len(curve))]
    arms = {arm: rng.normal(size=(3000, 1)) + rng.normal(size=(3000, len(curve))) for arm in "ct"}
    arms["t"] += np.array(curve)
    found = {(arm, "y"): Moments.from_rows(names, rows) for arm, rows in arms.items()}
    data = Grouped(("arm", BLOCK), found).to_dict()
    return compressed(draw(), {"novelty": data}), arms


@pytest.mark.parametrize(
    ("curve", "verdict", "word"),
    [
        ((0.6, 0.4, 0.3, 0.2, 0.1), "warn", "fades"),
        ((0.1, 0.2, 0.3, 0.4, 0.6), "warn", "grows"),
        ((0.3,) * 5, "pass", ""),
    ],
)
def test_the_trend_of_an_effect(curve, verdict, word) -> None:
    data, arms = by_days(curve)
    result = solve(replace(BASE, by_day=10), Compressed.from_json(data.to_json()))
    row = result.diagnostics["novelty"].set_index("outcome").loc["y"]
    weights = (np.arange(5) - 2) / 10
    t, c = arms["t"] @ weights, arms["c"] @ weights
    test = stats.ttest_ind(t, c, equal_var=False)
    assert (row.slope, row.p_value) == pytest.approx((t.mean() - c.mean(), test.pvalue), rel=1e-8)
    assert (row.stretches, row.stretch_days, row.dof, row.n) == (5, 2, 4, 6000)
    check = result.diagnostics["checks"].set_index("code").loc["NOVELTY"]
    assert check.verdict == verdict
    assert word in check.message


@given(st.integers(1, 3660))
def test_stretches_are_at_most_five_of_one_length_from_the_first_day(days: int) -> None:
    found = plan.stretches(days)
    width = found[0][1]
    assert found == [(i * width, (i + 1) * width) for i in range(len(found))]
    assert 1 <= len(found) <= 5
    assert days - width < found[-1][1] <= days
    assert len(found) >= min(days, 3)  # no more is merged than five need


# switchbacks ----------------------------------------------------------------------------------------------------------


def over_cells(lag: float, turns: bool = False) -> dict[str, object]:
    """What the pass leaves of 200 cells of one region in two stretches; the arm before adds ``lag`` in the first."""
    rng = np.random.default_rng(6)
    arm = np.arange(201) % 2 if turns else rng.integers(0, 2, 201)
    now, before, label = arm[1:], arm[:-1], np.array(["c", "t"])
    found: dict[tuple[str | None, ...], Moments] = {}
    for block in plan.blocks(METRICS):
        columns = block.parts[0].columns
        sums = rng.uniform(40, 60, size=(200, 2, 1 + len(columns)))
        sums[:, 0, 1] += 20 * lag * before
        sums[:, :, 1] += 5 * now[:, None]
        names = [plan.in_stretch(name, i) for i in (0, 1) for name in (block.size, *map(block.total, columns))]
        for a, b in product((0, 1), repeat=2):
            rows = sums[(now == a) & (before == b)].reshape(-1, len(names))
            if len(rows):
                found[(label[a], label[b], block.metric.name)] = Moments.from_rows(names, rows)
    return {"minutes": [15.0, 60.0, 120.0], "cells": Grouped(("arm", "(arm before)", BLOCK), found).to_dict()}


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (over_cells(0.0), ("CARRY_OVER", "pass"), "4"),
        (over_cells(1.0), ("CARRY_OVER", "warn"), "burn_in to 60 or more"),
        (over_cells(0.0, turns=True), ("CARRY_OVER_UNKNOWN", "warn"), "by lot"),
    ],
    ids=["none", "first hour", "strict turns"],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_the_arm_before_leaves_over_and_what_to_do(data, code, word, language) -> None:
    result = solve(BASE, Compressed.from_json(compressed(draw(), {"carryover": data}).to_json()), language)
    checks = result.diagnostics["checks"].set_index("code")
    mine = [name for name in checks.index if name.startswith("CARRY_OVER")]
    assert set(mine) == {code[0]} and set(checks.loc[mine, "verdict"]) == {code[1]}
    if language == "en":
        assert checks.loc[mine, "message"].str.contains(word).all()
    table = result.diagnostics["carryover"]
    assert list(table.index[table["flagged"]]) == ([0, 2] if "burn_in" in word else [])
    assert table["effect"].notna().all() and table["lag"].isna().all() == (word == "by lot")
    title = {"en": "Does the arm before still act?", "zh": "上一时段的组还在起作用吗？"}[language]
    assert title in render(result, {"job": "experiment", "method": {}}, language)


# holdouts -------------------------------------------------------------------------------------------------------------

HOLD = replace(BASE, shares={"c": 0.45, "t": 0.45, "h": 0.1}, holdouts=("h",), holdout_effect=True)


def held(seed: int = 4, share: float = 0.1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = draw(8_000, seed)
    frame.loc[rng.random(len(frame)) < share, "arm"] = "h"
    frame.loc[frame["arm"] != "h", "y"] += 0.3
    return frame


def test_all_tested_arms_together_are_compared_with_the_holdout() -> None:
    frame = held()
    result = solve(HOLD, compressed(frame, {}))
    found = rows_of(result, "holdout difference", "holdout lift").xs("c + t vs h", level=1)
    tested, apart = frame[frame["arm"] != "h"]["y"], frame[frame["arm"] == "h"]["y"]
    row = found.loc[("y", "holdout difference", "welch")]
    test = stats.ttest_ind(tested, apart, equal_var=False)
    assert (row.estimate, row.p_value) == pytest.approx((tested.mean() - apart.mean(), test.pvalue), rel=1e-9)
    assert row.n == len(frame)
    assert math.isnan(row.p_adjusted)  # the adjusted row is the test
    row = found.loc[("y", "holdout difference", "cuped")]
    assert row.conf_low < 0.3 < row.conf_high
    assert row.p_adjusted == row.p_value  # one success metric, one holdout
    assert math.isnan(found.loc[("ctr", "holdout difference", "delta")].p_adjusted)  # a guardrail
    assert verdicts(result)["HOLDOUT_RATIO"] == "pass"
    main = result.estimates[result.estimates["term"].isin(["difference", "lift"])]
    assert set(main["contrast"]) == {"t vs c"}


def test_a_holdout_that_lost_units_is_found() -> None:
    assert verdicts(solve(HOLD, compressed(held(share=0.08), {})))["HOLDOUT_RATIO"] == "warn"


def test_an_empty_holdout_is_nan_with_its_reason() -> None:
    found = rows_of(solve(HOLD, compressed(held(share=0.0), {})), "holdout difference")
    assert found["estimate"].isna().all()
    assert found["note"].str.contains("h").all()


# configuration and report ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"holdout_effect": True}, "holdout_effect_needs_holdouts"),
        ({"switchback": Switchback("city", hours=4)}, "missing_key"),
        ({"switchback": Switchback("city", period="p"), "cluster": "shop"}, "switchback_and_cluster"),
        ({"cluster": "shop", "triggered": "hit"}, "not_with_clusters"),
        ({"switchback": Switchback("city", period="p"), "interactions": ("other",)}, "not_with_clusters"),
        ({"triggered": "arm"}, "repeated_role"),
        ({"interactions": ("other", "other")}, "repeated_role"),
    ],
)
def test_designs_that_do_not_fit_together_are_refused(changes, key) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(BASE, **changes)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "switchback_period"),
        ({"period": "p", "hours": 4.0}, "switchback_period"),
        ({"period": "p", "origin": "2026-01-01"}, "switchback_period"),
        ({"period": "p", "burn_in": 5.0}, "bad_number"),
        ({"hours": 1.0, "burn_in": 60.0}, "bad_number"),
        ({"hours": 1.0, "burn_in": -1.0}, "bad_number"),
        ({"hours": 0.0}, "bad_number"),
        ({"hours": 1.0, "origin": "yesterday"}, "bad_time"),
    ],
)
def test_a_switchback_needs_periods(values, key) -> None:
    with pytest.raises(ConfigError) as caught:
        Switchback("city", **values)
    assert caught.value.key == key


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_tells_the_designs_beside_the_effects(language) -> None:
    frame = held()
    data = compressed(
        frame,
        {
            "triggered": cells(frame, ["arm", "hit"], False).to_dict(),
            "interactions": cells(frame, ["arm", "other"], False).to_dict(),
            "novelty": by_days(FADING)[0].more["novelty"],
        },
    )
    method = replace(HOLD, triggered="hit", interactions=("other",), by_day=10)
    result = solve(method, data, language)
    facts = {"job": "experiment", "method": {"triggered": "hit", "interactions": ("other",)}}
    text = render(result, facts, language)
    titles = {
        "en": ("Only units that could meet the change", "Everything launched against the holdout",
               "Does another experiment change the effect?", "Does the effect last?", "Other experiments"),
        "zh": ("只看可能遇到改动的单元", "全部上线改动与保留组的比较",
               "另一个实验会改变效应吗？", "效应会持续吗？", "其他实验"),
    }  # fmt: skip
    for title in titles[language]:
        assert title in text, title
    plain = render(solve(replace(BASE, holdouts=("h",)), replace(data, more={}), language), facts, language)
    head = [page.partition('<section class="part">')[0] for page in (text, plain)]
    assert head[0].count("<h4>") == head[1].count("<h4>")  # the answers are those of the effects alone
