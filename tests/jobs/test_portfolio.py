"""The portfolio job from tables to report, on every engine; and from the folders of finished experiments."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from causal_spark import job, storage
from causal_spark.config import load
from causal_spark.errors import CausalSparkError, ConfigError, GateError
from causal_spark.methods.portfolio import Compressed, Portfolio, solve
from causal_spark.methods.portfolio.compressed import Effect, Touched
from causal_spark.results import Estimate, estimates_frame
from causal_spark.simulate_journeys import write_table
from causal_spark.simulate_portfolio import Past, PastDesign, past
from tests.jobs.test_notebook import run_notebook
from tests.run import ROOT

# What is tested happens before or after the engine: on the embedded one alone. One run is compared on every engine.
once = pytest.mark.engines("sail")


def config(folder: Path, out: Path, touched: bool = True, **method: Any) -> dict[str, Any]:
    tables = {"estimates": {"table": str(folder / "estimates")}}
    if touched:
        tables["reach"] = {"table": str(folder / "reach")}
    return {"job": "portfolio", "input": tables, "method": {"outcome": "revenue", **method},
            "output": {"path": str(out)}, "tracking": {"enabled": False}}  # fmt: skip


def run(data: dict[str, Any]) -> job.Outcome:
    return job.run(data, "portfolio")


@pytest.fixture(scope="module")
def year() -> Past:
    return past(PastDesign(experiments=50))


@pytest.fixture(scope="module")
def folder(year: Past, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tables with their rows in disorder, the estimates in three files."""
    place, rng = tmp_path_factory.mktemp("year"), np.random.default_rng(2)
    for name, files in (("estimates", 3), ("reach", 1)):
        table = getattr(year, name)
        write_table(table.take(rng.permutation(table.num_rows)), place / name, files)
    return place


def test_from_tables_to_report(spark, year: Past, folder: Path, tmp_path: Path) -> None:
    """Whatever engine and order of rows: to the bit what the tables hold in their own order."""
    data = config(folder, tmp_path / "out")
    result = run(data).result
    assert result is not None
    wanted = year.estimates.filter(
        pc.and_(pc.equal(year.estimates["outcome"], "revenue"), pc.equal(year.estimates["term"], "difference"))
    )
    effects = tuple(
        Effect(*(row[name] for name in ("experiment", "contrast", "method", "estimand", "estimate", "std_error", "n")))
        for row in wanted.to_pylist()
    )
    touched = tuple(
        Touched(row["experiment"], "", float(row["reached"]), row["launched"] is not None, str(row["launched"] or ""))
        for row in year.reach.to_pylist()
    )
    found = Compressed.from_json((tmp_path / "out" / "statistics.json").read_text(encoding="utf-8"))
    assert (found.effects, found.touched) == (effects, tuple(sorted(touched, key=lambda row: row.experiment)))
    assert found.facts == {"rows": 200, "experiments": 50}
    expected = solve(Portfolio("revenue"), Compressed(effects, touched, {}))
    pd.testing.assert_frame_equal(result.estimates, expected.estimates)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page and "How much of it was luck?" in page
    assert run(data).repeated


@once
def test_resolving_and_tracking(spark, folder: Path, tmp_path: Path) -> None:
    data = {**config(folder, tmp_path / "out"), "tracking": {"experiment": "portfolio-year"}}
    first = run(data)
    assert first.result is not None and first.tracking_error is None and first.manifest["mlflow_run"]
    again = job.resolve(str(tmp_path / "out"), {"alpha": 0.2, "centre": 0.0}, str(tmp_path / "wide")).result
    assert again is not None
    widths = [(r.diagnostics["actions"]["high"] - r.diagnostics["actions"]["low"]).sum() for r in (again, first.result)]
    assert widths[0] < 0.75 * widths[1]
    assert again.diagnostics["prior"]["centre"].item() == 0.0
    with pytest.raises(ConfigError, match="resolve can change only"):
        job.resolve(str(tmp_path / "out"), {"outcome": "visits"}, str(tmp_path / "other"))


def finished(folder: Path, name: str, rows: list[Estimate], trusted: bool = True, done: bool = True) -> None:
    """The folder of a run as far as a portfolio looks at it."""
    storage.write_frame(str(folder / name / "estimates"), estimates_frame(rows))
    if done:
        (folder / name / "manifest.json").write_text(json.dumps({"trusted": trusted}))


def row(estimate: float, std_error: float, **other: Any) -> Estimate:
    return Estimate(**{"method": "welch", "estimand": "ATE", "outcome": "revenue", "segment": "all",
                       "contrast": "b vs a", "term": "difference", "estimate": estimate, "std_error": std_error,
                       "n": 100.0, **other})  # fmt: skip


def test_a_folder_of_runs(spark, tmp_path: Path) -> None:
    """Finished runs alone, without those that may not be acted upon; reach by contrast, launched at a time of day."""
    runs = tmp_path / "runs"
    for i in range(4):
        lift = row(0.1, 0.1, term="lift")
        finished(runs, f"exp {i}", [row(float(i), 0.5), lift, row(9.0, 0.5, segment="country=DE"),
                                    row(0.5, 0.1, outcome="visits")])  # fmt: skip
    finished(runs, "two arms", [row(1.0, 0.5), row(2.0, 0.5, contrast="c vs a"), row(2.5, 0.2, method="cuped")])
    finished(runs, "doubted", [row(50.0, 0.1)], trusted=False)
    finished(runs, "interrupted", [row(70.0, 0.1)], done=False)
    finished(runs, "other", [row(1.0, 0.1, outcome="visits")])
    finished(runs, "nothing", [row(float("nan"), float("nan"))])
    (runs / "_notes").mkdir()
    at = pa.array([datetime(2026, 2, 3, 14, 5), None, datetime(2026, 3, 1)], pa.timestamp("us", tz="UTC"))
    names, arms = ["exp 1", "two arms", "two arms"], ["b vs a", "b vs a", "c vs a"]
    reach = pa.table({"name": names, "arm": arms, "reached": [10.0, 20.0, 30.0], "at": at})
    write_table(reach, tmp_path / "reach")
    columns = {"experiment": "name", "contrast": "arm", "launched": "at"}
    data = config(tmp_path, tmp_path / "out", reach=columns)
    data["input"]["estimates"] = {"table": str(runs), "format": "runs"}
    result = run(data).result
    assert result is not None
    rows = result.diagnostics["actions"].set_index("action")
    assert set(rows.index) == {*(f"exp {i}" for i in range(4)), "two arms: b vs a", "two arms: c vs a", "nothing"}
    assert rows.loc["two arms: b vs a", ["method", "naive"]].tolist() == ["cuped", 2.5]
    assert rows.loc[["exp 1", "two arms: c vs a"], "launched"].tolist() == ["2026-02-03", "2026-03-01"]
    assert rows.loc["two arms: b vs a", "launched"] == "no"
    checks = result.diagnostics["checks"].set_index("code")
    assert checks.loc["UNTRUSTED", "column"] == "doubted"
    assert checks.loc["NO_OUTCOME", "column"] == "other"
    assert checks.loc["NOT_ESTIMATED", "column"] == "nothing"
    assert result.diagnostics["totals"].set_index("actions").loc["launched", "n"] == 2


@once
def test_the_experiments_of_this_suite(spark, tmp_path: Path) -> None:
    """Three experiments, one with a covariate, are run; the portfolio finds in each the estimate that was meant."""
    rng = np.random.default_rng(4)
    for i in range(3):
        before, treated = rng.normal(10, 3, 600), rng.random(600) < 0.5
        arm = np.where(treated, "treatment", "control")
        frame = pa.table({"user_id": np.arange(600), "variant": arm, "before": before,
                          "revenue": before + i * 0.5 * treated + rng.normal(0, 1, 600)})  # fmt: skip
        write_table(frame, tmp_path / f"units{i}")
        metric = {"name": "revenue", "kind": "mean", "value": "revenue", **({"covariates": ["before"]} if i else {})}
        job.run({"job": "experiment", "input": {"units": {"table": str(tmp_path / f"units{i}")}},
                 "method": {"unit": "user_id", "arm": "variant", "control": "control", "metrics": [metric]},
                 "output": {"path": str(tmp_path / "runs" / f"test{i}")},
                 "tracking": {"enabled": False}}, "experiment")  # fmt: skip
    data = config(tmp_path, tmp_path / "out", touched=False)
    data["input"]["estimates"] = {"table": str(tmp_path / "runs"), "format": "runs"}
    result = run(data).result
    assert result is not None
    rows = result.diagnostics["actions"].set_index("action")
    assert rows["method"].to_dict() == {"test0": "welch", "test1": "cuped", "test2": "cuped"}
    for i in range(3):
        estimates = pd.read_parquet(tmp_path / "runs" / f"test{i}" / "estimates")
        meant = estimates[(estimates["method"] == rows.loc[f"test{i}", "method"]) & (estimates["term"] == "difference")]
        assert rows.loc[f"test{i}", "naive"] == meant["estimate"].item()
    assert rows.loc["test2", "advice"] == "scale"


def changed(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def first(column: str, value: Any, others: Any = None) -> Any:
    """Another table, whose first row has ``value`` and whose other rows have ``others`` or what they had."""

    def change(table: pa.Table) -> pa.Table:
        rest = table[column].to_pylist()[1:] if others is None else [others] * (table.num_rows - 1)
        return changed(table, column, [value, *rest])

    return change


def again(table: pa.Table, **other: Any) -> pa.Table:
    """The table with its first row once more, ``other`` in it."""
    row = table.slice(0, 1)
    for column, value in other.items():
        row = changed(row, column, [value])
    return pa.concat_tables([table, row])


BAD_ESTIMATES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "no column": ("missing_column", lambda t: t.drop_columns(["std_error"]), {}),
    "text": ("not_a_number", lambda t: changed(t, "estimate", ["x"] * t.num_rows), {}),
    "no rows": ("EMPTY_TABLE", None, {"where": [{"column": "experiment", "value": "none"}]}),
    "no key": ("NULL_KEY", first("experiment", None), {}),
    "outcome": ("UNKNOWN_OUTCOME.*nearest outcome is revenue", None, {"outcome": "revenu"}),
    "twice": ("DUPLICATE_EFFECT.*e01, treatment vs control, welch", again, {}),
    "few": ("TOO_FEW_ACTIONS", None, {"where": [{"column": "experiment", "op": "in", "value": ["e01", "e02"]}]}),
}


@once
@pytest.mark.parametrize("case", BAD_ESTIMATES)
def test_bad_estimates_are_refused(spark, year: Past, tmp_path: Path, case: str) -> None:
    code, change, method = BAD_ESTIMATES[case]
    write_table(change(year.estimates) if change else year.estimates, tmp_path / "estimates")
    refused(code, config(tmp_path, tmp_path / "out", touched=False, **method))


BAD_REACH: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "no column": ("missing_column", None, {"reach": {"reached": "reachd"}}),
    "no day": ("not_a_time", None, {"reach": {"launched": "experiment"}}),
    "no key": ("NULL_KEY", first("experiment", None), {}),
    "NaN": ("NAN_INF", first("reached", float("nan")), {}),
    "negative": ("REACH_RANGE.*≥ 0", first("reached", -1.0, 1.0), {}),
    "share": ("REACH_RANGE.*0 … 1", first("reached", 1.5, 0.5), {"term": "lift"}),
    "twice": ("DUPLICATE_REACH.*e01", again, {}),
    "two days": ("DUPLICATE_REACH.*e01", lambda table: again(table, launched=date(2026, 12, 31)), {}),
}


@once
@pytest.mark.parametrize("case", BAD_REACH)
def test_bad_reach_is_refused(spark, year: Past, tmp_path: Path, case: str) -> None:
    code, change, method = BAD_REACH[case]
    write_table(year.estimates, tmp_path / "estimates")
    write_table(change(year.reach) if change else year.reach, tmp_path / "reach")
    refused(code, config(tmp_path, tmp_path / "out", **method))


def refused(code: str, data: dict[str, Any]) -> None:
    """By the error of this key, or by the gate with this finding; and nothing is written."""
    if code.islower():
        with pytest.raises(ConfigError) as caught:
            run(data)
        assert caught.value.key == code
    else:
        with pytest.raises(GateError, match=code):
            run(data)
    assert not Path(data["output"]["path"]).exists()


@once
def test_settings_and_folders_that_cannot_be(spark, folder: Path, tmp_path: Path) -> None:
    data = config(folder, tmp_path / "out", touched=False)
    data["input"]["estimates"] = {"table": str(tmp_path), "format": "runs"}
    data["output"] = {"path": str(folder / "out")}
    with pytest.raises(ConfigError, match="no finished run"):
        run(data)
    for method, word in (({"outcom": "revenue"}, "outcome"), ({}, "outcome"), ({"outcome": "x", "term": "sum"}, "lift"),
                         ({"outcome": "x", "reach": {"unit": "u"}}, "reached")):  # fmt: skip
        with pytest.raises(CausalSparkError, match=word):
            job.validate({**config(folder, tmp_path / "out"), "method": method}, "portfolio")


def test_template_is_valid() -> None:
    assert job.validate(load(ROOT / "conf" / "portfolio.yml"), "portfolio").job == "portfolio"


@once
def test_the_notebook_runs(spark, tmp_path: Path) -> None:
    names, shown = run_notebook(
        ROOT / "notebooks" / "portfolio.py", spark, {"folder": str(tmp_path), "experiments": "80"}
    )
    _, compared, totals = shown
    assert len(compared) == 80
    errors = [((compared[key] - compared["truth"]) ** 2).mean() for key in ("naive", "effect")]
    assert errors[1] < 0.7 * errors[0]
    (total,) = totals.to_dict("records")
    assert total["low"] < total["truth"] < total["high"] < total["naive"]
    assert len(names["pages"]) == 1
