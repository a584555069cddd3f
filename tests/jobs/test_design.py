"""The design job from a table to sizes, A/A verdicts and an assignment: published values, numpy, every engine."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm
from scipy import stats

from causal_spark import job
from causal_spark.config import build, load
from causal_spark.errors import CausalSparkError, ConfigError, GateError, StatisticError
from causal_spark.methods import design
from causal_spark.methods.design import planned
from causal_spark.methods.design.prepare import covariate_scale
from causal_spark.solve.assignment import Layer, arm, arm_edges
from causal_spark.solve.power import Split, design_effect
from causal_spark.solve.quantiles import quantile, share_variance
from causal_spark.solve.splits import acceptance, mahalanobis
from causal_spark.statistics import Moments, Range
from causal_spark.statistics.histogram import Histogram
from tests.run import ROOT

N = 3000
SHARES = {"control": 0.5, "treatment": 0.5}
RTOL = 1e-9  # engines sum doubles in different orders
METRICS = [
    {"name": "y", "kind": "mean", "value": "y", "covariates": ["x"]},
    {"name": "fifth", "kind": "proportion", "value": "fifth"},
    {"name": "tenth", "kind": "proportion", "value": "tenth"},
    {"name": "twentieth", "kind": "proportion", "value": "twentieth"},
    {"name": "third", "kind": "proportion", "value": "third"},
    {"name": "spread", "kind": "mean", "value": "spread"},
    {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views"},
    {"name": "whale", "kind": "mean", "value": "whale"},
]


def history(n: int = N) -> pd.DataFrame:
    """Units of five weeks. ``spread`` has the variance 100, 0/1 columns have the shares of their names exactly."""
    rng = np.random.default_rng(3)
    x = rng.normal(5, 2, n)
    store = rng.integers(0, 120, n)
    views = rng.poisson(6, n) + 1.0
    frame = pd.DataFrame({
        "id": np.arange(n), "x": x, "y": 10 + x + rng.normal(0, 1.5, n) + rng.normal(0, 1, 120)[store],
        "store": [f"s{i}" for i in store], "country": np.where(rng.random(n) < 0.3, "DE", "FR"),
        "views": views, "clicks": rng.binomial(views.astype(int), 0.3).astype(float),
        "spread": np.where(np.arange(n) % 2 == 0, 1, -1) * math.sqrt(100 * (n - 1) / n),
        "whale": rng.normal(0, 1, n) + np.where(np.arange(n) == 17, 1e5, 0.0),
        "seen": pd.Timestamp("2026-01-05") + pd.to_timedelta(rng.integers(0, 35, n), unit="D"),
    })  # fmt: skip
    for name, share in (("fifth", 0.2), ("tenth", 0.1), ("twentieth", 0.05), ("third", 0.34)):
        frame[name] = rng.permutation((np.arange(n) < round(share * n)).astype(int))
    return frame


def written(frame: pd.DataFrame, folder: Path, files: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        table = pa.Table.from_pandas(frame.iloc[i::files], preserve_index=False)
        pq.write_table(table, folder / f"{i}.parquet", coerce_timestamps="us")
    return folder


def config(table: Path, out: Path, role: str = "units", **method: Any) -> dict[str, Any]:
    return {"job": "design", "input": {role: {"table": str(table)}},
            "method": {"unit": "id", "metrics": METRICS[:1], **method}, "output": {"path": str(out)},
            "tracking": {"enabled": False}}  # fmt: skip


def run(data: Mapping[str, Any]) -> Any:
    return job.run(data, "design").result


ONLY_ON_SAIL = pytest.mark.engines("sail")  # nothing here that the other runs do not compare on every engine


def compressed(out: Path) -> design.Compressed:
    return design.Compressed.from_json((out / "statistics.json").read_text(encoding="utf-8"))


def table(result: Any, name: str, **where: Any) -> pd.DataFrame:
    rows = result.diagnostics[name]
    for key, value in where.items():
        rows = rows[rows[key] == value]
    return rows


@pytest.fixture(scope="module")
def units() -> pd.DataFrame:
    return history()


@pytest.fixture(scope="module")
def folder(units: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(units, tmp_path_factory.mktemp("units"), files=3)


AGAIN = {"covariates": ["x", "views"], "draws": 60, "accepted": 0.1}
ASKED = {"metrics": METRICS, "lifts": [0.05, 0.1, 0.25], "effects": {"spread": 0.3, "third": 0.003}, "time": "seen",
         "sizes": [20_000], "days": [14], "aa": {"splits": 400},
         "assign": {"salt": "s", "rerandomize": AGAIN}}  # fmt: skip


@pytest.fixture(scope="module")
def planning(spark, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The one run that every engine does: all metrics, arrivals, A/A, a balanced assignment."""
    out = tmp_path_factory.mktemp("out") / "run"
    return run(config(folder, out, **ASKED)), out


def method(**changes: Any) -> design.Design:
    return build(design.Design, {"unit": "id", **ASKED, **changes}, "method")


# published values -------------------------------------------------------------------------------------------------


@ONLY_ON_SAIL
@pytest.mark.parametrize(("name", "lift", "control", "unpooled", "pooled"), [
    ("fifth", 0.25, 1030, 1091, 1094),
    ("tenth", 0.1, 14313, 14748, 14751),
    ("twentieth", 0.05, 120146, 122121, 122123),
])  # fmt: skip
def test_r8_sizes_of_proportions(planning, name: str, lift: float, control: int, unpooled: int, pooled: int) -> None:
    """Units of an arm: printed ones are rounded to the nearest, the job's are rounded up."""
    for formula, printed in (("control", control), ("unpooled", unpooled), ("pooled", pooled)):
        asked = method(proportions=formula)
        result = design.solve(asked, compressed(planning[1]))
        row = table(result, "arms", outcome=name, lift=lift, arm="treatment").iloc[0]
        assert row["units"] - printed in (0, 1)
        (subject,) = [s for s in planned.subjects(asked, compressed(planning[1])) if s.outcome == name]
        assert round(planned.needed(asked, subject, lift * subject.mean, Split(), 0.05) / 2) == printed
        assert table(result, "sizes", outcome=name)["formula"].unique().tolist() == [f"z_{formula}"]


@ONLY_ON_SAIL
def test_r8_totals(planning) -> None:
    """Power 0.85: variance 100 and 0.3 take 39904 (z), 0.34 and 0.003 take 897348 (each arm rounded down)."""
    asked = method(power=0.85)
    found = {s.outcome: s for s in planned.subjects(asked, compressed(planning[1]))}
    assert found["spread"].variance == pytest.approx(100, rel=RTOL)
    assert round(planned.needed(asked, found["spread"], 0.3, Split(), 0.05)) == 39904
    assert 2 * math.floor(planned.needed(asked, found["third"], 0.003, Split(), 0.05) / 2) == 897348


# against numpy and statsmodels ------------------------------------------------------------------------------------


def test_moments_are_those_of_numpy(planning, units: pd.DataFrame) -> None:
    result, _ = planning
    rows = table(result, "metrics").set_index(["outcome", "test"])
    y, x, ratio = units["y"], units["x"], units["clicks"].sum() / units["views"].sum()
    rho2 = np.corrcoef(x, y)[0, 1] ** 2
    assert rows.loc[("y", "welch"), "variance"] == pytest.approx(y.var(ddof=1), rel=RTOL)
    assert rows.loc[("y", "cuped"), "rho2"] == pytest.approx(rho2, rel=RTOL)
    assert rows.loc[("y", "cuped"), "variance_kept"] == pytest.approx(1 - rho2, rel=RTOL)
    linear = (units["clicks"] - ratio * units["views"]) / units["views"].mean()
    assert rows.loc[("ctr", "delta"), "variance"] == pytest.approx(linear.var(ddof=1), rel=RTOL)
    assert rows.loc[("ctr", "delta"), "mean"] == pytest.approx(ratio, rel=RTOL)


def test_days_of_the_week(planning, units: pd.DataFrame) -> None:
    """Means over the last 28 days: four of each weekday. The first day on which enough have come, from a Monday on."""
    result, _ = planning
    last = units["seen"].max()
    recent = units[units["seen"] > last - pd.Timedelta(days=28)]
    week = recent.groupby(recent["seen"].dt.weekday).size().reindex(range(7), fill_value=0) / 4
    assert table(result, "arrivals")["units"].tolist() == week.tolist()
    row = table(result, "sizes", outcome="fifth", lift=0.25).iloc[0]
    assert row["days"] == 1 + int(np.argmax(np.cumsum(np.tile(week, 40)) >= row["units"]))
    assert row["weeks"] == math.ceil(row["days"] / 7)
    two_weeks = table(result, "detectable", outcome="fifth", days=14.0).iloc[0]
    assert two_weeks["units"] == 2 * week.sum()


@ONLY_ON_SAIL
def test_size_power_and_smallest_effect_go_together(planning) -> None:
    """At the rounded size the power is reached, two units fewer do not reach it, and no larger effect is needed."""
    result, out = planning
    found, asked = {(s.outcome, s.test): s for s in planned.subjects(method(), compressed(out))}, method()
    for row in table(result, "sizes").to_dict("records"):
        if row["units"] > 1e6:  # four units are too small a part of it to be seen
            continue
        subject, effect = found[row["outcome"], row["test"]], row["effect"]
        fewer = row["units"] - 4
        power = [planned.chance(asked, subject, effect, units) for units in (row["units"], fewer)]
        assert power[0] >= 0.8 > power[1]
        assert planned.smallest(asked, subject, row["units"]) <= effect < planned.smallest(asked, subject, fewer)
        of_size = {"outcome": row["outcome"], "test": row["test"], "units": 20_000.0}
        shown = table(result, "power", **of_size, effect=effect)["power"].item()
        assert shown == planned.chance(asked, subject, effect, 20_000)
        assert table(result, "detectable", **of_size)["effect"].item() == planned.smallest(asked, subject, 20_000)


@ONLY_ON_SAIL
def test_clusters_against_statsmodels(spark, units: pd.DataFrame, folder: Path, tmp_path: Path) -> None:
    """The cluster-robust error of the mean of all units; the measured design effect is that of the ICC it implies."""
    result = run(config(folder, tmp_path / "out", metrics=[METRICS[0], METRICS[6]], cluster="store", aa={"splits": 400},
                        assign={"salt": "s"}))  # fmt: skip
    row = table(result, "metrics", outcome="y", test="cluster").iloc[0]
    groups = units["store"].nunique()
    fit = sm.OLS(units["y"], np.ones(N)).fit(cov_type="cluster", cov_kwds={"groups": units["store"],
                                                                          "use_correction": False})  # fmt: skip
    # totals are summed in millionths
    assert row["variance"] / groups == pytest.approx(fit.bse.iloc[0] ** 2 * groups / (groups - 1), rel=1e-6)
    assert row["n"] == groups
    assert row["design_effect"] == pytest.approx(design_effect(row["icc"], row["mean_size"], row["cv_size"]), rel=1e-9)
    assert row["design_effect"] == pytest.approx(fit.bse.iloc[0] ** 2 * groups / (groups - 1) / (units["y"].var() / N),
                                                 rel=1e-6)  # fmt: skip
    assert row["icc"] > 0.03
    assert table(result, "aa", outcome="y")["trusted"].all()
    rows = pq.read_table(tmp_path / "out" / "assignment").to_pandas()
    edges = arm_edges(SHARES)
    assert sorted(rows["unit"]) == sorted(units["store"].unique())
    assert rows["arm"].tolist() == [arm(key, "s", edges) for key in rows["unit"]]


@ONLY_ON_SAIL
@pytest.mark.parametrize("cluster", [None, "store"])
def test_quantiles_are_planned_with_the_error_of_the_experiment_job(
    spark, units: pd.DataFrame, folder: Path, tmp_path: Path, cluster: str | None
) -> None:
    """The variance of a unit (cluster) is that of the quantile's standard error; of a normal, about q(1 - q)/f²."""
    metric = {"name": "y", "kind": "mean", "value": "y", "quantiles": [0.5, 0.9]}
    result = run(config(folder, tmp_path / "out", metrics=[metric], cluster=cluster, effects={"y p90": 0.5}))
    rows = table(result, "metrics", test="quantile").set_index("outcome")
    h = Histogram.from_integers(np.round(units["y"] * 1e6).astype(np.int64), scale=1e6)
    for name, q in (("y p50", 0.5), ("y p90", 0.9)):
        share, n = None, N
        if cluster is not None:
            below = np.round(units["y"] * 1e6) <= round(quantile(h, q).estimate * 1e6)
            sums = np.column_stack([below.groupby(units[cluster]).sum(), units.groupby(cluster).size()])
            n, share = len(sums), share_variance(Moments.from_rows(["below", "all"], sums), "below", "all")
        expected = quantile(h, q, share_variance=share)
        assert rows.loc[name, "mean"] == pytest.approx(expected.estimate, rel=RTOL)
        assert rows.loc[name, "variance"] == pytest.approx(expected.std_error**2 * n, rel=1e-6)
        density = stats.norm.pdf(stats.norm.ppf(q)) / units["y"].std()
        if cluster is None:  # the density is read from some 100 units
            assert rows.loc[name, "variance"] == pytest.approx(q * (1 - q) / density**2, rel=0.35)
    assert table(result, "sizes", outcome="y p90")["effect"].tolist() == [0.5]
    assert table(result, "sizes", outcome="y p50")["units"].notna().all()


@ONLY_ON_SAIL
def test_arms_of_unequal_shares(spark, planning) -> None:
    """Three treatments: the neediest decides, at a third of alpha."""
    shares = {"control": 0.4, "a": 0.3, "b": 0.2, "c": 0.1}
    asked = method(shares=shares, assign=None)
    result = design.solve(asked, replace(compressed(planning[1]), drawn=None))
    rows = table(result, "arms", outcome="y", test="cuped", lift=0.05)
    (subject,) = [s for s in planned.subjects(asked, compressed(planning[1])) if s.test == "cuped"]
    z = 2.3939797998185104 + 0.8416212335729143  # of 0.05 / 6 and of 0.2 (scipy)
    needed = z**2 * subject.variance * (1 / 0.4 + 1 / 0.1) / (0.05 * subject.mean) ** 2
    assert rows["units"].tolist() == [math.ceil(needed * share) for share in shares.values()]
    assert table(result, "sizes")["contrast"].unique().tolist() == ["c vs control"]
    assert table(result, "sizes")["alpha"].iloc[0] == pytest.approx(0.05 / 3)


# A/A --------------------------------------------------------------------------------------------------------------


def test_a_metric_can_be_trusted_and_a_whale_cannot(planning) -> None:
    result, _ = planning
    rows = table(result, "aa").set_index(["outcome", "test"])
    for name, test in (("y", "welch"), ("y", "cuped"), ("fifth", "z"), ("ctr", "delta")):
        row = rows.loc[(name, test)]
        assert row["trusted"], (name, row["verdict"])
        assert row["band_low"] <= row["rejection"] <= row["band_high"]
        assert row["spread"] == pytest.approx(1, abs=4 / math.sqrt(2 * 400))
        assert row["verdict"].startswith("Can be trusted")
    whale = rows.loc[("whale", "welch")]
    assert not whale["trusted"]
    assert whale["verdict"].startswith("Cannot be trusted")
    checks = table(result, "checks", code="AA").set_index("column")["verdict"]
    assert (checks["whale"], checks["fifth"]) == ("warn", "pass")
    shares = table(result, "p_values").groupby(["outcome", "test"])["share"].sum()
    assert shares.tolist() == pytest.approx([1.0] * len(shares))
    assert any("AA" in note and "whale" in note for note in result.notes)


def test_p_values_are_uniform(planning) -> None:
    """All metrics that vary well, 400 splits each: the share below each of nine limits within four standard errors."""
    from scipy import stats

    for name, test, z in compressed(planning[1]).splits:
        if name == "whale":
            continue
        p = 2 * stats.norm.sf(np.abs(z))
        for limit in np.arange(0.1, 1, 0.1):
            assert abs((p < limit).mean() - limit) < 4 * math.sqrt(limit * (1 - limit) / 400), (name, test, limit)


def test_splits_are_the_same_everywhere(planning, spark, engine: str, folder: Path, units, tmp_path: Path) -> None:
    """Stored z of every engine; and another order of rows in other files changes none."""
    found = {(name, test): z for name, test, z in compressed(planning[1]).splits}
    assert list(found["fifth", "z"][:3]) == pytest.approx(SPLITS, rel=1e-9)
    if engine == "sail":
        mixed = written(units.sample(frac=1, random_state=1), tmp_path / "mixed", files=5)
        run(config(mixed, tmp_path / "out", aa={"splits": 400}))
        (first, second) = (z for _, _, z in compressed(tmp_path / "out").splits)
        assert first == pytest.approx(found["y", "welch"], rel=1e-9)
        assert second == pytest.approx(found["y", "cuped"], rel=1e-9)


SPLITS = [-0.12780289603205156, 1.5523206127962113, 0.41985147451995675]


# assignment -------------------------------------------------------------------------------------------------------

DIGEST = "4dadfd45a9639d14"


def assigned(out: Path) -> dict[str, str]:
    rows = pq.read_table(out / "assignment").to_pandas()
    assert not rows["unit"].duplicated().any()
    return dict(zip(rows["unit"], rows["arm"], strict=True))


def test_the_assignment_is_stored(planning) -> None:
    """Every engine gives every unit the arm that this digest holds."""
    found = assigned(planning[1])
    text = "\n".join(f"{key} {found[key]}" for key in sorted(found))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGEST


def test_plain_python_repeats_the_balanced_assignment(planning, units: pd.DataFrame) -> None:
    """Of 60 salts the first whose distance is accepted, found again row by row."""
    result, out = planning
    rows = table(result, "assigned")
    draw, edges = int(rows["draw"].iloc[0]), arm_edges(SHARES)
    keys = units["id"].astype(str).tolist()
    limit = acceptance(2, 0.1)
    assert rows["limit"].iloc[0] == pytest.approx(limit)
    for number in range(draw + 1):
        arms = np.array([arm(key, f"s/{number}", edges) for key in keys])
        parts = [Moments.from_rows(["x", "views"], units.loc[arms == name, ["x", "views"]]) for name in SHARES]
        distance = mahalanobis(parts[1], parts[0])
        assert (distance <= limit) == (number == draw)
    assert rows["distance"].iloc[0] == pytest.approx(distance, rel=1e-4)  # covariates in millionths of their spread
    assert assigned(out) == dict(zip(keys, arms, strict=True))
    left = table(result, "covariates").set_index(["covariate", "arm"])["smd"]
    of_x = units["x"][arms == "treatment"].mean() - units["x"].mean()
    assert left["x", "treatment"] == pytest.approx(of_x / units["x"].std(), abs=1e-6)
    assert rows["n"].tolist() == [int((arms == name).sum()) for name in SHARES]


@ONLY_ON_SAIL
def test_layers_strata_and_types(spark, units: pd.DataFrame, folder: Path, tmp_path: Path) -> None:
    """Texts of the same digits get the same arms; experiments of a layer share no unit; strata are balanced within."""
    ranges = {"one": [0, 0.4], "two": [0.4, 1]}
    texts = written(units.assign(id=units["id"].astype(str)), tmp_path / "texts")
    found = {}
    for name, source in (("one", folder), ("one", texts), ("two", folder)):
        out = tmp_path / f"{name}_{source.name}"
        layer = {"salt": "layer", "experiment": name, "ranges": ranges}
        again = {"covariates": ["x"], "draws": 40, "accepted": 0.3, "strata": "country"}
        run(config(source, out, assign={"salt": name, "layer": layer, "rerandomize": again}))
        found[name, source.name] = assigned(out)
    one, two = found["one", folder.name], found["two", folder.name]
    assert one == found["one", "texts"]
    assert not set(one) & set(two)
    assert set(one) | set(two) == set(units["id"].astype(str))
    plain = Layer("layer", {name: (low, high) for name, (low, high) in ranges.items()})
    assert all(plain.experiment(key) == "one" for key in one)
    mine = units[units["id"].astype(str).isin(one)]
    arms = mine["id"].astype(str).map(one)
    distance = sum(
        mahalanobis(*(Moments.from_rows(["x"], part.loc[arms[part.index] == name, ["x"]]) for name in SHARES))
        for _, part in mine.groupby("country")
    )
    assert distance <= acceptance(2, 0.3)


@ONLY_ON_SAIL
def test_large_covariates_of_clusters_are_balanced(spark, units: pd.DataFrame, tmp_path: Path) -> None:
    """Distances have no scale: in other units the same salt is balanced. In millionths the totals would overflow."""
    table = written(units.assign(large=units["x"] * 1e11), tmp_path / "units")
    found = {}
    for name in ("x", "large"):
        again = {"covariates": [name], "draws": 40, "accepted": 0.3}
        run(config(table, tmp_path / name, cluster="store", assign={"salt": "s", "rerandomize": again}))
        found[name] = compressed(tmp_path / name).drawn
    assert found["large"].salt == found["x"].salt
    assert found["large"].distance == pytest.approx(found["x"].distance, rel=1e-4)  # totals in millionths


# rows of unit and day -----------------------------------------------------------------------------------


@ONLY_ON_SAIL
def test_days_are_added_up(spark, tmp_path: Path) -> None:
    """The same plan as from the table that pandas adds up; earlier days are the covariate."""
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(400), 10)
    rows = pd.DataFrame({
        "id": user, "day": pd.Timestamp("2026-03-02") + pd.to_timedelta(rng.integers(0, 28, 4000), unit="D"),
        "spent": rng.poisson(rng.gamma(1, 2, 400)[user]).astype(float), "bought": (rng.random(4000) < 0.1).astype(int),
    })  # fmt: skip
    since = pd.Timestamp("2026-03-16")
    after, before = rows[rows["day"] >= since], rows[rows["day"] < since]
    units = after.groupby("id").agg(spent=("spent", "sum"), bought=("bought", "max"), seen=("day", "min")).reset_index()
    past = before.groupby("id")["spent"].sum()
    units["past"] = units["id"].map(past).fillna(0.0)
    metrics = [{"name": "spent", "kind": "revenue", "value": "spent"},
               {"name": "bought", "kind": "conversion", "value": "bought"}]  # fmt: skip
    of_days = run(config(written(rows, tmp_path / "days", 2), tmp_path / "one", "days", metrics=metrics, time="day",
                         since="2026-03-16"))  # fmt: skip
    metrics[0] = {**metrics[0], "covariates": ["past"]}
    of_units = run(config(written(units, tmp_path / "units"), tmp_path / "two", metrics=metrics, time="seen"))
    for test, name in (("welch", "spent"), ("cuped", "spent"), ("z", "bought")):
        for column in ("n", "mean", "variance", "rho2"):
            pair = [table(result, "metrics", outcome=name, test=test)[column].item() for result in (of_days, of_units)]
            assert pair[0] == pytest.approx(pair[1], rel=1e-6), (name, column)
    assert table(of_days, "arrivals")["units"].tolist() == table(of_units, "arrivals")["units"].tolist()
    assert len(table(of_days, "metrics", outcome="bought", test="cuped")) == 1


# the run --------------------------------------------------------------------------------------------------


@ONLY_ON_SAIL
def test_the_report_speaks_both_languages(planning) -> None:
    from causal_spark.report.page import figures, render

    result, out = planning
    page = (out / "report.html").read_text(encoding="utf-8")
    answers = page.split("<h3>Can the metrics be trusted?</h3>")[1].split("</section>")[0]
    assert "<b>whale</b> (Welch t-test): Cannot be trusted with this test" in answers and page.count("<svg") == 2
    assert "Against no effect: two-sided, significance level 0.05 for one comparison." in page
    asked = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    again = design.solve(method(), compressed(out), "zh")
    assert "不可用此检验" in render(again, asked, "zh")
    assert set(figures(result, asked)) == {"detectable.svg", "p_values.svg"}
    assert {"sample_size lift=0.25", "mde units=20000", "power units=20000 lift=0.25", "days lift=0.25"} <= set(
        result.estimates["term"]
    )


def test_a_run_is_repeated_and_resolved(planning, folder: Path, tmp_path: Path) -> None:
    _, out = planning
    assert job.run(config(folder, out, **ASKED), "design").repeated
    again = job.resolve(str(out), {"power": 0.9}, str(tmp_path / "again")).result
    assert again is not None
    pair = [table(r, "sizes", outcome="fifth", lift=0.25)["units"].item() for r in (planning[0], again)]
    assert pair[1] > pair[0]
    with pytest.raises(ConfigError, match="assign"):
        job.resolve(str(out), {"assign": None}, str(tmp_path / "no"))


@ONLY_ON_SAIL
def test_the_template_runs(spark, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"user_id": np.arange(500), "converted": (rng.random(500) < 0.2).astype(int),
                          "revenue": rng.gamma(1, 5, 500), "revenue_pre": rng.gamma(1, 5, 500),
                          "clicks": rng.poisson(1, 500), "views": rng.poisson(5, 500) + 1,
                          "first_seen": pd.Timestamp("2026-01-01")})  # fmt: skip
    data = load(ROOT / "conf" / "design.yml")
    data |= {"input": {"units": {"table": str(written(frame, tmp_path / "units"))}},
             "output": {"path": str(tmp_path / "out")}, "tracking": {"enabled": False}}  # fmt: skip
    result = run(data)
    assert "FEW_DAYS" in set(result.diagnostics["checks"]["code"])
    assert result.diagnostics["sizes"]["units"].notna().all()
    assert result.diagnostics["sizes"]["days"].isna().all()


# bad input --------------------------------------------------------------------------------------------------

HELD = {**METRICS[0], "test": "equivalence", "margin": {"relative": 0.1}}
LAYER = {"salt": "l", "experiment": "one", "ranges": {"one": [0, 0.5]}}


@pytest.mark.parametrize(("key", "change"), [
    ("no_metrics", {"metrics": []}),
    ("repeated_metric", {"metrics": [METRICS[0], {**METRICS[0], "name": "Y"}]}),
    ("bad_choice", {"metrics": [{"name": "r", "kind": "retention", "value": "y", "days": [1, 2]}]}),
    ("design_needs_columns", {"metrics": [{"name": "r", "kind": "count", "value": "*"}]}),
    ("design_means_only", {"metrics": [{**METRICS[0], "ranks": True}]}),
    ("repeated_metric", {"metrics": [{**METRICS[0], "quantiles": [0.5]}, {**METRICS[0], "name": "y p50"}]}),
    ("repeated_metric", {"metrics": [{**METRICS[0], "quantiles": [0.5, 0.5]}]}),
    ("design_effect_metric", {"metrics": [{**METRICS[0], "quantiles": [0.5]}], "effects": {"y p90": 1.0}}),
    ("design_effect_margin", {"metrics": [HELD], "effects": {"y": 1.0}}),
    ("bad_number", {"margin_alpha": 0.5}),
    ("bad_number", {"metrics": [HELD], "margin_alpha": 0.4, "power": 0.4}),
    ("design_means_only", {"metrics": [{**METRICS[0], "cupac": ["x"]}]}),
    ("metric_needs_value", {"metrics": [{"name": "r", "kind": "count"}]}),
    ("shares_sum", {"shares": {"control": 0.5, "treatment": 0.4}}),
    ("control_not_in_shares", {"shares": {"a": 0.5, "b": 0.5}}),
    ("one_arm", {"shares": {"control": 1.0}}),
    ("bad_number", {"shares": {"control": 1.0, "treatment": 0.0}}),
    ("bad_number", {"alpha": 0}),
    ("bad_number", {"power": 0.05}),
    ("bad_number", {"power": 1}),
    ("bad_number", {"lifts": [0.0]}),
    ("bad_number", {"lifts": [-0.01]}),
    ("bad_number", {"effects": {"y": 0}}),
    ("design_effect_metric", {"effects": {"z": 1}}),
    ("bad_number", {"sizes": [3]}),
    ("bad_number", {"days": [0]}),
    ("bad_number", {"traffic": 0}),
    ("bad_number", {"recent_days": 6}),
    ("bad_time", {"since": "soon"}),
    ("bad_number", {"aa": {"splits": 100}}),
    ("bad_choice", {"assign": {"salt": " "}}),
    ("design_layer", {"assign": {"salt": "s", "layer": {**LAYER, "experiment": "two"}}}),
    ("design_same_salt", {"assign": {"salt": "l", "layer": LAYER}}),
    ("design_same_salt", {"assign": {"salt": "s", "layer": {**LAYER, "salt": "s/7"},
                                     "rerandomize": {"covariates": ["x"], "draws": 8}}}),
    ("layer_overlap", {"assign": {"salt": "s", "layer": {**LAYER, "ranges": {"one": [0, 0.5], "two": [0.4, 1]}}}}),
    ("bad_number", {"assign": {"salt": "s", "layer": {**LAYER, "ranges": {"one": [0.5]}}}}),
    ("matching_empty", {"assign": {"salt": "s", "rerandomize": {"covariates": []}}}),
    ("design_twice", {"assign": {"salt": "s", "rerandomize": {"covariates": ["x", "x"]}}}),
    ("bad_number", {"assign": {"salt": "s", "rerandomize": {"covariates": ["x"], "draws": 1}}}),
    ("bad_number", {"assign": {"salt": "s", "rerandomize": {"covariates": ["x"], "accepted": 1}}}),
    ("unknown_key", {"lift": [0.1]}),
])  # fmt: skip
def test_a_wrong_setting_is_refused_before_any_session(tmp_path: Path, key: str, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        job.validate(config(tmp_path / "in", tmp_path / "out", **change), "design")
    assert caught.value.key == key
    assert caught.value.text("zh") != caught.value.text("en")


def test_a_layer_may_have_a_salt_that_is_never_drawn() -> None:
    again = {"covariates": ["x"], "draws": 8}
    for salt in ("s", "s/8"):
        asked = method(assign={"salt": "s", "layer": {**LAYER, "salt": salt}, "rerandomize": again}).assign
        assert asked is not None
        assert asked.layer is not None
        assert asked.layer.salt == salt


@pytest.mark.parametrize(("found", "scale"), [
    (Range(3000, 0, -5.0, 20.0), 10**6),
    (Range(10_000, 0, -1e9, 5.0), 10**5),
    (Range(1000, 0, 0.0, 9e15), 1),
    (Range(1000, 1000, None, None), 10**6),
])  # fmt: skip
def test_totals_of_a_covariate_are_as_fine_as_they_fit(found: Range, scale: int) -> None:
    assert covariate_scale(found, "x") == scale


def test_totals_of_a_covariate_that_never_fit_are_refused() -> None:
    with pytest.raises(GateError, match="Divide the column") as caught:
        covariate_scale(Range(1000, 0, 0.0, 1e16), "x")
    assert caught.value.key == "design_covariate_overflow"


def test_large_tables_need_a_folder(tmp_path: Path) -> None:
    for role, more in (("days", {"time": "day"}), ("units", {"assign": {"salt": "s"}})):
        data = {**config(tmp_path / "in", tmp_path, role, **more), "output": {"table": "a.b.c"}}
        with pytest.raises(ConfigError, match=r"output\.scratch"):
            job.validate(data, "design")


@ONLY_ON_SAIL
@pytest.mark.parametrize(("named", "change", "more", "kind"), [
    ("ZERO_VARIANCE", lambda d: d.assign(y=1.0), {}, GateError),
    ("FRACTIONS", lambda d: d.assign(y=0.5 + d["x"] / 100),
     {"metrics": [{"name": "y", "kind": "proportion", "value": "y"}]}, GateError),
    ("FEW_UNITS", lambda d: d.head(19), {}, GateError),
    ("FEW_UNITS", lambda d: d.assign(store="one"), {"cluster": "store"}, GateError),
    ("EMPTY_TABLE", lambda d: d, {"where": [{"column": "x", "op": ">", "value": 1e9}]}, GateError),
    ("DUPLICATE_UNIT", lambda d: pd.concat([d, d.head(1)]), {}, GateError),
    ("NULL_KEY", lambda d: d.assign(id=d["id"].where(d["id"] > 3)).astype({"id": "Int64"}), {}, GateError),
    ("NULL_VALUE", lambda d: d.assign(y=d["y"].where(d["id"] > 3)), {}, GateError),
    ("NULL_KEY", lambda d: d.assign(z=d["y"].where(d["id"] > 3)),
     {"assign": {"salt": "s", "rerandomize": {"covariates": ["z"]}}}, GateError),
    ("'yy'", lambda d: d, {"metrics": [{"name": "y", "kind": "mean", "value": "yy"}]}, ConfigError),
    ("double", lambda d: d.assign(id=d["id"].astype(float)), {}, ConfigError),
    ("timestamp or a date", lambda d: d, {"time": "store"}, ConfigError),
    ("input.days", lambda d: d, {"since": "2026-01-01"}, ConfigError),
    ("2 salts", lambda d: d, {"assign": {"salt": "s", "rerandomize": {"covariates": ["x", "views"], "draws": 2,
                                                                    "accepted": 1e-9}}}, StatisticError),
])  # fmt: skip
def test_a_bad_table_is_refused(spark, units, tmp_path: Path, named, change, more, kind) -> None:
    frame = change(units.head(200)[["id", "x", "y", "store", "views"]])
    with pytest.raises(CausalSparkError, match=named) as caught:
        run(config(written(frame, tmp_path / "in"), tmp_path / "out", **more))
    assert isinstance(caught.value, kind)
    assert not (tmp_path / "out").exists()


@ONLY_ON_SAIL
def test_effects_that_no_size_finds_have_a_reason(planning) -> None:
    """A share of 0.34 cannot triple; a mean of 0 has no relative effect."""
    result = design.solve(method(lifts=[2.5], effects={}), compressed(planning[1]))
    for name, reason in (("third", "out of the range"), ("spread", "mean is 0")):
        row = table(result, "sizes", outcome=name).iloc[0]
        if name == "third":
            assert math.isnan(row["units"])
            assert reason in row["note"]
    down = design.solve(method(alternative="less"), compressed(planning[1]))
    assert table(down, "sizes", outcome="fifth", lift=0.25)["units"].item() > 0
