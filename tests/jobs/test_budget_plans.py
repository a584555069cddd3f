"""The budget job without a cluster: every goal, bound, step, risk and question, on curves whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_spark.config import build
from causal_spark.errors import ConfigError, StatisticError
from causal_spark.methods.budget import Bound, Budget, Compressed, Shift, solve
from causal_spark.methods.budget.run import in_order
from causal_spark.results import Result
from causal_spark.solve import curves

WEEKS = 120
# of each channel: family, parameters, mean spend, standard deviation of the noise
TRUTH: dict[str, tuple[str, tuple[float, ...], float, float]] = {
    "search": ("michaelis_menten", (900.0, 60.0), 80.0, 4.0),
    "social": ("log", (220.0, 25.0), 60.0, 4.0),
    "video": ("hill", (800.0, 70.0, 3.0), 90.0, 4.0),
    "outdoor": ("power", (18.0, 0.4), 70.0, 1.0),
}


def history(truth: dict[str, Any] = TRUTH, carry: float = 0.0, seed: int = 5) -> Compressed:
    rng = np.random.default_rng(seed)
    spend, outcome = {}, {}
    for name, (family, parameters, mean, noise) in truth.items():
        x = mean * rng.uniform(0.2, 2.0, WEEKS)
        spend[name] = tuple(x)
        y = curves.response(family, curves.carried(x, carry), parameters) + rng.normal(0, noise, WEEKS)
        outcome[name] = tuple(np.maximum(y, 0.0))
    return Compressed(tuple(f"{week:03d}" for week in range(WEEKS)), spend, outcome, {})


@pytest.fixture(autouse=True)
def fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each curve is fitted once for all tests of this file."""
    fit = curves.fit

    def known(spend: np.ndarray, outcome: np.ndarray, family: str, carries: bool) -> curves.Fit | None:
        key = (spend.tobytes(), outcome.tobytes(), family, carries)
        if key not in FITS:
            FITS[key] = fit(spend, outcome, family, carries)
        return FITS[key]

    monkeypatch.setattr(curves, "fit", known)


FITS: dict[tuple[bytes, bytes, str, bool], curves.Fit | None] = {}
HISTORY = history()
NOW = sum(float(np.mean(x)) for x in HISTORY.spend.values())


def planned(found: Result) -> pd.DataFrame:
    return found.diagnostics["plan"].set_index("channel")


def codes(found: Result, code: str) -> list[str]:
    checks = found.diagnostics["checks"]
    return sorted(checks.loc[checks["code"] == code, "column"])


def truth_at(name: str, spend: float) -> tuple[float, float]:
    """Outcome and marginal outcome of the curve that made the data."""
    family, parameters, _, _ = TRUTH[name]
    curve = curves.Curve(family, parameters)
    return float(curve.value(spend)), float(curve.slope(spend))


def test_the_plan_is_near_the_one_of_the_true_curves() -> None:
    """Marginal returns of the true curves at the plan differ by what 120 noisy weeks leave open."""
    plan = planned(solve(Budget(), HISTORY))
    free = [name for name in plan.index if plan.loc[name, "binding"] == ""]
    true = [truth_at(name, plan.loc[name, "spend_planned"])[1] for name in free]
    assert len(free) >= 3
    assert max(true) / min(true) < 1.1
    for name in plan.index:
        assert plan.loc[name, "outcome_planned"] == pytest.approx(truth_at(name, plan.loc[name, "spend_planned"])[0],
                                                                  rel=0.05)  # fmt: skip


@pytest.mark.parametrize("goal", ["roas", "cpa"])
def test_a_target_average_is_met_and_no_more_would_meet_it(goal: str) -> None:
    average = 6.0
    method = Budget(goal=goal, target=average if goal == "roas" else 1 / average)  # type: ignore[arg-type]
    found = solve(method, HISTORY)
    plan = planned(found)
    assert plan["outcome_planned"].sum() / plan["spend_planned"].sum() == pytest.approx(average, rel=1e-6)
    free = plan[plan["binding"] == ""]["marginal_planned"]
    assert free.max() == pytest.approx(free.min(), rel=1e-6) and free.max() < average
    with pytest.raises(StatisticError, match="1000"):  # a log curve returns at most a / b
        solve(replace(method, target=1000.0 if goal == "roas" else 0.001, curves=("log",)), HISTORY)


def test_a_target_marginal_return_stops_every_free_channel_there() -> None:
    plan = planned(solve(Budget(goal="marginal", target=1.5), HISTORY))
    free = plan[plan["binding"] == ""]
    assert len(free) >= 2
    assert free["marginal_planned"].to_numpy() == pytest.approx(1.5, rel=1e-9)
    assert (plan[plan["binding"] == "upper"]["marginal_planned"] >= 1.5).all()
    assert (plan[plan["binding"] == "lower"]["marginal_planned"] <= 1.5).all()


def test_bounds_that_bind_are_named_and_kept() -> None:
    method = Budget(bounds=(Bound("search", high=50.0), Bound("outdoor", low=65.0)))
    found = solve(method, HISTORY)
    plan = planned(found)
    assert plan.loc["search", ["spend_planned", "binding"]].tolist() == [50.0, "upper"]
    assert plan.loc["outdoor", ["spend_planned", "binding"]].tolist() == [65.0, "lower"]
    assert plan["spend_planned"].sum() == pytest.approx(NOW, rel=1e-9)
    notes = found.estimates.query("outcome == 'spend'").set_index("term")["note"]
    assert notes["search"] == "Held at its upper bound." and notes["outdoor"] == "Held at its lower bound."
    shared = plan.loc[["social", "video"], "marginal_planned"]
    assert plan.loc["search", "marginal_planned"] > shared.max() == pytest.approx(shared.min(), rel=1e-6)
    assert plan.loc["outdoor", "marginal_planned"] < shared.min()


@pytest.mark.parametrize(
    ("goal", "target"), [("budget", None), ("roas", 6.0), ("cpa", 1 / 6.0), ("marginal", 1.5)]
)  # fmt: skip
def test_steps_are_kept_for_every_goal_and_cost_little(goal: str, target: float | None) -> None:
    bounds = (Bound("social", low=3.0, high=100.0, step=25.0),)
    method = Budget(goal=goal, target=target, step=10.0, bounds=bounds)  # type: ignore[arg-type]
    stepped = planned(solve(method, HISTORY))
    exact = planned(solve(replace(method, step=None, bounds=(Bound("social", low=3.0, high=100.0),)), HISTORY))
    counts = (stepped["spend_planned"] - stepped["low"]) / [
        25.0 if name == "social" else 10.0 for name in stepped.index
    ]
    assert counts.to_numpy() == pytest.approx(counts.round().to_numpy(), abs=1e-9)
    assert abs(stepped["spend_planned"].sum() - exact["spend_planned"].sum()) <= 45.0
    if goal == "budget":
        assert stepped["spend_planned"].sum() <= NOW
    if goal in ("roas", "cpa"):
        assert stepped["outcome_planned"].sum() >= 6.0 * stepped["spend_planned"].sum()
    assert stepped["outcome_planned"].sum() <= exact["outcome_planned"].sum() + 1.5 * 45.0
    assert stepped["outcome_planned"].sum() >= exact["outcome_planned"].sum() - 10.0 * 45.0


def test_risk_moves_money_to_the_channel_that_is_known_better() -> None:
    """Two channels of one curve, one of them with much noise: without risk they get about the same."""
    twin = {"sure": ("log", (200.0, 30.0), 60.0, 2.0), "vague": ("log", (200.0, 30.0), 60.0, 120.0)}
    made = history(twin)
    method = Budget(curves=("log",))
    plain, careful, bold = (planned(solve(replace(method, risk=risk), made))["spend_planned"] for risk in (0, 2, 1))
    assert careful["vague"] < bold["vague"] < plain["vague"]
    assert careful.sum() == pytest.approx(plain.sum(), rel=0.01)  # a grid of 400 steps
    assert (
        solve(replace(method, risk=2.0), made)
        .estimates.query("term == '(total)' and outcome == 'gain'")["estimate"]
        .iloc[0]
        < solve(method, made).estimates.query("term == '(total)' and outcome == 'gain'")["estimate"].iloc[0]
    )


@pytest.mark.parametrize("goal", ["roas", "marginal"])
def test_risk_spends_less_towards_a_target(goal: str) -> None:
    method = Budget(goal=goal, target=6.0 if goal == "roas" else 1.5)  # type: ignore[arg-type]
    plain, careful = (planned(solve(replace(method, risk=risk), HISTORY)) for risk in (0.0, 3.0))
    assert careful["spend_planned"].sum() < plain["spend_planned"].sum()


def test_an_s_shaped_channel_is_named_and_past_its_bend_or_alone() -> None:
    found = solve(Budget(), HISTORY)
    assert codes(found, "S_SHAPED") == ["video"]
    bend = curves.Curve("hill", TRUTH["video"][1]).bend
    fitted = found.diagnostics["curves"].query("channel == 'video'")["bend"].iloc[0]
    assert fitted == pytest.approx(bend, rel=0.1)
    assert planned(found).loc["video", "spend_planned"] > bend
    poor = solve(Budget(budget=60.0), HISTORY)
    assert planned(poor).loc["video", "spend_planned"] == 0.0  # not worth the way past its bend
    assert planned(poor).loc["video", "binding"] == "lower"


def test_a_plan_outside_what_was_ever_spent_is_flagged() -> None:
    most = max(HISTORY.spend["search"])
    beyond = Budget(bounds=(Bound("search", low=1.2 * most, high=1.4 * most),))
    found = solve(beyond, HISTORY)
    assert "search" in codes(found, "BEYOND_OBSERVED")
    assert bool(planned(found).loc["search", "beyond_observed"])
    (message,) = [note for note in found.notes if note.startswith("BEYOND_OBSERVED") and "search" in note]
    assert f"{1.2 * most:,.4g}" in message and f"{most:,.4g}" in message
    within = Budget(bounds=tuple(Bound(name, min(x), max(x)) for name, x in HISTORY.spend.items()))
    assert codes(solve(within, HISTORY), "BEYOND_OBSERVED") == []


def test_what_if_moves_the_share_and_predicts_what_the_truth_says() -> None:
    found = solve(Budget(what_if=(Shift("outdoor", "social", 0.15),)), HISTORY)
    row = found.diagnostics["scenarios"].set_index("scenario").loc["outdoor → social (15%)"]
    now = {name: float(np.mean(x)) for name, x in HISTORY.spend.items()}
    moved = 0.15 * now["outdoor"]
    true = (truth_at("outdoor", now["outdoor"] - moved)[0] - truth_at("outdoor", now["outdoor"])[0]
            + truth_at("social", now["social"] + moved)[0] - truth_at("social", now["social"])[0])  # fmt: skip
    assert row["spend"] == pytest.approx(NOW)
    assert row["conf_low"] < true < row["conf_high"]
    assert row["gain"] == pytest.approx(true, rel=0.1)


def test_credit_shares_are_a_named_baseline_that_the_plan_beats() -> None:
    found = solve(Budget(), HISTORY)
    scenarios = found.diagnostics["scenarios"].set_index("scenario")
    assert list(scenarios.index[:2]) == ["plan", "proportional_to_outcome"]
    assert scenarios.loc["plan", "gain"] > scenarios.loc["proportional_to_outcome", "gain"]
    assert scenarios["spend"].to_numpy() == pytest.approx(NOW)
    share = {name: sum(y) for name, y in HISTORY.outcome.items()}
    fits = {row["channel"]: row for row in found.diagnostics["plan"].to_dict("records")}
    points = found.diagnostics["points"]
    gain = 0.0
    for name, y in share.items():
        mine = points[points["channel"] == name]
        at = NOW * y / sum(share.values())
        gain += float(np.interp(at, mine["spend"], mine["outcome"])) - fits[name]["outcome_now"]
    assert scenarios.loc["proportional_to_outcome", "gain"] == pytest.approx(gain, abs=15.0)  # 41 drawn points


def test_carry_over_is_found_and_the_plan_is_of_steady_spend() -> None:
    made = history({name: TRUTH[name] for name in ("search", "social")}, carry=0.5)
    found = solve(Budget(carry_over=True), made)
    fitted = found.diagnostics["curves"].groupby("channel")["carry_over"].first()
    assert fitted.to_numpy() == pytest.approx(0.5, abs=0.03)
    plan = planned(found)
    for name in plan.index:
        family, parameters, _, _ = TRUTH[name]
        steady = curves.response(family, curves.carried(np.full(60, plan.loc[name, "spend_now"]), 0.5), parameters)[-1]
        assert plan.loc[name, "outcome_now"] == pytest.approx(float(steady), rel=0.02)
    ignored = solve(Budget(), made).diagnostics["curves"]
    assert found.diagnostics["curves"]["r2"].min() > 0.99 > 0.9 > ignored["r2"].max()


def test_intervals_are_those_of_t_with_few_weeks() -> None:
    """Twelve weeks leave ten degrees of freedom of a curve of two parameters; those of the sum are Satterthwaite's."""
    first = {name: {channel: values[:12] for channel, values in getattr(HISTORY, name).items()}
             for name in ("spend", "outcome")}  # fmt: skip
    found = solve(Budget(curves=("log",)), replace(HISTORY, periods=HISTORY.periods[:12], **first))
    rows = found.estimates.query("outcome == 'gain'").set_index("term")
    parts, whole = rows.drop("(total)"), rows.loc["(total)"]
    half = (parts["conf_high"] - parts["estimate"]) / parts["std_error"]
    assert half.to_numpy() == pytest.approx(stats.t.isf(0.025, 10), rel=1e-9)
    variance = parts["std_error"] ** 2
    assert whole["dof"] == pytest.approx(variance.sum() ** 2 / (variance**2 / 10).sum(), rel=1e-9)
    assert (whole["conf_high"] - whole["estimate"]) / whole["std_error"] == pytest.approx(
        stats.t.isf(0.025, whole["dof"]), rel=1e-9
    )


def test_a_channel_without_a_curve_keeps_its_spend() -> None:
    spend, outcome = dict(HISTORY.spend), dict(HISTORY.outcome)
    spend["radio"], outcome["radio"] = (7.0,) * WEEKS, (3.0,) * WEEKS
    spend["new"], outcome["new"] = (0.0,) * (WEEKS - 3) + (5.0, 6.0, 9.0), (0.0,) * (WEEKS - 3) + (1.0, 2.0, 3.0)
    method = Budget(what_if=(Shift("radio", "search", 0.5), Shift("search", "social", 0.5)))
    found = solve(method, replace(HISTORY, spend=spend, outcome=outcome))
    plan = planned(found)
    assert codes(found, "NO_ANSWER") == ["radio"]
    assert len(found.diagnostics["scenarios"]) == 3
    assert codes(found, "NO_CURVE") == ["new", "radio"]
    assert plan.loc[["new", "radio"], "change"].tolist() == [0.0, 0.0]
    assert plan.loc[["new", "radio"], "binding"].tolist() == ["no_curve", "no_curve"]
    assert plan["spend_planned"].sum() == pytest.approx(NOW + 7.0 + 20 / WEEKS)


def test_a_given_budget_pays_channels_without_a_curve_too() -> None:
    spend, outcome = dict(HISTORY.spend), dict(HISTORY.outcome)
    spend["radio"], outcome["radio"] = (40.0,) * WEEKS, (3.0,) * WEEKS
    made = replace(HISTORY, spend=spend, outcome=outcome)
    found = solve(Budget(budget=250.0), made)
    assert planned(found)["spend_planned"].sum() == pytest.approx(250.0, rel=1e-9)
    whole = found.estimates.query("term == '(total)' and outcome == 'spend'")["estimate"].iloc[0]
    assert whole == pytest.approx(250.0, rel=1e-9)
    assert found.diagnostics["scenarios"]["spend"].tolist() == pytest.approx([250.0, NOW + 40.0], rel=1e-9)
    with pytest.raises(StatisticError, match="30 is less than the 40"):
        solve(Budget(budget=30.0), made)


def test_a_curve_whose_parameters_cannot_be_told_apart_has_no_band() -> None:
    """A straight line holds any scale of a saturating curve; a band of no width would be a lie."""
    x = np.linspace(1.0, 9.0, WEEKS)
    made = Compressed(HISTORY.periods, {"line": tuple(x)}, {"line": tuple(3.0 * x)}, {})
    found = solve(Budget(curves=("michaelis_menten",)), made)
    assert codes(found, "CURVE_UNCERTAIN") == ["line"]
    points = found.diagnostics["points"].query("spend > 0")
    assert points["outcome"].notna().all() and points[["conf_low", "conf_high"]].isna().all(axis=None)


def test_periods_are_in_their_order() -> None:
    assert in_order({"10", "9", "1", "-2"}) == ("-2", "1", "9", "10")
    assert in_order({"2026-02-01", "2025-12-01"}) == ("2025-12-01", "2026-02-01")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"goal": "roas", "target": 2.0, "budget": 100.0}, "method.budget"),
        ({"bounds": [{"channel": "search"}, {"channel": "search"}]}, "twice"),
        ({"bounds": [{"channel": "search", "low": 5, "high": 4}]}, "low ≤ high"),
        ({"what_if": [{"source": "search", "target": "search", "share": 0.5}]}, "share"),
        ({"risk": -1.0}, "method.risk"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        build(Budget, settings, "method")


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (Budget(step=1e-4), "method.step"),
        (Budget(step=5.0, budget=1e6), "outside"),
        (Budget(step=5.0, budget=10.0, bounds=(Bound("search", low=20.0),)), "outside"),
        (Budget(step=5.0, goal="roas", target=1000.0), "1000"),
    ],
)
def test_steps_that_cannot_be_are_refused(method: Budget, error: str) -> None:
    with pytest.raises(StatisticError, match=error):
        solve(method, HISTORY)
