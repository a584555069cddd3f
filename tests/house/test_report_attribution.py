"""The pages of attribution and budget: both languages, nothing breaks them, and credit is not called causal."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_spark.methods import attribution, budget
from causal_spark.methods.attribution import Attribution
from causal_spark.methods.attribution.compressed import Compressed, Lift
from causal_spark.methods.budget import Bound, Budget, Shift
from causal_spark.report.page import figures, render
from causal_spark.results import Result
from causal_spark.words import catalogue
from tests.house.test_report import FORBIDDEN, LANGUAGES, PAYLOADS, Parsed
from tests.journey_buckets import of_events

METHOD = Attribution(models=("last", "linear", "markov_1", "shapley", "shapley_rate"), person="p", time="t",
                     channel="c", value="v", replicates=10)  # fmt: skip
CAUSAL = {"en": r"(?i)\bcaus(?!al_spark)\w*|incremental", "zh": r"因果|增量"}


def facts(job: str, method: Any) -> dict[str, Any]:
    return {"title": "Spring", "job": job, "engine": "sail", "run_key": "k", "created": "2026-03-01T09:30:00+00:00",
            "input": "touches", "rows": 3000, "seconds": 1.2, "alpha": 0.05, "arms": [], "code_version": "0.1.0",
            "method": {"alpha": 0.05, **method}}  # fmt: skip


@cache
def compressed(names: tuple[str, ...] = ("search", "email", "tv")) -> Compressed:
    rng = np.random.default_rng(3)
    touches = [(f"u{rng.integers(120)}", float(rng.uniform(0, 80)), names[rng.integers(len(names))])
               for _ in range(400)]  # fmt: skip
    bought = [(f"u{rng.integers(120)}", float(rng.uniform(0, 80)), 10.0) for _ in range(60)]
    made = of_events(METHOD, touches, bought, as_of=90)
    costs = {name: 20.0 * (i + 1) for i, name in enumerate(made.tokens)}
    return replace(made, costs=costs)


@cache
def credited(names: tuple[str, ...] = ("search", "email", "tv"), lifts: tuple[Lift, ...] = ()) -> Result:
    return attribution.solve(METHOD, replace(compressed(names), lifts=lifts))


@cache
def planned(names: tuple[str, ...] = ("search", "social", "tv")) -> Result:
    rng = np.random.default_rng(4)
    spend = {name: tuple(rng.uniform(10, 100, 40).round(2)) for name in names}
    spend[names[-1]] = (5.0,) * 40  # no curve
    outcome = {name: tuple(90 * np.array(x) / (30 + np.array(x)) + rng.normal(0, 2, 40)) for name, x in spend.items()}
    periods = tuple(f"{week:02d}" for week in range(40))
    method = Budget(what_if=(Shift(names[0], names[1], 0.15),), bounds=(Bound(names[0], high=20.0),))
    return budget.solve(method, budget.Compressed(periods, spend, outcome, {}))


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(Parsed(page).words))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("job", ["attribution", "budget"])
def test_every_figure_and_section_is_there(language: str, job: str) -> None:
    result = credited(lifts=(Lift("email", "conversions", 4.0, 1.0),)) if job == "attribution" else planned()
    page = render(result, facts(job, {}), language)
    drawn = figures(result, facts(job, {}), language)
    expected = {"attribution": {"credit_1.svg", "credit_2.svg", "agreement.svg", "roi.svg", "transitions.svg",
                                "lag_curve.svg", "path_lengths.svg"},
                "budget": {"plan.svg", "curves.svg"}}  # fmt: skip
    assert set(drawn) == expected[job]
    assert page.count("<svg") == len(drawn)
    for svg in drawn.values():
        ElementTree.fromstring(svg)
    said = text_of(page)
    other = catalogue("zh" if language == "en" else "en")
    key = "report_eyebrow_attribution" if job == "attribution" else "report_eyebrow_budget"
    assert catalogue(language)[key] in said and other[key] not in said


@pytest.mark.parametrize("language", LANGUAGES)
def test_credit_without_an_experiment_is_never_called_causal(language: str) -> None:
    """The only places that speak of causes are the question whether credit is causal, and the answer no."""
    words, found = catalogue(language), credited()
    said = text_of(render(found, facts("attribution", {}), language))
    assert words["report_causal_why"] in said
    for key in ("report_q_causal", "report_causal_why"):
        said = said.replace(words[key], "")
    assert re.findall(CAUSAL[language], said) == []
    assert "incremental" not in set(found.estimates["estimand"])
    assert "calibration" not in found.diagnostics


@pytest.mark.parametrize("language", LANGUAGES)
def test_calibrated_credit_names_its_channels_and_the_rest(language: str) -> None:
    found = credited(lifts=(Lift("email", "conversions", 4.0, 1.0), Lift("radio", "conversions", 1.0, 1.0)))
    (row,) = found.diagnostics["calibration"].query("model == 'linear'").to_dict("records")
    line = found.estimates.query("method == 'linear' and term == 'email' and outcome == 'conversions'")
    credit, error = float(line["estimate"].iloc[0]), float(line["std_error"].iloc[0])
    spread = np.hypot(1.0 / credit, 4.0 * error / credit**2)  # the delta method of a ratio of independent numbers
    assert row["factor"] == pytest.approx(4.0 / credit)
    assert row["factor_high"] - row["factor"] == pytest.approx(1.959964 * spread, rel=1e-6)
    assert (row["lift_low"], row["lift_high"]) == pytest.approx((4 - 1.959964, 4 + 1.959964), rel=1e-6)
    base = found.estimates.query("method == 'linear' and term == '(baseline)'").iloc[0]
    assert base["estimate"] == pytest.approx(credit - 4.0) and base["std_error"] == pytest.approx(np.hypot(1.0, error))
    said = text_of(render(found, facts("attribution", {}), language))
    words = catalogue(language)
    assert words["report_causal_some"] in said and words["report_causal_why"] not in said
    rest = words["report_calibration_rest"].split("{names}")[0]
    assert re.search(re.escape(rest) + r"[^.。]*search", said) and re.search(re.escape(rest) + r"[^.。]*tv", said)
    assert f"{row['factor']:.2f}" in said


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_plan_says_what_binds_what_it_leaves_and_what_is_a_baseline(language: str) -> None:
    said = text_of(render(planned(), facts("budget", {}), language))
    words = catalogue(language)
    for key in ("report_scenario_proportional_to_outcome", "report_bound_no_curve", "report_budget_scope"):
        assert words[key] in said, key
    held = words["report_held_upper"].format(channel="search", marginal="(.*?)")
    assert re.search(held.split("(.*?)")[0] + r"\d", said)
    assert "search → social (15%)" in said


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("job", ["attribution", "budget"])
def test_names_are_text_whatever_they_hold(language: str, job: str) -> None:
    names = tuple(sorted({*PAYLOADS[:6], "plain"}))
    result = credited(names) if job == "attribution" else planned(names)
    page = render(result, facts(job, {"channel": names[0]}), language)
    parsed = Parsed(page)
    assert not FORBIDDEN & set(parsed.tags)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_gain_is_told_as_it_is(language: str) -> None:
    """More, less because less is spent, less in spite of it, not known to differ, without an interval."""
    words, found = catalogue(language), planned()
    frame = found.estimates
    total = frame.index[(frame["term"] == "(total)") & (frame["outcome"] == "gain")]
    spent = found.diagnostics["plan"]["change"].sum()
    for low, high, change, key in [(1, 2, 0, "sure"), (-2, -1, -5, "less"), (-2, -1, 0, "worse"), (-1, 1, 0, "unsure"),
                                   (np.nan, np.nan, 0, "unknown")]:  # fmt: skip
        estimates, plan = frame.copy(), found.diagnostics["plan"].copy()
        estimates.loc[total, ["conf_low", "conf_high"]] = low, high
        plan.loc[0, "change"] += change - spent
        told = replace(found, estimates=estimates, diagnostics={**found.diagnostics, "plan": plan})
        said = text_of(render(told, facts("budget", {}), language))
        for other in ("sure", "less", "worse", "unsure", "unknown"):
            part = max(words[f"report_gain_{other}"].split("{span}"), key=len).strip()
            assert (part in said) == (other == key), (key, other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_many_channels_are_counted_and_all_in_the_table(language: str) -> None:
    names = tuple(f"channel {i:02d}" for i in range(18))
    page = render(credited(names), facts("attribution", {}), language)
    said = text_of(page)
    assert catalogue(language)["report_channels_shown"].format(shown=15, rows=18) in said
    assert catalogue(language)["report_channels_shown"].format(shown=10, rows=18) in said
    tables = " ".join(Parsed(page).words)
    assert all(name in tables for name in names)


@pytest.mark.parametrize("language", LANGUAGES)
def test_segments_are_told(language: str) -> None:
    found, title = credited(), catalogue(language)["report_s_credit_segments"]
    here = found.estimates.assign(segment="region=north", estimate=found.estimates["estimate"] / 2)
    result = replace(found, estimates=pd.concat([found.estimates, here], ignore_index=True))
    said = text_of(render(result, facts("attribution", {}), language))
    assert title in said and "region=north" in said
    assert title not in text_of(render(found, facts("attribution", {}), language))
    only = replace(found, estimates=pd.concat([found.estimates, here.assign(segment="period=2026-01-05")]))
    assert title not in text_of(render(only, facts("attribution", {}), language))
    drawn = figures(found, facts("attribution", {}), "zh")["transitions.svg"]
    assert "(start)" not in drawn and "(null)" not in drawn
