"""Quantiles, ranks, resampling and robust regression within segments, against numpy, scipy and statsmodels."""

from __future__ import annotations

import importlib
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_spark import job
from causal_spark.solve.assignment import salted
from causal_spark.solve.bootstrap import poisson_weights
from causal_spark.solve.multiplicity import adjust
from causal_spark.spark import histograms as native
from tests.jobs.test_estimates import ARMS, ROWS, N, assert_equal, interacted, order_statistic, row, run

pytestmark = pytest.mark.engines("sail")

TINY = 30


def table() -> pd.DataFrame:
    """A country with few units, and a column of numbers with holes, whose segments are called 1.0, 2.0, (missing)."""
    frame = ROWS.assign(hole=ROWS["spend"].where(np.arange(N) % 7 > 0))
    frame["country"] = frame["country"].where(np.arange(N) >= TINY, "LI")
    return frame.assign(tier=np.where(np.arange(N) % 10 == 0, math.nan, 1.0 + np.arange(N) % 2))


FRAME = table()
METRICS = [
    {"name": "spend", "kind": "revenue", "value": "spend", "quantiles": [0.5, 0.9], "ranks": True,
     "covariates": ["spend_pre", "age"]},
    {"name": "gap", "kind": "mean", "value": "hole", "covariates": ["spend_pre"], "nulls": "drop", "quantiles": [0.5]},
    {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views", "role": "guardrail"},
]  # fmt: skip
SEGMENTS = ["country", "tier"]
METHOD = {"segments": SEGMENTS, "adjustment": "lin", "bootstrap": {"replicates": 100, "buckets": 200}}
SHOWN = ("all", "country=DE", "country=US", "tier=2.0", "tier=(missing)")


@pytest.fixture(scope="module")
def within(spark, tmp_path_factory) -> Any:
    return run(tmp_path_factory.mktemp("within"), METRICS, FRAME, **METHOD)


def part(segment: str) -> pd.DataFrame:
    """The rows of a segment."""
    column, _, level = segment.partition("=")
    if segment == "all":
        return FRAME
    return FRAME[FRAME[column].isna() if level == "(missing)" else FRAME[column].astype(str) == level]


@pytest.mark.parametrize("segment", SHOWN)
@pytest.mark.parametrize(("outcome", "column", "q"), [("spend", "spend", 0.9), ("gap", "hole", 0.5)])
def test_quantiles_of_each_segment(within, segment, outcome, column, q) -> None:
    z, estimate, variance, n = stats.norm.isf(0.025), {}, 0.0, 0
    for arm in ARMS:
        x = np.sort(part(segment).query("arm == @arm")[column].dropna())
        half = z * math.sqrt(q * (1 - q) / len(x))
        estimate[arm], n = order_statistic(x, q), n + len(x)
        variance += ((order_statistic(x, q + half) - order_statistic(x, q - half)) / (2 * z)) ** 2
    found = row(within.result, outcome, f"p{100 * q:g} difference", "quantile", segment)
    assert found.estimate == pytest.approx(estimate["blue"] - estimate["control"], rel=1e-9)
    assert (found.std_error, found.n) == (pytest.approx(math.sqrt(variance), rel=1e-9), n)
    lift = row(within.result, outcome, f"p{100 * q:g} lift", "quantile", segment)
    assert lift.estimate == pytest.approx(estimate["blue"] / estimate["control"] - 1, rel=1e-9)


@pytest.mark.parametrize("segment", SHOWN)
def test_ranks_resampling_and_regression_of_each_segment(within, segment) -> None:
    mine = part(segment)
    t, c = (mine[mine["arm"] == arm] for arm in ("blue", "control"))
    wanted = stats.mannwhitneyu(t["spend"], c["spend"], use_continuity=False, method="asymptotic")
    assert row(within.result, "spend", "superiority", "mann_whitney", segment).p_value == pytest.approx(
        wanted.pvalue, rel=1e-9
    )
    again = []
    for place, arm in enumerate((c, t)):
        bucket = np.array([salted(str(user), "bootstrap") % 200 for user in arm["user"]])
        sums = np.column_stack([np.bincount(bucket, arm[name], 200) for name in ("clicks", "views")])
        again.append(np.divide(*(poisson_weights(np.arange(200), 100, 7 + place).T @ sums).T))
    found = row(within.result, "ctr", "difference", "bootstrap", segment)
    assert found.std_error == pytest.approx((again[1] - again[0]).std(ddof=1), rel=1e-8)
    for outcome, y, x in (("spend", "spend", ["spend_pre", "age"]), ("gap", "hole", ["spend_pre"])):
        ols = interacted(mine, y, x).fit(cov_type="HC2")
        found = row(within.result, outcome, "difference", "lin", segment)
        assert (found.estimate, found.std_error) == pytest.approx((ols.params[1], ols.bse[1]), rel=1e-8)


def test_segments_are_a_family_of_their_own(within) -> None:
    """Success metrics over all segments together, each method for itself; guardrails and empty rows are no tests."""
    found = within.result.estimates
    success = found[(found["outcome"] != "ctr") & (found["segment"] != "all")]
    for method, term in (("quantile", "difference"), ("mann_whitney", "superiority"), ("lin", "difference")):
        mine = success[(success["method"] == method) & success["term"].str.endswith(term)]
        np.testing.assert_allclose(mine["p_adjusted"], adjust(mine["p_value"].tolist(), "holm"), rtol=1e-12)
        assert mine["p_adjusted"].notna().sum() == {"quantile": 18, "mann_whitney": 6, "lin": 12}[method]
    assert found[(found["outcome"] == "ctr")]["p_adjusted"].isna().all()


def test_a_suppressed_segment_leaves_nothing_but_its_reason(within) -> None:
    found = within.result.estimates
    mine = found[found["segment"] == "country=LI"]
    assert set(mine["method"]) == {"lin", "delta", "quantile", "mann_whitney", "bootstrap"}
    assert mine["estimate"].isna().all()
    assert mine["note"].str.contains("Suppressed").all()
    assert '"country=LI": {' not in (Path(within.manifest["path"]) / "statistics.json").read_text()


@pytest.mark.parametrize("files", [2, 7])
def test_files_change_nothing(spark, within, tmp_path, files) -> None:
    again = run(tmp_path, METRICS, FRAME.sample(frac=1, random_state=files), files, **METHOD)
    assert_equal(again.result, within.result, ["quantile", "mann_whitney"])
    assert_equal(again.result, within.result, ["lin", "bootstrap", "delta"], rtol=1e-9)


def test_resolve_needs_no_table(within, tmp_path) -> None:
    again = job.resolve(within.manifest["path"], {"hc": "HC3"}, str(tmp_path / "again")).result
    assert_equal(again, within.result, ["quantile", "mann_whitney", "bootstrap"])
    wanted = interacted(part("tier=2.0"), "spend", ["spend_pre", "age"]).fit(cov_type="HC3")
    assert row(again, "spend", "difference", "lin", "tier=2.0").std_error == pytest.approx(wanted.bse[1], rel=1e-8)


# size -----------------------------------------------------------------------------------------------------------------

ORDERS = [{"name": "orders", "kind": "count", "value": "orders", "quantiles": [0.75]}]


@pytest.mark.parametrize("beyond", [False, True])
def test_what_would_be_too_large_comes_by_column_or_not_at_all(spark, monkeypatch, tmp_path, beyond) -> None:
    """k values of orders leave 2k cells of everyone, 6k + 30 of country (LI's units besides), 6k of tier, and at most
    18k + 30 of their cross.
    """
    k = int(FRAME["orders"].max() - FRAME["orders"].min() + 1)
    taken, plain = [], native.histograms
    monkeypatch.setattr(
        native, "histograms", lambda frame, keys, *more: taken.append(keys) or plain(frame, keys, *more)
    )
    whole = run(tmp_path / "whole", ORDERS, FRAME, segments=SEGMENTS)
    monkeypatch.setattr(native, "MAX_CELLS", 14 * k + 29 if beyond else 14 * k + 30)
    small = run(tmp_path / "small", ORDERS, FRAME, segments=SEGMENTS)
    apart = [["arm", "country"]] if beyond else [["arm", "country"], ["arm", "tier"]]
    assert taken == [["arm", *SEGMENTS], *apart]
    found = small.result.estimates
    tier = found[found["segment"].str.startswith("tier") & (found["method"] == "quantile")]
    assert len(tier) == 6
    assert tier["estimate"].isna().all() == tier["note"].str.contains("histogram_bits").all() == beyond
    assert found[found["segment"].str.startswith("tier") & (found["method"] == "welch")]["estimate"].notna().all()
    kept, wanted = (_kept(outcome)["histograms"]["orders"] for outcome in (small, whole))
    assert kept["arms"] == wanted["arms"]
    assert all(kept["segments"][label] == wanted["segments"][label] for label in kept["segments"])
    assert len(kept["segments"]) == (3 if beyond else 6)


def _kept(outcome: Any) -> dict[str, Any]:
    return json.loads((Path(outcome.manifest["path"]) / "statistics.json").read_text())["more"]


def test_too_many_buckets_and_regressions_leave_everyone(spark, within, monkeypatch, tmp_path) -> None:
    """The regression then has the standard error of an equal spread, and says so."""
    for name, most in (("buckets", "MAX_SUMS"), ("leverage", "MAX_FITS")):
        monkeypatch.setattr(importlib.import_module(f"causal_spark.methods.experiment.passes.{name}"), most, 1)
    result = run(tmp_path, METRICS[:1], FRAME, **METHOD).result
    everyone = row(result, "spend", "difference", "lin")
    assert everyone.std_error == pytest.approx(row(within.result, "spend", "difference", "lin").std_error, rel=1e-12)
    lin, again = (row(result, "spend", "difference", method, "country=DE") for method in ("lin", "bootstrap"))
    assert lin.estimate == row(within.result, "spend", "difference", "lin", "country=DE").estimate
    assert "equal" in lin.note
    assert math.isnan(again.estimate)
    assert "bootstrap.buckets" in again.note


# clusters -------------------------------------------------------------------------------------------------------------


def test_clusters_within_a_segment(spark, tmp_path) -> None:
    """Villages lie in several countries: within one they count with their units there, up to its own quantile. A bucket
    without a village is no part of the jackknife.
    """
    metrics = [{"name": "spend", "kind": "revenue", "value": "spend", "quantiles": [0.5]}]
    asked = {"method": "jackknife", "buckets": 300}
    found = run(tmp_path, metrics, FRAME, cluster="village", segments=["country"], bootstrap=asked, min_segment=20)
    arms = found.result.diagnostics["quantiles"].set_index(["segment", "arm"])
    z, mine = stats.norm.isf(0.025), part("country=DE")
    means = []
    for arm in ARMS:
        rows = mine[mine["arm"] == arm]
        x = np.sort(rows["spend"])
        median = order_statistic(x, 0.5)
        sums = (
            rows.assign(below=rows["spend"] <= median).groupby("village").agg(b=("below", "sum"), n=("below", "size"))
        )
        share = sums["b"].sum() / sums["n"].sum()
        half = z * math.sqrt(((sums["b"] - share * sums["n"]) / sums["n"].mean()).var(ddof=1) / len(sums))
        error = (order_statistic(x, 0.5 + half) - order_statistic(x, 0.5 - half)) / (2 * z)
        line = arms.loc[("country=DE", arm)]
        assert (line.estimate, line.std_error) == pytest.approx((median, error), rel=1e-9)
        bucket = np.array([salted(village, "bootstrap") % 300 for village in rows["village"]])
        total, size = (np.bincount(bucket, weights, 300) for weights in (rows["spend"], np.ones(len(rows))))
        means.append((total.sum() - total) / (size.sum() - size))
    filled = np.unique([salted(village, "bootstrap") % 300 for village in mine["village"]])
    gaps = (means[1] - means[0])[filled]
    ours = row(found.result, "spend", "difference", "jackknife", "country=DE")
    error = math.sqrt((1 - 1 / len(gaps)) * ((gaps - gaps.mean()) ** 2).sum())
    assert (ours.std_error, ours.dof) == (pytest.approx(error, rel=1e-8), len(filled) - 1)


# labels ---------------------------------------------------------------------------------------------------------------

WRITTEN = {
    "day": ("2026-01-01 00:00:00", "2026-01-02 12:30:00"),
    "share": ("0.1", "0.2"),
    "rate": ("0.0000001", "0.5000000"),
}
ODD = np.arange(N) % 2
TYPED = ROWS.assign(
    day=pd.to_datetime([WRITTEN["day"][i] for i in ODD], utc=True).as_unit("us"),
    share=np.array([0.1, 0.2], np.float32)[ODD],
    rate=[Decimal(WRITTEN["rate"][i]) for i in ODD],
)


def test_times_and_fractions_as_segments(spark, tmp_path) -> None:
    """Python and the engine write them in different ways; every pass finds the segment that the moments are of."""
    metrics = [{"name": "spend", "kind": "revenue", "value": "spend", "covariates": ["spend_pre"], "quantiles": [0.5]}]
    found = run(tmp_path / "lin", metrics, TYPED, segments=list(WRITTEN), adjustment="lin").result
    counts = run(tmp_path / "cluster", metrics, TYPED, segments=list(WRITTEN), cluster="village", min_segment=20).result
    for odd in (0, 1):
        ols = interacted(TYPED[odd == ODD], "spend", ["spend_pre"]).fit(cov_type="HC2")
        medians = set()
        for column, texts in WRITTEN.items():
            segment = f"{column}={texts[odd]}"
            lin = row(found, "spend", "difference", "lin", segment)
            assert (lin.estimate, lin.std_error) == pytest.approx((ols.params[1], ols.bse[1]), rel=1e-8)
            median = row(counts, "spend", "p50 difference", "quantile", segment)
            assert median.std_error > 0
            medians.add((median.estimate, median.std_error))
        assert len(medians) == 1


# scans ----------------------------------------------------------------------------------------------------------------


def test_strata_and_segments_ask_for_no_further_scan(spark, monkeypatch, tmp_path) -> None:
    """How often the table stands in the queries of a run, by their plans."""
    from pyspark.sql.connect.dataframe import DataFrame

    scans: list[int] = []
    plain = DataFrame.toArrow

    def watched(frame: Any) -> Any:
        scans.append(str(frame._plan.to_proto(frame._session.client)).count("data_source {"))
        return plain(frame)

    monkeypatch.setattr(DataFrame, "toArrow", watched)
    metrics = [{"name": "spend", "kind": "revenue", "value": "spend", "quantiles": [0.5], "covariates": ["age"]}]
    taken = {}
    asked: dict[str, dict[str, Any]] = {
        "bare": {}, "strata": {"segments": ["tier"], "strata": "country"}, "lin": {"adjustment": "lin"},
        "segments": {"segments": SEGMENTS, "adjustment": "lin"},
    }  # fmt: skip
    for name, more in asked.items():
        scans.clear()
        run(tmp_path / name, metrics, FRAME, bootstrap={"replicates": 50, "buckets": 50}, **more)
        taken[name] = sum(scans)
    assert taken == {"bare": 5, "strata": 5, "lin": 6, "segments": 6}
