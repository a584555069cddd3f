"""The experiment job from table to estimates, against numpy, pandas and scipy on the same rows, on every engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from causal_spark import job
from causal_spark.simulate import shop_experiment, write
from causal_spark.solve.linear import cuped
from causal_spark.solve.means import Form, difference, evaluate
from causal_spark.statistics import Moments

# Engines sum doubles in different orders; the contract is 1e-9, these tables are small enough for a little more.
RTOL = 1e-10
ARMS = ("control", "blue", "green")


def units_table(n: int = 6_000, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    arm = rng.choice([*ARMS, "reserve"], n, p=[0.4, 0.3, 0.2, 0.1])
    skill = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "user": np.arange(n),
            "arm": arm,
            "country": rng.choice(["DE", "CN", "tiny", None], n, p=[0.6, 0.3, 0.005, 0.095]),
            "revenue_pre": np.exp(skill) * (rng.random(n) < 0.7),
            "clicks_pre": rng.poisson(2, n),
            "views": rng.poisson(5, n) + 1,
            "converted": rng.random(n) < 0.2 + 0.05 * (arm == "blue"),
            "optional": rng.normal(3, 1, n),
            "village": rng.integers(0, 300, n),
        }
    )
    frame["views_pre"] = frame["clicks_pre"] + rng.poisson(3, n) + 1
    frame["revenue"] = np.exp(skill + rng.normal(size=n)) * (rng.random(n) < 0.5) * (1 + 0.2 * (arm == "green"))
    frame["clicks"] = rng.binomial(frame["views"], 0.3 + 0.02 * (arm == "green"))
    frame.loc[rng.random(n) < 0.3, "optional"] = np.nan
    return frame


METRICS = [
    {"name": "revenue", "kind": "revenue", "value": "revenue", "covariates": ["revenue_pre"], "winsorize": 0.99},
    {"name": "plain", "kind": "mean", "value": "revenue", "covariates": ["revenue_pre", "clicks_pre"]},
    {"name": "converted", "kind": "proportion", "value": "converted"},
    {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views",
     "covariates": [{"numerator": "clicks_pre", "denominator": "views_pre"}]},
    {"name": "optional", "kind": "mean", "value": "optional", "nulls": "drop", "role": "guardrail"},
    {"name": "zeroed", "kind": "mean", "value": "optional", "nulls": "zero", "role": "diagnostic"},
]  # fmt: skip
METHOD = {
    "unit": "user", "arm": "arm", "control": "control", "holdouts": ["reserve"],
    "shares": {"control": 0.4, "blue": 0.3, "green": 0.2, "reserve": 0.1},
    "metrics": METRICS, "segments": ["country"],
}  # fmt: skip


def config(folder: Path, table: Path, **method: object) -> dict:
    return {
        "job": "experiment",
        "input": {"units": {"table": str(table)}},
        "method": {**METHOD, **method},
        "output": {"path": str(folder)},
        "tracking": {"enabled": False},
    }


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return units_table()


@pytest.fixture(scope="module")
def table(rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), folder / "units.parquet")
    return folder


@pytest.fixture(scope="module")
def outcome(spark, table, tmp_path_factory):
    return job.run(config(tmp_path_factory.mktemp("out") / "run", table), "experiment")


@pytest.fixture(scope="module")
def estimates(outcome) -> pd.DataFrame:
    return outcome.result.estimates.set_index(["outcome", "segment", "contrast", "term", "method"]).sort_index()


def moments(rows: pd.DataFrame, columns: list[str], arm: str) -> Moments:
    chosen = rows[rows["arm"] == arm][columns].astype(float)
    return Moments.from_rows(tuple(columns), chosen.dropna().to_numpy())


def assert_close(found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=RTOL)


@pytest.mark.parametrize("segment", ["all", "country=DE", "country=CN", "country=(missing)"])
@pytest.mark.parametrize("arm", ["blue", "green"])
def test_welch_and_z_equal_scipy_in_every_segment(rows, estimates, segment, arm) -> None:
    value = segment.partition("=")[2]
    mine = (
        rows if segment == "all" else rows[rows["country"].isna() if value == "(missing)" else rows["country"] == value]
    )
    t, c = (mine[mine["arm"] == a] for a in (arm, "control"))
    for name, column in (("plain", "revenue"), ("optional", "optional")):
        row = estimates.loc[(name, segment, f"{arm} vs control", "difference", "welch")]
        test = stats.ttest_ind(t[column].dropna(), c[column].dropna(), equal_var=False)
        low, high = test.confidence_interval(0.95)
        for found, wanted in ((row.statistic, test.statistic), (row.p_value, test.pvalue), (row.dof, test.df),
                              (row.conf_low, low), (row.conf_high, high)):  # fmt: skip
            assert found == pytest.approx(wanted, rel=1e-9)
        assert row.n == t[column].notna().sum() + c[column].notna().sum()
    row = estimates.loc[("converted", segment, f"{arm} vs control", "difference", "z")]
    p = np.array([t["converted"].mean(), c["converted"].mean()])
    n = np.array([len(t), len(c)])
    pooled = (p * n).sum() / n.sum()
    assert_close(row.statistic, (p[0] - p[1]) / np.sqrt(pooled * (1 - pooled) * (1 / n).sum()))
    assert_close(row.std_error, np.sqrt((p * (1 - p) / n).sum()))


def test_nulls_as_zero_are_zeros(rows, estimates) -> None:
    row = estimates.loc[("zeroed", "all", "blue vs control", "difference", "welch")]
    t, c = (rows[rows["arm"] == a]["optional"].fillna(0) for a in ("blue", "control"))
    assert_close(row.estimate, t.mean() - c.mean())
    assert row.n == len(t) + len(c)


def test_winsorizing_caps_at_the_pooled_percentile_of_non_zero_values(rows, estimates) -> None:
    capped = rows.copy()
    for column in ("revenue", "revenue_pre"):
        values = np.sort(rows[column][rows[column] != 0])
        cap = values[int(np.ceil(0.99 * len(values) - 1e-6)) - 1]
        capped[column] = rows[column].clip(upper=cap)
    t, c = (capped[capped["arm"] == a]["revenue"] for a in ("green", "control"))
    row = estimates.loc[("revenue", "all", "green vs control", "difference", "welch")]
    assert_close(row.estimate, t.mean() - c.mean())
    parts = {a: moments(capped, ["revenue", "revenue_pre"], a) for a in ARMS}
    adjusted = cuped(parts, [Form("revenue"), Form("revenue_pre")])
    test = difference(adjusted.groups["green"], adjusted.groups["control"])
    row = estimates.loc[("revenue", "all", "green vs control", "difference", "cuped")]
    assert_close(row.estimate, test.estimate)
    assert_close(row.p_value, test.p_value)


def test_cuped_with_several_covariates_is_the_analysis_of_covariance(rows, estimates) -> None:
    """θ within the arms is the coefficient of least squares on arm indicators and covariates."""
    tested = rows[rows["arm"].isin(ARMS)]
    x = tested[["revenue_pre", "clicks_pre"]].to_numpy(float)
    design = np.column_stack([*(tested["arm"] == a for a in ARMS), x - x.mean(axis=0)]).astype(float)
    coefficients = np.linalg.lstsq(design, tested["revenue"].to_numpy(), rcond=None)[0]
    for i, arm in enumerate(("blue", "green"), start=1):
        row = estimates.loc[("plain", "all", f"{arm} vs control", "difference", "cuped")]
        assert row.estimate == pytest.approx(coefficients[i] - coefficients[0], rel=1e-9)


def test_a_ratio_is_the_ratio_of_sums_with_the_delta_variance(rows, estimates) -> None:
    values = []
    for arm in ("green", "control"):
        mine = rows[rows["arm"] == arm]
        ratio = mine["clicks"].sum() / mine["views"].sum()
        residual = (mine["clicks"] - ratio * mine["views"]) / mine["views"].mean()
        values.append((ratio, residual.var(ddof=1) / len(mine)))
    row = estimates.loc[("ctr", "all", "green vs control", "difference", "delta")]
    assert_close(row.estimate, values[0][0] - values[1][0])
    assert_close(row.std_error, np.sqrt(values[0][1] + values[1][1]))


def test_unadjusted_twins_and_guardrails_stay_out_of_the_family(outcome) -> None:
    frame = outcome.result.estimates
    overall = frame[(frame["segment"] == "all") & (frame["term"] == "difference")]
    success = overall["outcome"].isin(["revenue", "plain", "converted", "ctr"])
    primary = (overall["method"] == "cuped") | (overall["outcome"] == "converted")
    family = overall[success & primary]
    assert len(family) == 4 * 2
    assert overall[~(success & primary)]["p_adjusted"].isna().all()
    order = family.sort_values("p_value")
    holm = np.minimum(np.maximum.accumulate(order["p_value"] * np.arange(len(order), 0, -1)), 1)
    np.testing.assert_allclose(order["p_adjusted"], holm, rtol=1e-12)
    twin = overall[(overall["outcome"] == "plain") & (overall["method"] == "welch")]
    assert twin["note"].str.contains("twin").all()


def test_small_segments_are_suppressed_everywhere(outcome, estimates) -> None:
    tiny = estimates.xs("country=tiny", level="segment")
    assert len(tiny) > 0
    assert tiny["estimate"].isna().all()
    assert tiny["note"].str.contains("fewer than 50").all()
    text = Path(outcome_path(outcome), "statistics.json").read_text()
    assert '"tiny"' not in text.replace('"country=tiny"', "")


def outcome_path(outcome) -> str:
    return outcome.manifest["path"]


def test_holdouts_leave_the_test_but_are_no_mismatch(outcome) -> None:
    ratio = outcome.result.diagnostics["srm"]
    assert set(ratio["arm"]) == set(ARMS)
    assert ratio[ratio["segment"] == "all"]["planned"].tolist() == pytest.approx([4 / 9, 3 / 9, 2 / 9])
    assert outcome.result.trusted
    assert not outcome.result.estimates["contrast"].str.contains("reserve").any()


def test_all_estimates_are_there_with_all_columns_and_no_value_without_meaning(outcome) -> None:
    frame = outcome.result.estimates
    assert len(frame) == (4 + 1) * (2 * 2 + 2 * 2 + 2 + 2 * 2 + 2 + 2) * 2 - len(METRICS_TWICE) * 4
    estimated = frame[frame["estimate"].notna()]
    assert estimated[["std_error", "statistic", "p_value", "conf_low", "conf_high"]].notna().all(axis=None)
    assert frame[frame["estimate"].isna()]["note"].str.len().gt(0).all()
    assert (estimated["conf_low"] <= estimated["estimate"]).all()
    assert (estimated["estimate"] <= estimated["conf_high"]).all()


# Suppressed segments have no unadjusted twin: there is nothing to show beside an empty row.
METRICS_TWICE = ("revenue", "plain", "ctr")


@pytest.mark.parametrize(("partitions", "seed"), [(1, 0), (2, 1), (7, 2)])
def test_files_and_row_order_change_no_estimate(spark, rows, outcome, tmp_path, partitions, seed) -> None:
    shuffled = rows.sample(frac=1, random_state=seed)
    folder = tmp_path / "units"
    folder.mkdir()
    for i in range(partitions):
        part = shuffled.iloc[i::partitions]
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), folder / f"{i}.parquet")
    again = job.run(config(tmp_path / "run", folder), "experiment").result.estimates
    assert_same_estimates(again, outcome.result.estimates)


def assert_same_estimates(found: pd.DataFrame, wanted: pd.DataFrame, rtol: float = 1e-9) -> None:
    keys = ["outcome", "segment", "contrast", "term", "method"]
    found, wanted = (frame.sort_values(keys).reset_index(drop=True) for frame in (found, wanted))
    pd.testing.assert_frame_equal(found[[*keys, "note"]], wanted[[*keys, "note"]])
    for name in ("estimate", "std_error", "statistic", "dof", "p_value", "p_adjusted", "conf_low", "conf_high", "n"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=rtol, atol=0, equal_nan=True, err_msg=name)


def test_adaptive_execution_changes_no_estimate(spark, table, outcome, tmp_path) -> None:
    try:
        before = spark.conf.get("spark.sql.adaptive.enabled")
        spark.conf.set("spark.sql.adaptive.enabled", "false")
    except Exception:
        pytest.skip("this engine has no adaptive execution to switch off")
    try:
        again = job.run(config(tmp_path / "run", table), "experiment").result.estimates
    finally:
        spark.conf.set("spark.sql.adaptive.enabled", before)
    assert_same_estimates(again, outcome.result.estimates)


def test_clusters_are_the_delta_method_on_cluster_totals(spark, rows, tmp_path) -> None:
    clustered = rows[rows["arm"].isin(["control", "blue"])].copy()
    by_village = {v: ("control", "blue")[v % 2] for v in range(300)}
    clustered["arm"] = clustered["village"].map(by_village)
    file = tmp_path / "units.parquet"
    pq.write_table(pa.Table.from_pandas(clustered, preserve_index=False), file)
    data = config(tmp_path / "run", file, cluster="village", shares={"control": 0.5, "blue": 0.5}, holdouts=[])
    data["method"]["metrics"] = [
        {"name": "optional", "kind": "mean", "value": "optional", "nulls": "drop", "scale": 10**9},
        {"name": "converted", "kind": "proportion", "value": "converted"},
        {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views"},
    ]
    found = job.run(data, "experiment").result.estimates
    found = found[found["term"] == "difference"].set_index(["outcome", "segment"])
    for segment, mine in (("all", clustered), ("country=DE", clustered[clustered["country"] == "DE"])):
        pairs = {"optional": ("optional", None), "converted": ("converted", None), "ctr": ("clicks", "views")}
        for name, (top, bottom) in pairs.items():
            kept = mine.dropna(subset=[top]).assign(one=1.0)
            totals = kept.groupby(["arm", "village"])[[top, bottom or "one"]].sum().reset_index()
            columns = (top, bottom or "one")
            arms = {
                arm: Moments.from_rows(columns, totals[totals["arm"] == arm][list(columns)].to_numpy(float))
                for arm in ("control", "blue")
            }
            form = [Form(*columns)]
            test = difference(evaluate(arms["blue"], form), evaluate(arms["control"], form))
            row = found.loc[(name, segment)]
            # Cluster totals are sums of values rounded at the metric's scale, here nine decimals.
            assert row.estimate == pytest.approx(test.estimate, rel=1e-7)
            assert row.std_error == pytest.approx(test.std_error, rel=1e-7)
            assert row.n == len(kept) if bottom is None else row.n > 0


def test_a_finished_run_is_solved_again_without_its_table(outcome, estimates, tmp_path) -> None:
    again = job.resolve(outcome_path(outcome), {"alpha": 0.2, "contrasts": "pairs", "lift": "log"}, str(tmp_path / "r"))
    frame = again.result.estimates.set_index(["outcome", "segment", "contrast", "term", "method"])
    assert ("plain", "all", "green vs blue", "difference", "welch") in frame.index
    key = ("plain", "all", "blue vs control", "difference", "welch")
    assert_close(frame.loc[key].estimate, estimates.loc[key].estimate)
    assert frame.loc[key].conf_high < estimates.loc[key].conf_high
    assert (frame["conf_level"] == 0.8).all()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = shop_experiment(4_000, seed=3)
    folder = tmp_path_factory.mktemp("shop")
    write(made, folder)
    return made, folder


EVENT_METHOD = {
    "unit": "user_id", "arm": "variant", "control": "control", "time": "ts", "window_days": 7, "pre_days": 14,
    "by_day": 5, "segments": ["platform"],
    "metrics": [
        {"name": "revenue", "kind": "revenue", "value": "amount", "scale": 100,
         "where": [{"column": "type", "op": "==", "value": "purchase"}]},
        {"name": "converted", "kind": "conversion", "where": [{"column": "type", "op": "==", "value": "purchase"}]},
        {"name": "ctr", "kind": "ratio", "numerator": "*", "denominator": "*",
         "numerator_where": [{"column": "type", "op": "==", "value": "click"}],
         "denominator_where": [{"column": "type", "op": "==", "value": "view"}]},
        {"name": "retained", "kind": "retention", "days": [7, 14]},
    ],
}  # fmt: skip


def shop_config(folder: Path, out: Path, **method: object) -> dict:
    return {
        "job": "experiment",
        "input": {name: {"table": str(folder / name)} for name in ("exposures", "events")},
        "method": {**EVENT_METHOD, **method},
        "output": {"path": str(out)},
        "tracking": {"enabled": False},
    }


@pytest.fixture(scope="module")
def shop_outcome(spark, shop, tmp_path_factory):
    return job.run(shop_config(shop[1], tmp_path_factory.mktemp("out") / "run"), "experiment")


def by_hand(made) -> pd.DataFrame:
    """The unit table of the shop, by pandas."""
    first = made.exposures.to_pandas().sort_values("ts").groupby("user_id").first().reset_index()
    pairs = made.events.to_pandas().merge(first, on="user_id", suffixes=("", "_exposed"))
    day = (pairs["ts"] - pairs["ts_exposed"]).dt.total_seconds() / 86_400
    cents = (pairs["amount"].fillna(0) * 100).round() / 100
    for name, chosen in {
        "revenue": ((day >= 0) & (day < 7) & (pairs["type"] == "purchase")) * cents,
        "revenue before": ((day >= -14) & (day < 0) & (pairs["type"] == "purchase")) * cents,
        "clicks": (day >= 0) & (day < 7) & (pairs["type"] == "click"),
        "views": (day >= 0) & (day < 7) & (pairs["type"] == "view"),
        "buys": (day >= 0) & (day < 7) & (pairs["type"] == "purchase"),
        "back": (day >= 7) & (day < 14),
        "day 2": ((day >= 2) & (day < 3) & (pairs["type"] == "purchase")) * cents,
    }.items():
        first[name] = first["user_id"].map(chosen.groupby(pairs["user_id"]).sum()).fillna(0).astype(float)
    return first


def test_events_give_the_unit_table_that_pandas_gives(shop, shop_outcome) -> None:
    hand = by_hand(shop[0])
    found = shop_outcome.result.estimates
    found = found[(found["segment"] == "all") & (found["term"] == "difference")].set_index(["outcome", "method"])
    t, c = (hand[hand["variant"] == a] for a in ("treatment", "control"))
    wanted = {
        ("revenue", "welch"): t["revenue"].mean() - c["revenue"].mean(),
        ("converted", "z"): (t["buys"] > 0).mean() - (c["buys"] > 0).mean(),
        ("ctr", "delta"): t["clicks"].sum() / t["views"].sum() - c["clicks"].sum() / c["views"].sum(),
        ("retained", "z"): (t["back"] > 0).mean() - (c["back"] > 0).mean(),
    }
    for key, value in wanted.items():
        assert_close(found.loc[key].estimate, value)
    adjusted = cuped(
        {a: Moments.from_rows(("y", "x"), part[["revenue", "revenue before"]]) for a, part in (("t", t), ("c", c))},
        [Form("y"), Form("x")],
    )
    test = difference(adjusted.groups["t"], adjusted.groups["c"])
    assert_close(found.loc[("revenue", "cuped")].estimate, test.estimate)
    assert_close(found.loc[("revenue", "cuped")].std_error, test.std_error)


def test_the_effect_of_a_day_is_over_all_units_exposed_so_long(shop, shop_outcome) -> None:
    hand = by_hand(shop[0])
    days = shop_outcome.result.diagnostics["by_day"].set_index(["outcome", "day"])
    t, c = (hand[hand["variant"] == a]["day 2"] for a in ("treatment", "control"))
    row = days.loc[("revenue", 2)]
    assert_close(row.estimate, t.mean() - c.mean())
    assert_close(row.p_value, stats.ttest_ind(t, c, equal_var=False).pvalue)
    assert row.n == len(hand)
    assert days.loc["revenue"].index.tolist() == [0, 1, 2, 3, 4]


def test_units_that_are_not_mature_leave_the_metric(spark, shop, tmp_path) -> None:
    made, _ = shop
    exposed = made.exposures.to_pandas().groupby("user_id")["ts"].min()
    end = exposed.min() + pd.Timedelta(days=10)
    events = made.events.to_pandas()
    inputs = tmp_path / "in"
    for name, frame in (("exposures", made.exposures.to_pandas()), ("events", events)):
        (inputs / name).mkdir(parents=True)
        pq.write_table(
            pa.Table.from_pandas(frame[frame["ts"] < end], preserve_index=False), inputs / name / "0.parquet"
        )
    outcome = job.run(shop_config(inputs, tmp_path / "run", as_of=end.isoformat(), by_day=None), "experiment")
    found = outcome.result.estimates.set_index(["outcome", "segment", "term", "method"])
    mature = (exposed[exposed < end] + pd.Timedelta(days=7) <= end).sum()
    assert 0 < mature < (exposed < end).sum()
    assert found.loc[("revenue", "all", "difference", "welch")].n == mature
    assert np.isnan(found.loc[("retained", "all", "difference", "z")].estimate)
    assert found.loc[("retained", "all", "difference", "z")].note


def test_the_manifest_is_complete(shop_outcome) -> None:
    path = Path(outcome_path(shop_outcome))
    manifest = json.loads((path / "manifest.json").read_text())
    assert sorted(manifest["tables"]) == sorted(["estimates", *shop_outcome.result.diagnostics])
    for name in manifest["tables"]:
        assert pq.read_table(path / name).num_rows > 0
    assert not (path / "_stage").exists()
    assert not (path / "_started.json").exists()
    assert (path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_equal_rows_of_one_event_count_once(spark, shop, shop_outcome, tmp_path) -> None:
    made, _ = shop
    events = made.events.to_pandas()
    doubled = pd.concat([events, events.iloc[::10]])
    for name, frame in (("exposures", made.exposures.to_pandas()), ("events", doubled)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / name / "0.parquet")
    found = job.run(shop_config(tmp_path, tmp_path / "run", event_id="event_id"), "experiment").result
    assert_same_estimates(found.estimates, shop_outcome.result.estimates)
    checks = found.diagnostics["checks"].set_index("code")
    assert checks.loc["DUPLICATE_EVENT", "verdict"] == "warn"
    assert checks.loc["DUPLICATE_EVENT", "count"] == len(events.iloc[::10])


def test_amounts_of_both_signs_have_no_hot_unit(spark, rows, tmp_path) -> None:
    """Their total is near zero, so that any unit is a large share of it."""
    signed = rows.assign(optional=np.random.default_rng(1).normal(size=len(rows)))
    pq.write_table(pa.Table.from_pandas(signed, preserve_index=False), tmp_path / "units.parquet")
    metric = {"name": "profit", "kind": "mean", "value": "optional"}
    method = config(tmp_path / "out", tmp_path / "units.parquet", metrics=[metric], segments=[])
    checks = job.run(method, "experiment").result.diagnostics["checks"]
    assert signed["optional"].sum() * 0.01 < signed["optional"].max()
    assert "HOT_KEY" not in set(checks["code"])


def test_columns_may_be_named_as_the_statistics_are(spark, rows, tmp_path) -> None:
    named = rows[rows["arm"] != "reserve"].rename(columns={"arm": "block", "country": "n"})
    pq.write_table(pa.Table.from_pandas(named, preserve_index=False), tmp_path / "units.parquet")
    asked = {"metrics": [METRICS[2]], "segments": ["n"], "holdouts": [], "shares": None}
    same = job.run(config(tmp_path / "a", tmp_path / "units.parquet", arm="block", **asked), "experiment")
    effect = same.result.estimates.query("segment == 'n=DE' and term == 'difference' and contrast == 'blue vs control'")
    germans = named[named["n"] == "DE"].groupby("block")["converted"].mean()
    assert_close(effect["estimate"].item(), germans["blue"] - germans["control"])
