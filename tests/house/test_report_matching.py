"""The page of the matching job: both languages, no script however a column is called, nothing breaks it."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pandas as pd
import pytest

from causal_spark.report import balances, canvas
from causal_spark.report.balances import Dots, Histogram
from causal_spark.report.page import figures, render
from causal_spark.results import Estimate, Result, estimates_frame
from tests.house.test_report import FORBIDDEN, LANGUAGES, PAYLOADS, Parsed

ESTIMATORS = ("matching", "ipw", "aipw", "dml")
FACTS = {
    "title": "Channels", "job": "matching", "engine": "sail", "run_key": "k", "created": "2026-03-01T09:30:00+00:00",
    "input": "units", "rows": 3000, "units": 3000, "seconds": 12.3, "alpha": 0.05, "alternative": "two-sided",
    "code_version": "0.1.0", "arms": [],
    "method": {
        "unit": "user", "treatments": ("email",), "outcomes": ("revenue",), "covariates": ({"name": "age"}, "visits"),
        "estimand": "ATT", "estimators": ESTIMATORS, "smd": 0.1, "trim": (0.1, 0.9), "cluster": "store",
        "matching": {"distance": "logit", "caliper": 0.2, "caliper_scale": "sd", "ratio": 1, "replace": False,
                     "order": "closest", "exact": ("country",)},
    },
}  # fmt: skip


def rows_of(treatment: str, outcome: str, effects: dict[str, float], error: float = 1.0) -> list[Estimate]:
    rows = []
    for name, effect in {"unadjusted": -8.0, "regression": 1.0, **effects}.items():
        z = effect / error
        estimand = "" if name in ("unadjusted", "regression") else "ATE" if name == "dml" else "ATT"
        row = Estimate(name, estimand, outcome, "all", treatment, "difference", effect, error, z, math.inf,
                       math.erfc(abs(z) / 2**0.5), math.nan, effect - 1.96 * error, effect + 1.96 * error, 0.95, 185.0,
                       "Standard error of somebody.")  # fmt: skip
        rows.append(row)
        if estimand == "ATT":
            rows.append(replace(row, term="incremental", estimate=185 * effect, note="Effect times units."))
            rows.append(replace(row, term="roi", estimate=0.4, conf_low=0.1, conf_high=0.7, note="Of a spend."))
    return rows


def result_of(treatments: list[str], outcomes: list[str], covariates: list[str], **more: object) -> Result:
    """A whole result with every table, all of its names given."""
    effects = {"matching": 5.0, "ipw": 4.0, "aipw": 6.0, "dml": 3.0}
    rows = [row for t in treatments for y in outcomes for row in rows_of(t, y, effects)]
    check = {"code": "BALANCE", "table": treatments[0], "column": covariates[0], "count": math.nan, "share": math.nan,
             "threshold": math.nan, "message": f"After matching for {treatments[0]}"}  # fmt: skip
    tables = {
        "checks": [{**check, "verdict": verdict} for verdict in ("pass", "warn")],
        "balance": [
            {"treatment": t, "estimator": e, "covariate": x, "mean_treated": 1.5, "mean_control": 1.25 + i,
             "smd": 1.9 if e == "unadjusted" else -0.07, "variance_ratio": math.nan, "ks": 0.1, "ecdf_mean": 0.05,
             "verdict": v}
            for t in treatments for i, x in enumerate(covariates)
            for e, v in (("unadjusted", "unbalanced"), ("matching", "balanced"), ("ipw", "nearly"))
        ],
        "overlap": [
            {"treatment": t, "low": i / 50, "high": (i + 1) / 50, "treated": float(i), "control": float(50 - i)}
            for t in treatments for i in range(50)
        ],
        "propensity": [{"treatment": t, "term": x, "coefficient": 0.3, "std_error": s}
                       for t in treatments for x, s in ((covariates[0], 0.1), ("SD(revenue)", math.nan))],
        "sizes": [
            {"treatment": t, "estimator": e, "focal": 185.0, "matched": m, "used": 300.0, "ess": 47.57, "caliper": c}
            for t in treatments for e, m, c in (("unadjusted", 185.0, math.nan), ("matching", 113.0, 0.06),
                                                ("ipw", 185.0, math.inf))
        ],
        "sensitivity": [
            {"treatment": t, "outcome": y, "estimator": e, "e_value": 1.87, "e_value_limit": 1.2,
             "gamma": 1.3 if e == "matching" else math.nan, "robustness_value_alpha": 0.001,
             "robustness_value": 0.077 if e == "regression" else math.nan}
            for t in treatments for y in outcomes for e in ("regression", "matching")
        ],
    }  # fmt: skip
    return Result(estimates_frame(rows), {name: pd.DataFrame(rows) for name, rows in tables.items()}, **more)


@pytest.fixture
def plain() -> Result:
    return result_of(["email"], ["revenue"], ["age", "visits"])


def said(result: Result, language: str = "en", **facts: object) -> str:
    return "".join(Parsed(render(result, {**FACTS, **facts}, language)).words)


@pytest.mark.parametrize("start", range(10))
def test_no_name_becomes_markup(start: int) -> None:
    """Three of the payloads at a time, as names of a treatment, an outcome and covariates."""
    first, second, third = PAYLOADS[start::10]
    language = LANGUAGES[start % 2]
    result = result_of([first], [second], [third, first + "2"], notes=(second,))
    method = {**FACTS["method"], "treatments": (first,), "covariates": (third,), "cluster": second,
              "trim": first, "unit": third, "matching": {"distance": second, "exact": (first,)}}  # fmt: skip
    text = render(result, {**FACTS, "title": third, "input": first, "method": method}, language)
    page = Parsed(text)
    assert not FORBIDDEN & set(page.tags)
    for _, name, value in page.attributes:
        assert not name.startswith("on") and not re.match(r"\s*javascript:", value), (name, value)
        assert name not in ("href", "src") or value.startswith("#"), (name, value)
    for svg in figures(result, {**FACTS, "method": method}, language).values():
        tags = {element.tag.rpartition("}")[2].lower() for element in ElementTree.fromstring(svg).iter()}
        assert not FORBIDDEN & tags


@pytest.mark.parametrize(
    "missing", ["checks", "balance", "overlap", "propensity", "sizes", "sensitivity", "all", "estimates", "both"]
)
def test_a_missing_table_breaks_nothing(plain: Result, missing: str) -> None:
    language = LANGUAGES[len(missing) % 2]
    tables = {k: v for k, v in plain.diagnostics.items() if k != missing and missing not in ("all", "both")}
    empty = estimates_frame([]) if missing in ("estimates", "both") else plain.estimates
    result = replace(plain, diagnostics=tables, estimates=empty)
    words = said(result, language)
    assert "nan" not in re.findall(r"[A-Za-z]+", words.lower())
    if missing in ("all", "both"):
        assert said(result, language, method={}) and said(replace(result, trusted=False), language)


def test_what_is_not_known_is_a_dash_with_its_reason(plain: Result) -> None:
    frame = plain.estimates.copy()
    numbers = ["estimate", "std_error", "p_value", "conf_low", "conf_high"]
    frame.loc[frame["method"] == "matching", numbers] = math.nan
    words = said(replace(plain, estimates=frame))
    assert "could not be estimated" in words and "not estimated" in words
    tables = {k: v.assign(smd=math.nan, ks=math.nan) if k == "balance" else v for k, v in plain.diagnostics.items()}
    assert "NaN" not in said(replace(plain, diagnostics=tables))


def test_question_verdict_and_effect_are_in_words(plain: Result) -> None:
    words = said(plain)
    for text in ("Did email change revenue, in the units that got it?", "email raised revenue", "Read with care",
                 "effect on the treated. Estimator: matching", "1 of 2 checks warn",
                 "differed by up to 1.90 standard deviations; after matching, by up to 0.07",
                 "Nobody drew lots here", "Without adjustment the difference is \u22128.0, with it +5.0",
                 "All 4 estimators point the same way, from +3.0 to +6.0", "It paid for itself",
                 "risk ratio of 1.87 (E-value)", "Standard error of somebody."):  # fmt: skip
        assert text in words, text
    chinese = said(plain, "zh")
    assert "email \u63d0\u9ad8\u4e86 revenue" in chinese and "\u4f9b\u5bf9\u7167" in chinese


def test_naive_and_regression_are_never_called_an_effect(plain: Result) -> None:
    """Both are far from zero here; only the four estimators may be read as a rise."""
    words = Parsed(render(plain, FACTS)).words
    assert words.count("rose") == 4 and words.count("to compare") == 2 and "fell" not in "".join(words)


def test_the_first_estimator_that_was_named_is_told(plain: Result) -> None:
    method = {**FACTS["method"], "estimators": ("dml", "matching")}
    assert "Estimator: double ML" in said(plain, method=method)


def test_estimators_that_disagree_are_said_to(plain: Result) -> None:
    rows = rows_of("email", "revenue", {"matching": 5.0, "ipw": -4.0})
    assert "do not point the same way" in said(replace(plain, estimates=estimates_frame(rows)))
    rows = rows_of("email", "revenue", {"matching": 0.5, "ipw": -0.4})
    words = said(replace(plain, estimates=estimates_frame(rows)))
    assert "No detectable effect of email on revenue" in words and "The 2 estimators lie between" in words


def test_a_run_that_is_not_trusted_tells_no_effect(plain: Result) -> None:
    result = replace(plain, trusted=False)
    words = said(result)
    assert "Do not act on these numbers" in words and "email raised revenue" not in words
    assert "rose" not in Parsed(render(result, FACTS)).words and "It paid for itself" not in words
    coloured = [canvas.UP in figures(some, FACTS)["effects_1.svg"] for some in (plain, result)]
    assert coloured == [True, False]
    assert words.index("Every check") < words.index("for diagnosis only")


def test_several_treatments_and_a_placebo() -> None:
    result = result_of(["email", "search"], ["revenue", "visits"], ["age"])
    method = {**FACTS["method"], "placebo_outcomes": ("visits",)}
    words = said(result, method=method)
    for text in ("Did email or search change revenue, in", "2 of 2 effects can be told from zero", "placebo moved",
                 "on visits, a placebo outcome", "Treatments that go together", "2treatments"):  # fmt: skip
        assert text in words, text
    drawn = set(figures(result, {**FACTS, "method": method}))
    assert drawn == {
        "effects_1.svg", "effects_2.svg", "returns.svg", "balance_1.svg", "balance_2.svg", "overlap.svg",
    }  # fmt: skip


def test_a_placebo_is_not_counted_as_an_effect() -> None:
    result = result_of(["email"], ["revenue", "visits"], ["age"])
    words = said(result, method={**FACTS["method"], "placebo_outcomes": ("visits",)})
    assert "email raised revenue" in words and "visits rose" not in words


def test_settings_are_named_and_unset_ones_are_not(plain: Result) -> None:
    words = said(plain)
    for text in ("age, visits", "Clustered by", "0.1, 0.9", "distance logit, caliper 0.2", "exact country"):
        assert text in words, text
    assert "Planned shares" not in words and "Randomised" not in words
    assert "Trimmed" not in said(plain, method={**FACTS["method"], "trim": None})


def test_digits_of_sizes(plain: Result) -> None:
    words = said(plain)
    assert "61.1%" in words and "47.6" in words and "0.0600" in words and "\u221e" not in words


def test_a_love_plot_holds_what_is_beyond_its_axis() -> None:
    """A difference beyond the widest is drawn at the edge; NaN is not drawn; no row at all gives a drawing too."""
    rows = [Dots("age", [9.0, 0.05]), Dots("visits", [math.nan, 0.3])]
    svg = balances.love(rows, ["before", "after"], (0.1, 0.25), name="x", axis="size")
    at_edge = [Dots("age", [balances.WIDEST, 0.05]), rows[1]]
    assert svg != balances.love(at_edge, ["before", "after"], (0.1, 0.25), name="x", axis="size")
    ElementTree.fromstring(svg)
    assert "visits" in svg and ">1.4<" in svg.replace("\n", "") and ">9<" not in svg
    ElementTree.fromstring(balances.love([], [], (0.1, 0.25), name="x", axis="size"))


@pytest.mark.parametrize("counts", [[], [0.0] * 50, [math.nan] * 50, [0.0] * 49 + [1e9]])
def test_overlap_is_drawn_whatever_the_counts(counts: list[float]) -> None:
    panels = [Histogram("email", counts, counts)] * 3
    svg = balances.mirrored(panels, name="x", axis="propensity", treated="t", control="c")
    ElementTree.fromstring(svg)
    assert "nan" not in svg and "inf" not in svg


def test_the_beyond_caption_is_there_only_if_needed(plain: Result) -> None:
    assert "An arrow at the edge" in said(plain)
    tables = {**plain.diagnostics, "balance": plain.diagnostics["balance"].assign(smd=0.3)}
    assert "An arrow at the edge" not in said(replace(plain, diagnostics=tables))
