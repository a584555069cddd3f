"""What the portfolio says of many experiments, against their simulated truth; its checks, its sentences, its page."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from causal_spark.errors import ConfigError, GateError
from causal_spark.methods.portfolio import Compressed, Portfolio, Reach, solve
from causal_spark.methods.portfolio.compressed import Effect, Touched
from causal_spark.report.page import figures, render
from causal_spark.results import Result
from causal_spark.words import say

REVENUE = Portfolio("revenue")
Z = 1.959963984540054


def effect(name: str, y: float, s: float, **other: Any) -> Effect:
    return Effect(**{"experiment": name, "contrast": "b vs a", "method": "welch", "estimand": "ATE", "estimate": y,
                     "std_error": s, "n": 1000.0, **other})  # fmt: skip


def compressed(y: Any, s: Any, touched: tuple[Touched, ...] | None = None) -> Compressed:
    names = [f"e{i:02d}" for i in range(len(y))]
    made = tuple(effect(name, float(a), float(b)) for name, a, b in zip(names, y, s, strict=True))
    return Compressed(made, touched, {"rows": len(made)})


def reach(*rows: tuple[str, float, bool]) -> tuple[Touched, ...]:
    return tuple(Touched(name, "", units, launched, "2026-02-01" if launched else "") for name, units, launched in rows)


def codes(result: Result) -> set[str]:
    return set(result.diagnostics["checks"]["code"])


def test_shrinking_undoes_the_winners_curse() -> None:
    """100 portfolios of 40, of which the significant ones are launched on known numbers of units."""
    errors, covered, totals = [], [], []
    for seed in range(100):
        rng = np.random.default_rng([seed, 5])
        s, truth, units = rng.uniform(0.05, 0.25, 40), rng.normal(0.02, 0.1, 40), rng.uniform(1e3, 1e5, 40)
        y = truth + s * rng.normal(size=40)
        won = y > Z * s
        touched = reach(*((f"e{i:02d}", float(units[i]), bool(won[i])) for i in range(40)))
        found = solve(REVENUE, compressed(y, s, touched))
        rows = found.diagnostics["actions"].sort_values("action")
        errors.append([((rows[key] - truth) ** 2).mean() for key in ("naive", "effect")])
        inside = ((rows["low"] <= truth) & (truth <= rows["high"])).to_numpy()
        covered.append([inside.mean(), inside[won].mean() if won.any() else math.nan])
        row = found.diagnostics["totals"].iloc[0] if won.any() else None
        if row is not None:
            gained = units[won] @ truth[won]
            totals.append([row["naive"] - gained, row["total"] - gained, row["low"] <= gained <= row["high"]])
    naive, shrunk = np.mean(errors, axis=0)
    assert shrunk < 0.6 * naive
    # of 100 portfolios: Monte Carlo errors of 0.004 for all actions, 0.015 for the winners, 0.022 for totals
    assert np.nanmean(covered, axis=0) == pytest.approx([0.95, 0.95], abs=0.04)
    assert np.mean([inside for *_, inside in totals]) == pytest.approx(0.95, abs=0.05)
    over = np.array([[a, b] for a, b, _ in totals])
    standard = over.std(0, ddof=1) / math.sqrt(len(over))
    assert over[:, 0].mean() > 10 * standard[0]
    assert (over[:, 0] > 0).mean() > 0.9
    assert abs(over[:, 1].mean()) < 0.15 * over[:, 0].mean()


def test_contributions_and_totals_by_hand() -> None:
    """Effects that are known exactly stay as they are: units times effect, and their sum."""
    touched = reach(("e00", 100.0, True), ("e01", 10.0, True), ("e02", 1000.0, False), ("e03", math.nan, True))
    result = solve(REVENUE, compressed([2.0, -1.0, 3.0, 0.5], [1e-6] * 4, touched))
    rows = result.diagnostics["actions"].set_index("action")
    assert rows["contribution"].tolist()[:1] == pytest.approx([200.0], rel=1e-6)
    assert rows.loc["e01", "contribution"] == pytest.approx(-10.0, rel=1e-6)
    assert rows.loc["e02", "contribution"] == pytest.approx(3000.0, rel=1e-6)
    assert rows.loc["e00", "share"] == pytest.approx(200 / 190, rel=1e-6)
    assert math.isnan(rows.loc["e02", "share"]) and math.isnan(rows.loc["e03", "contribution"])
    assert rows["launched"].to_dict() == {"e00": "2026-02-01", "e01": "2026-02-01", "e02": "no", "e03": "2026-02-01"}
    totals = result.diagnostics["totals"].set_index("actions")
    assert totals["total"].to_dict() == pytest.approx({"launched": 190.0, "winners": 200.0}, rel=1e-6)
    assert totals["n"].to_dict() == {"launched": 2, "winners": 1}
    assert {"REACH_MISSING", "FEW_ACTIONS", "PRIOR"} <= codes(result)
    frame = result.estimates.set_index(["contrast", "method", "term"])
    assert frame.loc[("(launched)", "empirical_bayes", "contribution"), "estimate"] == pytest.approx(190.0, rel=1e-6)
    assert frame.loc[("e02", "welch", "difference"), "p_value"] == 0.0
    assert ("e03", "empirical_bayes", "contribution") not in frame.index


def test_lifts_multiply() -> None:
    touched = reach(("e00", 1.0, True), ("e01", 0.5, True), ("e02", 0.2, False))
    method = replace(REVENUE, term="lift")
    result = solve(method, compressed([0.1, 0.2, -0.05], [1e-7] * 3, touched))
    total = result.diagnostics["totals"].iloc[0]["total"]
    assert total == pytest.approx(1.1 * (1 + 0.5 * 0.2) - 1, rel=1e-5)
    assert "SHARES_OVERLAP" in codes(result)
    assert "+10.00%" in result.diagnostics["actions"].set_index("action").loc["e00", "reason"]


def test_without_reach_every_action_counts_once() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(0, 1, 30)
    totals = solve(REVENUE, compressed(y, [0.5] * 30)).diagnostics["totals"]
    assert totals["actions"].tolist() == ["all", "winners"]
    # one standard error for all: shrinking moves no sum of all
    assert totals.iloc[0]["total"] == pytest.approx(y.sum(), rel=1e-9)
    assert totals.iloc[1]["total"] < totals.iloc[1]["naive"]


def test_advice_follows_what_is_better_and_says_why() -> None:
    y, s = [1.0, -1.0, 0.05, 0.12, *[0.0] * 8], [0.05, 0.05, 0.05, 0.06, *[0.05] * 8]
    touched = reach(*((f"e{i:02d}", 10.0, i in (1, 2)) for i in range(12)))
    made = compressed(y, s, touched)
    rows = solve(REVENUE, made).diagnostics["actions"].set_index("action")
    assert rows.loc[["e00", "e01", "e02"], "advice"].tolist() == ["scale", "stop", "keep_testing"]
    assert rows.loc["e00", "reason"].startswith("Scale e00") and "not launched yet" in rows.loc["e00", "reason"]
    assert "take it back" in rows.loc["e01", "reason"] and "> 99.9%" in rows.loc["e01", "reason"]
    turned = solve(replace(REVENUE, better="lower"), compressed([-v for v in y], s, touched)).diagnostics["actions"]
    assert turned.set_index("action")["advice"].to_dict() == rows["advice"].to_dict()
    chinese = solve(REVENUE, made, "zh").diagnostics["actions"].set_index("action")
    assert chinese.loc["e00", "reason"].startswith("扩大 e00") and "尚未上线" in chinese.loc["e00", "reason"]


def test_a_lucky_winner_is_told() -> None:
    """Significant by itself, among many that did nothing."""
    y = [0.21, *np.random.default_rng(1).normal(0, 0.1, 59)]
    rows = solve(REVENUE, compressed(y, [0.1] * 60)).diagnostics["actions"].set_index("action")
    assert rows.loc["e00", "advice"] == "keep_testing"
    assert say("portfolio_luck", naive="+0.210") in rows.loc["e00", "reason"]
    assert rows.loc["e00", "high"] < 0.21 + Z * 0.1


def test_of_several_estimates_the_preferred_is_taken() -> None:
    effects = [effect(f"e{i}", 1.0 * i, 0.5) for i in range(4)]
    effects += [effect("e0", 9.0, 0.1, method="cuped"), effect("e9", 0.3, 0.2, method="aipw", estimand="ATT")]
    made = Compressed(tuple(effects), None, {})
    rows = solve(REVENUE, made).diagnostics["actions"].set_index("action")
    assert rows.loc["e0", ["method", "naive"]].tolist() == ["cuped", 9.0]
    assert rows.loc["e9", "method"] == "aipw"
    assert solve(replace(REVENUE, methods=("welch",)), made).diagnostics["actions"].set_index("action").loc[
        "e0", "naive"
    ] == 0.0  # fmt: skip
    with pytest.raises(GateError, match=r"SEVERAL_ESTIMATES.*e0, b vs a.*cuped"):
        solve(replace(REVENUE, methods=("z",)), made)
    assert "MIXED_ESTIMANDS" in codes(solve(REVENUE, made))


def test_arms_of_one_experiment_are_actions_of_their_own() -> None:
    effects = (*(effect(f"e{i}", 1.0 * i, 0.5) for i in range(3)), effect("e0", 5.0, 0.5, contrast="c vs a"))
    result = solve(REVENUE, Compressed(effects, None, {}))
    assert set(result.diagnostics["actions"]["action"]) == {"e0: b vs a", "e0: c vs a", "e1", "e2"}
    assert "SHARED_CONTROL" in codes(result)
    by_name = tuple(Touched(f"e{i}", "", 10.0, True, "") for i in range(3))
    with pytest.raises(GateError, match=r"SEVERAL_CONTRASTS.*e0"):
        solve(REVENUE, Compressed(effects, by_name, {}))
    told = (Touched("e0", "c vs a", 10.0, True, ""), Touched("e7", "b vs a", 10.0, True, ""))
    method = replace(REVENUE, reach=Reach(contrast="contrast"))
    found = solve(method, Compressed(effects, told, {}))
    rows = found.diagnostics["actions"].set_index("action")
    assert rows["launched"].to_dict() == {"e0: c vs a": "yes", "e0: b vs a": "no", "e1": "no", "e2": "no"}
    assert {"REACH_UNKNOWN", "REACH_MISSING"} <= codes(found)


@pytest.mark.parametrize(
    ("code", "y", "launched"),
    [
        ("ONLY_LAUNCHED", np.linspace(-1, 1, 12), True),
        ("ONLY_WINNERS", np.linspace(1, 3, 12), False),
        ("NO_SPREAD", np.linspace(-0.05, 0.05, 12), False),
        ("OUTLYING", [9.0, *np.linspace(-0.5, 0.5, 39)], False),
        ("FEW_ACTIONS", [-1.0, 0.0, 1.0], False),
    ],
)
def test_what_is_doubted(code: str, y: Any, launched: bool) -> None:
    touched = reach(*((f"e{i:02d}", 5.0, launched) for i in range(len(y))))
    found = solve(REVENUE, compressed(y, [0.2] * len(y), touched))
    assert code in codes(found)
    assert any(note.startswith(code) for note in found.notes)
    doubted = {"ONLY_LAUNCHED", "ONLY_WINNERS", "NO_SPREAD", "OUTLYING", "FEW_ACTIONS"} & codes(found)
    assert doubted == {code}


def test_effects_without_error_stay_as_nan_with_their_reason() -> None:
    effects = [effect(f"e{i}", 1.0 * i, 0.5) for i in range(3)]
    effects += [effect("x", math.nan, math.nan), effect("y", 1.0, 0.0), effect("z", math.inf, 1.0)]
    result = solve(REVENUE, Compressed(tuple(effects), None, {}))
    lost = result.estimates[result.estimates["contrast"].isin(["x", "y", "z"])]
    assert lost["estimate"].isna().all() and len(lost) == 3
    assert lost["note"].str.contains("was not used").all()
    assert result.diagnostics["actions"].set_index("action").loc[["x", "y", "z"], "advice"].tolist() == ["unknown"] * 3
    with pytest.raises(GateError, match="TOO_FEW_ACTIONS"):
        solve(REVENUE, Compressed(tuple(effects[1:]), None, {}))


def test_the_statistics_survive_their_file() -> None:
    touched = reach(("e00", 1.5, True), ("e01", math.nan, False))
    made = compressed([0.1, math.nan, 1 / 3], [0.1, math.nan, 0.2], touched)
    again = Compressed.from_json(made.to_json())
    assert repr(again) == repr(made)
    assert Compressed.from_json(compressed([1.0], [1.0]).to_json()).touched is None


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"centre": math.inf}, {"methods": ("welch", "z", "welch")}]
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(REVENUE, **wrong)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("case", ["reach", "lift", "bare"])
def test_the_page(language: str, case: str) -> None:
    """Every number is there, none is NaN, and no name gets into the page as markup."""
    y, s = np.linspace(-0.3, 0.5, 14), np.full(14, 0.06)
    touched = None if case == "bare" else reach(*((f"e{i:02d}", 0.1 * (i % 7), i > 8) for i in range(14)))
    made = compressed(y, s, touched)
    bad = effect("<script>alert(1)</script>", 0.45, 0.06)
    made = replace(made, effects=(bad, *made.effects, effect("lost", math.nan, 0.1)))
    method = replace(REVENUE, term="lift") if case == "lift" else REVENUE
    result = solve(method, made, language)
    facts = {"job": "portfolio", "title": "Year", "units": 16, "rows": 16, "method": {"outcome": "<b>revenue</b>"}}
    page = render(result, facts, language)
    assert "<script" not in page and "<b>revenue" not in page and "nan" not in page.lower().replace("finance", "")
    assert say("report_q_luck", language) in page and say("report_assume_portfolio_apart", language) in page
    assert page.count("<svg") == 1 and list(figures(result, facts, language)) == ["effects.svg"]
    assert ("+50" in page) == (case == "lift")
