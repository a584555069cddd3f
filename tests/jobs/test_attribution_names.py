"""What gets the credit and what it is called: campaigns, further columns, names nearly the same or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from causal_spark.errors import ConfigError, GateError
from causal_spark.simulate_journeys import write_table
from tests.jobs.test_attribution import _table, _times, config, run
from tests.journey_buckets import credit

# What is tested is the driver's, or plain filters and sums: on the embedded engine alone.
pytestmark = pytest.mark.engines("sail")


def tables(folder: Path, touches: pa.Table, **more: pa.Table) -> Path:
    bought = pa.table({"user_id": ["ann", "bob"], "ts": _times([6, 6]), "revenue": [10.0, 4.0], "margin": [3.0, 1.0]})
    for name, table in {"touches": touches, "conversions": bought, **more}.items():
        write_table(table, folder / name)
    return folder


def codes(result: Any, verdict: str = "warn") -> dict[str, str]:
    """Code of each finding → its sentence."""
    checks = result.diagnostics["checks"].query(f"verdict == '{verdict}'")
    return dict(zip(checks["code"], checks["message"], strict=True))


CAMPAIGNS = [("ann", 1, "search", 1, "spring", "DE"), ("ann", 2, "social", 2, "spring", "DE"),
             ("ann", 3, "direct", 3, None, "DE"), ("bob", 1, "search", 4, "summer", "DE"),
             ("bob", 2, "search", 5, "spring", "DE"), ("bob", 3, "social", 6, "summer", "FR")]  # fmt: skip


def test_campaigns_further_columns_and_filters(spark, tmp_path: Path) -> None:
    """Credit of channel × campaign for conversions, value and margin; touches of another country do not count."""
    touches = _table([row[:4] for row in CAMPAIGNS])
    touches = touches.append_column("campaign", pa.array([row[4] for row in CAMPAIGNS], pa.string()))
    touches = touches.append_column("country", pa.array([row[5] for row in CAMPAIGNS]))
    costs = pa.table({"channel": ["search / spring"], "cost": [5.0]})
    folder = tables(tmp_path, touches, spend=costs)
    data = config(folder, tmp_path / "out", models=["linear", "last_non_direct"], by=["campaign"], values=["margin"],
                  where=[{"column": "country", "value": "DE"}], replicates=0, spend={})  # fmt: skip
    data["input"]["spend"] = {"table": str(folder / "spend")}
    result = run(data).result
    assert result is not None
    third, half = 1 / 3, 1 / 2
    shares = {"search / spring": (third, half), "social / spring": (third, 0), "direct / ": (third, 0),
              "search / summer": (0, half)}  # fmt: skip
    for outcome, (ann, bob) in {"conversions": (1, 1), "value": (10, 4), "margin": (3, 1)}.items():
        expected = {name: a * ann + b * bob for name, (a, b) in shares.items()} | {"(unattributed)": 0.0}
        assert credit(result, "linear", outcome) == pytest.approx(expected, abs=1e-11), outcome
    last = credit(result, "last_non_direct")
    assert (last["social / spring"], last["direct / "], last["search / spring"]) == (1, 0, 1)
    (row,) = result.diagnostics["returns"].query("model == 'last_non_direct'").to_dict("records")
    assert (row["channel"], row["cpa"], row["roas"]) == ("search / spring", 5.0, 0.8)
    dropped = run(config(folder, tmp_path / "dropped", models=["last"], by=["campaign"], drop_last=["direct"])).result
    assert dropped is not None and credit(dropped, "last")["social / spring"] == 1


def test_names_that_are_nearly_the_same_stay_apart_and_are_told(spark, tmp_path: Path) -> None:
    names = ["search", "Search", "search ", "搜索", "social"]
    touches = _table([("ann", day, name, day) for day, name in enumerate(names, start=1)])
    folder = tables(tmp_path, touches, spend=pa.table({"channel": ["search"], "cost": [2.0]}))
    data = config(folder, tmp_path / "out", models=["linear", "last_non_direct"], exclude=["socail"], spend={})
    data["input"]["spend"] = {"table": str(folder / "spend")}
    result = run(data).result
    assert result is not None
    found = codes(result)
    assert "'Search', 'search', 'search '" in found["SIMILAR_CHANNELS"] and "搜索" not in found["SIMILAR_CHANNELS"]
    missing = result.diagnostics["checks"].query("code == 'NAMED_CHANNEL_MISSING'")["message"].tolist()
    assert len(missing) == 2
    assert "method.exclude" in missing[0] and "'socail'" in missing[0] and "social" in missing[0]
    assert "method.direct" in missing[1]
    assert credit(result, "linear") == pytest.approx(dict.fromkeys(names, 0.2) | {"(unattributed)": 1.0})
    assert set(result.diagnostics["returns"]["channel"]) == {"search"}


def test_spend_is_of_the_channel_as_it_is_written(spark, tmp_path: Path) -> None:
    """The cost of "x" is not that of "x ", and says so."""
    touches = _table([("ann", 1, "x ", 1)])
    folder = tables(tmp_path, touches, spend=pa.table({"channel": ["x"], "cost": [2.0]}))
    data = config(folder, tmp_path / "out", models=["last"], spend={})
    data["input"]["spend"] = {"table": str(folder / "spend")}
    result = run(data).result
    assert result is not None
    assert "SPEND_UNKNOWN_CHANNEL" in codes(result) and "returns" not in result.diagnostics


def spent(tmp_path: Path, channels: list[Any], costs: list[Any]) -> dict[str, Any]:
    table = pa.table({"channel": pa.array(channels, pa.string()), "cost": pa.array(costs, pa.float64())})
    folder = tables(tmp_path, _table([("ann", 1, "x", 1)]), spend=table)
    data = config(folder, tmp_path / "out", models=["last"], spend={})
    data["input"]["spend"] = {"table": str(folder / "spend")}
    return data


@pytest.mark.parametrize(("channels", "costs", "code"), [(["x"] * 3, [40.0, 41.0, float("nan")], "NAN_INF"),
                                                         (["x", "x"], [40.0, float("inf")], "NAN_INF"),
                                                         (["x", None], [40.0, 1.0], "NULL_KEY")])  # fmt: skip
def test_spend_that_is_no_number_or_of_nobody_is_refused(spark, tmp_path: Path, channels, costs, code) -> None:
    with pytest.raises(GateError, match=code):
        run(spent(tmp_path, channels, costs))
    assert not (tmp_path / "out").exists()


def test_a_cost_that_is_missing_is_told(spark, tmp_path: Path) -> None:
    result = run(spent(tmp_path, ["x", "x"], [40.0, None])).result
    assert result is not None
    assert codes(result)["COST_MISSING"].startswith("1 rows (50.0%) of the table spend have no cost")
    assert result.diagnostics["returns"]["cost"].tolist()[0] == 40.0


@pytest.mark.parametrize("role", ["spend", "identity"])
def test_columns_without_their_table_are_refused(spark, tmp_path: Path, role: str) -> None:
    data = config(tables(tmp_path, _table([("ann", 1, "x", 1)])), tmp_path / "out", models=["last"], **{role: {}})
    with pytest.raises(ConfigError, match=f"input.{role}"):
        run(data)


def test_an_alias_of_two_persons_is_told(spark, tmp_path: Path) -> None:
    known = pa.table({"alias": ["a1", "a1", "a2", "a2"], "person": ["eve", "ann", "ann", "ann"]})
    folder = tables(tmp_path, _table([("a1", 1, "x", 1), ("a2", 2, "y", 2)]), identity=known)
    data = config(folder, tmp_path / "out", models=["linear"], identity={})
    data["input"]["identity"] = {"table": str(folder / "identity")}
    result = run(data).result
    assert result is not None
    assert codes(result)["ALIAS_OF_TWO_PERSONS"].startswith("1 values of identity.alias (50.0%)")
    assert credit(result, "linear") == {"x": 0.5, "y": 0.5, "(unattributed)": 1.0}


@pytest.mark.parametrize(
    ("column", "values"), [("total_conversions", ([1.5, 2.0], [0, 1])), ("total_null", ([1, 2], [0.0, 0.25]))]
)
def test_counts_of_paths_are_whole(spark, tmp_path: Path, column: str, values: tuple[list[float], ...]) -> None:
    """Such numbers were cut to whole ones before, and conversions lost in silence."""
    frame = pd.DataFrame({"path": ["a > b", "b"], "total_conversions": values[0], "total_null": values[1]})
    frame.to_csv(tmp_path / "paths.csv", index=False)
    data = {"job": "attribution", "input": {"paths": {"table": str(tmp_path / "paths.csv"), "format": "csv"}},
            "method": {"models": ["last"], "paths": {"nulls": "total_null"}}, "output": {"path": str(tmp_path / "out")},
            "tracking": {"enabled": False}}  # fmt: skip
    with pytest.raises(GateError, match=rf"PARTIAL_COUNT: 1 rows of paths \(50.0%\) have a {column} "):
        run(data)
    assert not (tmp_path / "out").exists()


def test_value_belongs_to_a_conversion_and_where_leaves_paths_out(spark, tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a > b", "b"], "total_conversions": [1, 0], "total_conversion_value": [5.0, 3.0],
                          "source": ["web", "app"]})  # fmt: skip
    frame.to_csv(tmp_path / "paths.csv", index=False)
    data = {"job": "attribution", "input": {"paths": {"table": str(tmp_path / "paths.csv"), "format": "csv"}},
            "method": {"models": ["last"], "paths": {"value": "total_conversion_value"}, "replicates": 0},
            "output": {"path": str(tmp_path / "out")}, "tracking": {"enabled": False}}  # fmt: skip
    with pytest.raises(GateError, match=r"VALUE_OF_NOTHING: 1 rows of paths \(50.0%\)"):
        run(data)
    data["method"]["where"] = [{"column": "source", "op": "==", "value": "web"}]
    result = run(data).result
    assert result is not None
    assert credit(result, "last", "value") == {"a": 0.0, "b": 5.0, "(unattributed)": 0.0}


def test_names_in_paths_are_looked_at_too(spark, tmp_path: Path) -> None:
    """A path table may name a channel in vain as well."""
    frame = pd.DataFrame({"path": ["a > b", "B"], "total_conversions": [1, 2]})
    frame.to_csv(tmp_path / "paths.csv", index=False)
    data = {"job": "attribution", "input": {"paths": {"table": str(tmp_path / "paths.csv"), "format": "csv"}},
            "method": {"models": ["last"], "paths": {}, "drop_last": ["c"]}, "output": {"path": str(tmp_path / "out")},
            "tracking": {"enabled": False}}  # fmt: skip
    result = run(data).result
    assert result is not None
    assert {"SIMILAR_CHANNELS", "NAMED_CHANNEL_MISSING"} <= set(codes(result))


def test_times_beyond_today_are_told(spark, tmp_path: Path) -> None:
    """Without as_of they move the end of the data, so that a young journey looks lost."""
    folder = tables(tmp_path, _table([("ann", 1, "x", 1), ("eve", 40_000, "y", 2)]))
    result = run(config(folder, tmp_path / "out", models=["last"])).result
    assert result is not None
    assert codes(result)["AFTER_TODAY"].startswith("touches.ts goes ")
    known = run(config(folder, tmp_path / "known", models=["last"], as_of="2140-01-01")).result
    assert known is not None and "AFTER_TODAY" not in codes(known)
