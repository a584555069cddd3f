"""The attribution and budget jobs from tables to report: on every engine, any partitioning, any order of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causal_spark import job
from causal_spark.config import load
from causal_spark.errors import CausalSparkError, ConfigError, GateError
from causal_spark.methods.attribution import Attribution, Compressed
from causal_spark.simulate_journeys import RESPONSES, Log, journeys, weekly_spend, write, write_table
from tests.journey_buckets import credit, of_events
from tests.run import ROOT

MODELS = ["first", "last", "linear", "u_shape", "time_decay", "markov_1", "markov_2", "shapley", "shapley_ordered",
          "shapley_rate", "logistic"]  # fmt: skip
START = 1_767_225_600_000_000
# What is tested is the driver's, or arithmetic on sums that other tests compare: on the embedded engine alone.
once = pytest.mark.engines("sail")


@pytest.fixture(scope="module")
def log() -> Log:
    return journeys(persons=3_000, seed=5)


@pytest.fixture(scope="module")
def folder(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(log, tmp_path_factory.mktemp("journeys"))


def config(folder: Path, out: Path, **method: Any) -> dict[str, Any]:
    asked = {"person": "user_id", "time": "ts", "channel": "channel", "value": "revenue", "event_id": "event_id",
             "models": MODELS, "replicates": 20, **method}  # fmt: skip
    tables = {name: {"table": str(folder / name)} for name in ("touches", "conversions")}
    return {"job": "attribution", "input": tables, "method": asked, "output": {"path": str(out)},
            "tracking": {"enabled": False}}  # fmt: skip


def run(data: Mapping[str, Any]) -> job.Outcome:
    return job.run(data, str(data["job"]))


def statistics(out: Path) -> Compressed:
    return Compressed.from_json((out / "statistics.json").read_text(encoding="utf-8"))


@pytest.mark.engines("sail", "spark")
def test_from_tables_to_report(spark, log: Log, folder: Path, tmp_path: Path) -> None:
    data = config(folder, tmp_path / "out", segments=["region"], spend={"channel": "channel", "cost": "cost"})
    data["input"]["spend"] = {"table": str(folder / "spend")}
    result = run(data).result
    assert result is not None
    for model in MODELS:
        values = credit(result, model)
        # a linear solve
        assert sum(values.values()) == pytest.approx(log.conversions.num_rows, rel=1e-9), model
    assert {"removal_effects", "transitions", "lags", "path_lengths", "top_paths", "returns", "stages", "totals",
            "agreement", "checks"} <= set(result.diagnostics)  # fmt: skip
    regions = sum(sum(v for c, v in credit(result, "linear", segment=f"region={r}").items() if c[0] != "(")
                  for r in ("north", "south", "east", "west"))  # fmt: skip
    everyone = sum(v for c, v in credit(result, "linear").items() if c[0] != "(")
    assert regions == pytest.approx(everyone, rel=1e-9)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page and "Credit by model" in page
    returned = result.diagnostics["returns"]
    assert len(returned) == len(MODELS) * 12
    assert run(data).repeated


def test_the_cluster_does_what_numpy_does(spark, log: Log, folder: Path, tmp_path: Path) -> None:
    """Every whole number but the replicates (whose hash is the engine's) equals that of plain numpy."""
    run(config(folder, tmp_path / "out", replicates=0))
    found = statistics(tmp_path / "out")
    day = 86_400e6
    touches = [(row["user_id"], (row["t"] - START) / day, row["channel"], row["event_id"])
               for row in _rows(log.touches)]  # fmt: skip
    bought = [(row["user_id"], (row["t"] - START) / day, row["revenue"]) for row in _rows(log.conversions)]
    latest = max(row["t"] for row in [*_rows(log.touches), *_rows(log.conversions)])
    method = Attribution(**{**config(folder, tmp_path)["method"], "models": tuple(MODELS), "replicates": 0})
    expected = of_events(method, touches, bought, as_of=(latest + 1 - START) / day)
    for stat in ("total", "length", "lag_first", "lag_last", "markov_1", "markov_2", "sets"):
        mine, theirs = found.cells[stat], expected.cells[stat]
        assert (mine.key == theirs.key).all(), stat
        assert (mine.base[:, :2] == theirs.base[:, :2]).all(), stat


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return table.append_column("t", table.column("ts").cast(pa.int64())).to_pylist()


@pytest.mark.engines("sail", "spark")
def test_partitions_and_row_order_change_no_bit(spark, log: Log, folder: Path, tmp_path: Path, monkeypatch) -> None:
    from causal_spark.spark import journeys as cluster

    run(config(folder, tmp_path / "one"))
    rng = np.random.default_rng(3)
    mixed = Log(log.touches.take(rng.permutation(log.touches.num_rows)),
                log.conversions.take(rng.permutation(log.conversions.num_rows)), log.spend, log.caused)  # fmt: skip
    write(mixed, tmp_path / "mixed", files=7)
    monkeypatch.setattr(cluster, "BUCKET_ROWS", 700)
    run(config(tmp_path / "mixed", tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "statistics.json").read_text()) for name in ("one", "two"))
    assert one["cells"] == two["cells"]
    assert one["paths"] == two["paths"]
    a, b = (pd.read_parquet(tmp_path / name / "estimates") for name in ("one", "two"))
    pd.testing.assert_frame_equal(a, b)


def test_credit_of_every_touch(spark, engine: str, log: Log, folder: Path, tmp_path: Path) -> None:
    """The touches of a channel sum to its credit under every model; those of a rule sum to one in each journey."""
    if engine == "connect":
        pytest.skip("the same plan as on classic Spark")
    models = ["first", "linear", "time_decay", "markov_1", "shapley_ordered", "shapley_rate", "additive_hazard"]
    result = run(config(folder, tmp_path / "out", models=models, touch_credit=True, replicates=0)).result
    assert result is not None
    touches = pq.read_table(tmp_path / "out" / "touch_credit").to_pandas()
    for column in ("time", "conversion_time"):  # Spark leaves the zone out of its files: they are in UTC
        touches[column] = pd.to_datetime(touches[column], utc=True)
    assert set(touches["model"]) == set(models)
    for model in models:
        mine = touches[touches["model"] == model].groupby("channel")
        for outcome, column in (("conversions", "credit"), ("value", "credit_value")):
            whole = {c: v for c, v in credit(result, model, outcome).items() if c[0] != "(" and v != 0}
            assert mine[column].sum().to_dict() == pytest.approx(whole, rel=1e-9), (model, outcome)
    assert (touches["time"] <= touches["conversion_time"]).all()
    bought = log.conversions.to_pandas()
    linear = touches[touches["model"] == "linear"].groupby(["person", "conversion_time"])["credit"].sum()
    at = pd.MultiIndex.from_arrays([bought["user_id"].astype(str), bought["ts"]])
    assert linear.index.isin(at).all()
    # two conversions of one person at one moment would be one line here; there are none
    assert linear.to_numpy() == pytest.approx(1.0, abs=1e-12)
    known = log.touches.to_pandas()
    seen = pd.MultiIndex.from_arrays([known["user_id"].astype(str), known["ts"], known["channel"]])
    assert pd.MultiIndex.from_frame(touches[["person", "time", "channel"]]).isin(seen).all()


def test_known_journeys(spark, tmp_path: Path) -> None:
    """A table whose journeys are known by construction, through identities, windows and exclusions."""
    touches = _table([("a1", 1, "x", 1), ("a2", 2, "y", 2), ("a2", 2, "y", 2), ("bob", 3, "x", 3), ("bob", 4, "in", 4),
                      ("eve", 50, "z", 5)])  # fmt: skip
    conversions = pa.table({"user_id": ["a1", "bob", "nobody"], "ts": _times([3, 5, 6]), "revenue": [10.0, 4.0, 1.0]})
    identity = pa.table({"alias": ["a1", "a2"], "person": ["ann", "ann"]})
    for name, table in (("touches", touches), ("conversions", conversions), ("identity", identity)):
        write_table(table, tmp_path / name)
    data = config(tmp_path, tmp_path / "out", identity={"alias": "alias", "person": "person"}, exclude=["in"],
                  models=["linear", "last"], as_of="2026-04-30")  # fmt: skip
    data["input"]["identity"] = {"table": str(tmp_path / "identity")}
    result = run(data).result
    assert result is not None
    assert credit(result, "linear") == {"x": 1.5, "y": 0.5, "z": 0.0, "(unattributed)": 1.0}
    assert credit(result, "last", "value") == {"x": 4.0, "y": 10.0, "z": 0.0, "(unattributed)": 1.0}
    paths = result.diagnostics["top_paths"].set_index("path")
    assert paths.loc["x > y", "conversions"] == 1 and paths.loc["z", "nulls"] == 1
    assert {"DUPLICATE_TOUCH", "UNATTRIBUTED"} <= set(result.diagnostics["checks"].query("verdict == 'warn'")["code"])


def _times(days: list[float]) -> pa.Array:
    return pa.array([START + round(day * 86_400e6) for day in days], pa.timestamp("us", tz="UTC"))


def _table(rows: list[tuple[str, float, str | None, int]]) -> pa.Table:
    return pa.table({"user_id": [r[0] for r in rows], "ts": _times([r[1] for r in rows]),
                     "channel": [r[2] for r in rows], "event_id": [r[3] for r in rows]})  # fmt: skip


@once
@pytest.mark.parametrize("weight", ["exclude", "weight", "count"])
def test_censored_journeys(spark, folder: Path, tmp_path: Path, weight: str) -> None:
    result = run(config(folder, tmp_path / "out", models=["markov_1"], censoring=weight)).result
    assert result is not None
    totals = result.diagnostics["totals"].set_index("outcome")
    nulls = totals.loc["nulls", "total"]
    counted = run(config(folder, tmp_path / "all", models=["markov_1"], censoring="count")).result
    assert counted is not None
    most = counted.diagnostics["totals"].set_index("outcome").loc["nulls", "total"]
    assert {"exclude": nulls < most, "weight": nulls < most, "count": nulls == most}[weight]


def test_ready_paths(spark, tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["C1 > C2 > C3", "C1", "C2 > C3", "C1 > C2 > C3"], "won": [1, 0, 0, 1],
                          "lost": [0, 2, 2, 0], "worth": [3.0, 0.0, 0.0, 5.0]})  # fmt: skip
    frame.to_csv(tmp_path / "paths.csv", index=False)
    data = {"job": "attribution", "input": {"paths": {"table": str(tmp_path / "paths.csv"), "format": "csv"}},
            "method": {"models": ["markov_1", "shapley"], "paths": {"conversions": "won", "nulls": "lost",
                                                                    "value": "worth"}},
            "output": {"path": str(tmp_path / "out")}, "tracking": {"enabled": False}}  # fmt: skip
    result = run(data).result
    assert result is not None
    values = credit(result, "markov_1")
    assert [values[c] for c in ("C1", "C2", "C3")] == pytest.approx([0.4, 0.8, 0.8], rel=1e-12)
    assert sum(credit(result, "shapley", "value").values()) == pytest.approx(8.0, rel=1e-12)
    data["output"], data["method"] = {"path": str(tmp_path / "no")}, {**data["method"], "models": ["time_decay"]}
    with pytest.raises(ConfigError, match="touches and conversions"):
        run(data)


@once
def test_lift_scales_the_credit(spark, log: Log, folder: Path, tmp_path: Path) -> None:
    lift = pa.table({"term": ["email"], "outcome": ["conversions"], "estimate": [20.0], "std_error": [4.0]})
    write_table(lift, tmp_path / "lift")
    data = config(folder, tmp_path / "out", models=["linear"])
    data["input"]["lift"] = {"table": str(tmp_path / "lift")}
    result = run(data).result
    assert result is not None
    (row,) = result.diagnostics["calibration"].to_dict("records")
    assert row["factor"] == pytest.approx(20 / row["credit"])
    assert row["factor_low"] < row["factor"] < row["factor_high"]
    frame = result.estimates[result.estimates["estimand"] == "incremental"].set_index("term")
    assert frame.loc["email", "estimate"] == 20
    assert frame.loc["(baseline)", "estimate"] == pytest.approx(row["credit"] - 20)


GOOD = [("ann", 1.0, "x", 1), ("bob", 2.0, "y", 2)]


@once
@pytest.mark.parametrize(
    ("code", "rows", "revenue", "method"),
    [
        ("EMPTY_CHANNEL", [("ann", 1.0, " ", 1)], 1.0, {}),
        ("EMPTY_CHANNEL", [("ann", 1.0, None, 1)], 1.0, {}),
        ("UNKNOWN_CHANNEL", GOOD, 1.0, {"channels": ["x"]}),
        ("NEGATIVE_AMOUNT", GOOD, -1.0, {}),
        ("NAN_INF", GOOD, float("nan"), {}),
        ("FUTURE_TS", GOOD, 1.0, {"as_of": "2026-01-01"}),
        ("EVENT_OF_TWO_PERSONS", [("ann", 1.0, "x", 1), ("bob", 2.0, "y", 1)], 1.0, {}),
        ("TOO_MANY_CHANNELS", [("ann", 1.0, f"c{i}", i) for i in range(63)], 1.0, {"models": ["shapley_rate"]}),
    ],
)
def test_bad_input_is_refused(spark, tmp_path: Path, code: str, rows, revenue: float, method) -> None:
    write_table(_table(rows), tmp_path / "touches")
    write_table(pa.table({"user_id": ["ann"], "ts": _times([2.5]), "revenue": [revenue]}), tmp_path / "conversions")
    with pytest.raises(GateError, match=code):
        run(config(tmp_path, tmp_path / "out", **{"models": ["last"], **method}))
    assert not (tmp_path / "out").exists()


@once
def test_spend_for_an_unknown_channel_is_warned_of(spark, tmp_path: Path) -> None:
    write_table(_table(GOOD), tmp_path / "touches")
    write_table(pa.table({"user_id": ["ann"], "ts": _times([2.5]), "revenue": [5.0]}), tmp_path / "conversions")
    write_table(pa.table({"channel": ["x", "xx"], "cost": [2.0, 1.0]}), tmp_path / "spend")
    data = config(tmp_path, tmp_path / "out", models=["last"], spend={})
    data["input"]["spend"] = {"table": str(tmp_path / "spend")}
    result = run(data).result
    assert result is not None
    assert "SPEND_UNKNOWN_CHANNEL" in set(result.diagnostics["checks"]["code"])
    (row,) = result.diagnostics["returns"].to_dict("records")
    assert (row["cpa"], row["roas"], row["roi"]) == (2.0, 2.5, 1.5)


@once
def test_tables_that_name_no_token_or_name_it_twice_are_refused(spark, tmp_path: Path) -> None:
    write_table(_table(GOOD), tmp_path / "touches")
    write_table(pa.table({"user_id": ["ann"], "ts": _times([2.5]), "revenue": [5.0]}), tmp_path / "conversions")
    write_table(pa.table({"channel": ["x"], "cost": [2.0]}), tmp_path / "spend")
    lifts = {"term": ["x", "x"], "outcome": ["conversions"] * 2, "estimate": [1.0, 2.0], "std_error": [0.1, 0.1]}
    write_table(pa.table(lifts), tmp_path / "lift")
    data = config(tmp_path, tmp_path / "out", models=["last"], spend={}, transform="frequency")
    data["input"]["spend"] = {"table": str(tmp_path / "spend")}
    with pytest.raises(ConfigError, match="frequency"):
        run(data)
    data = config(tmp_path, tmp_path / "out", models=["last"])
    data["input"]["lift"] = {"table": str(tmp_path / "lift")}
    with pytest.raises(ConfigError, match="several rows for the channel 'x'"):
        run(data)


@once
def test_equal_orders_count_once_and_missing_amounts_are_told(spark, tmp_path: Path) -> None:
    """One channel, one person who bought: columns that are constant in their files."""
    write_table(_table([("ann", 1.0, "x", 1), ("bob", 2.0, "x", 2)]), tmp_path / "touches")
    bought = {"user_id": ["ann"] * 4, "ts": _times([2.5, 2.6, 2.7, 2.8]), "revenue": [5.0, 5.0, None, 1.0],
              "order": ["o1", "o1", None, None]}  # fmt: skip
    write_table(pa.table(bought), tmp_path / "conversions")
    result = run(config(tmp_path, tmp_path / "out", models=["last"], conversion_id="order")).result
    assert result is not None
    totals = result.diagnostics["totals"].set_index("outcome")["total"]
    assert (totals["conversions"], totals["value"]) == (3, 6.0)
    checks = result.diagnostics["checks"].set_index("code")
    assert checks.loc["DUPLICATE_CONVERSION", "verdict"] == checks.loc["AMOUNT_MISSING", "verdict"] == "warn"


def budget(folder: Path, out: Path, **method: Any) -> dict[str, Any]:
    return {"job": "budget", "input": {"history": {"table": str(folder / "weeks")}},
            "method": {"period": "week", **method}, "output": {"path": str(out)},
            "tracking": {"enabled": False}}  # fmt: skip


def test_budget_from_table_to_report(spark, tmp_path: Path) -> None:
    table = weekly_spend()
    write_table(table.take(np.random.default_rng(1).permutation(table.num_rows)), tmp_path / "weeks", files=3)
    data = budget(tmp_path, tmp_path / "out", what_if=[{"source": "outdoor", "target": "social", "share": 0.15}])
    result = run(data).result
    assert result is not None
    plan = result.diagnostics["plan"].set_index("channel")
    free = plan[plan["binding"] == ""]["marginal_planned"]
    assert free.max() == pytest.approx(free.min(), rel=1e-6)
    assert plan["spend_planned"].sum() == pytest.approx(plan["spend_now"].sum(), rel=1e-9)
    total = result.estimates.query("term == '(total)' and outcome == 'gain'").iloc[0]
    assert total["conf_low"] > 0
    shaped = result.diagnostics["checks"].query("code == 'S_SHAPED'")["column"].tolist()
    assert shaped == [name for name, (family, _, _) in RESPONSES.items() if family == "hill"]
    assert "outdoor → social (15%)" in set(result.diagnostics["scenarios"]["scenario"])
    assert "<svg" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    resolved = job.resolve(str(tmp_path / "out"), {"budget": 200.0}, str(tmp_path / "less"))
    assert resolved.result is not None
    assert resolved.result.diagnostics["plan"]["spend_planned"].sum() == pytest.approx(200, rel=1e-9)


@once
@pytest.mark.parametrize(
    ("error", "method"),
    [
        ("UNKNOWN_CHANNEL_NAMED", {"bounds": [{"channel": "serch", "high": 5}]}),
        ("outside", {"budget": 1e9}),
        ("returns 1000", {"goal": "roas", "target": 1000.0, "curves": ["michaelis_menten"]}),
        ("target", {"goal": "cpa"}),
    ],
)
def test_budget_refusals(spark, tmp_path: Path, error: str, method: dict[str, Any]) -> None:
    write_table(weekly_spend(30), tmp_path / "weeks")
    with pytest.raises(CausalSparkError, match=error):
        run(budget(tmp_path, tmp_path / "out", **method))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["attribution", "budget"])
def test_templates_are_valid(name: str) -> None:
    data = load(ROOT / "conf" / f"{name}.yml")
    assert job.validate(data, name).job == name
