"""From attribution to budget: credit by period beside its cost, read by the budget job as the page says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from causal_spark import config, job
from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import Attribution, periods
from causal_spark.simulate_journeys import DAY, START, Log, journeys, write, write_table
from tests.run import ROOT

WINDOW = 30 * DAY
MODELS = ["last", "linear", "markov_1"]
# The driver's part: on the embedded engine alone.
once = pytest.mark.engines("sail")


def daily_costs(log: Log) -> pa.Table:
    """Each day's cost of a channel: 0.3 for a touch."""
    frame = log.touches.select(["ts", "channel"]).to_pandas()
    frame["day"] = frame["ts"].dt.floor("D")
    cost = frame.groupby(["channel", "day"]).size().mul(0.3).round(2).rename("cost").reset_index()
    return pa.Table.from_pandas(cost, preserve_index=False)


def method(**changes: Any) -> dict[str, Any]:
    return {"person": "user_id", "time": "ts", "channel": "channel", "value": "revenue", "models": MODELS,
            "replicates": 5, "period": "week", "spend": {"cost": "cost", "time": "day"}, **changes}  # fmt: skip


@pytest.fixture(scope="module")
def log() -> Log:
    return journeys(persons=2_500, seed=4)


@pytest.fixture(scope="module")
def attributed(spark, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an attribution with weekly credit; the tables are beside it."""
    folder = write(log, tmp_path_factory.mktemp("periods"))
    write_table(daily_costs(log), folder / "costs")
    tables = {"touches": "touches", "conversions": "conversions", "spend": "costs"}
    data = {"job": "attribution", "input": {role: {"table": str(folder / name)} for role, name in tables.items()},
            "method": method(), "output": {"path": str(folder / "attribution")},
            "tracking": {"enabled": False}}  # fmt: skip
    job.run(data, "attribution")
    return folder


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "attribution" / name)


def monday(times: pd.Series) -> pd.Series:
    """The week of a time, counted by pandas."""
    days = times.dt.tz_localize(None).dt.floor("D")
    return (days - pd.to_timedelta(days.dt.dayofweek, unit="D")).dt.strftime("%Y-%m-%d")


@pytest.mark.engines("sail", "spark")
def test_last_touch_by_week_is_that_of_plain_pandas(attributed: Path, log: Log) -> None:
    """The last touch of each conversion in its window, if no earlier conversion had it; counted in its own week."""
    touches = log.touches.to_pandas().sort_values("ts", kind="stable")[["user_id", "ts", "channel"]]
    bought = log.conversions.to_pandas().sort_values("ts", kind="stable")
    bought["before"] = bought.groupby("user_id")["ts"].shift()
    touches["at"] = touches["ts"]
    found = pd.merge_asof(bought, touches, on="ts", by="user_id", tolerance=pd.Timedelta(WINDOW, "us"))
    found = found[found["channel"].notna() & ~(found["at"] <= found["before"])]
    expected = found.groupby(["channel", monday(found["ts"])]).agg(n=("revenue", "size"), v=("revenue", "sum"))
    credits_ = table(attributed, "credits_by_period")
    mine = credits_[credits_["model"] == "last"].set_index(["channel", "period"])
    assert mine["conversions"].sum() == len(found)
    for key, row in mine.iterrows():
        n, v = expected.loc[key] if key in expected.index else (0, 0.0)
        assert row["conversions"] == n, key
        assert row["value"] == pytest.approx(v, abs=1e-6), key  # cents in fixed point


@once
def test_periods_add_up_and_costs_stand_beside(attributed: Path, log: Log) -> None:
    credits_, whole = table(attributed, "credits_by_period"), table(attributed, "estimates")
    whole = whole[(whole["segment"] == "all") & (whole["outcome"] == "conversions")].set_index(["method", "term"])
    for (model, channel), rows in credits_.groupby(["model", "channel"]):
        if model != "markov_1":  # a chain of each week is not the chain of all
            assert rows["conversions"].sum() == pytest.approx(whole.loc[(model, channel), "estimate"], rel=1e-9)
    week = credits_.groupby(["model", "period"])["conversions"].sum().unstack("model")
    assert np.allclose(week["markov_1"], week["linear"], rtol=1e-9)  # each gives out the same conversions
    costs = daily_costs(log).to_pandas()
    spent = costs.groupby(["channel", monday(costs["day"])])["cost"].sum()
    mine = credits_[credits_["model"] == "last"].set_index(["channel", "period"])["cost"]
    assert mine[mine > 0].to_dict() == pytest.approx(spent.to_dict(), rel=1e-12)
    first = datetime.fromtimestamp(START / 1e6, UTC).date()
    for period, complete in credits_.groupby("period")["complete"].first().items():
        start = datetime.fromisoformat(str(period)).date()
        assert complete == (start >= first and start + timedelta(days=7) <= first + timedelta(days=90)), period


@once
def test_unattributed_conversions_have_their_period(attributed: Path, log: Log) -> None:
    estimates = table(attributed, "estimates").query("method == 'last' and outcome == 'conversions'")
    weeks = estimates[estimates["segment"].str.startswith("period=")].groupby("segment")["estimate"].sum()
    counted = monday(log.conversions.to_pandas()["ts"]).value_counts()
    assert {f"period={week}": n for week, n in counted.items()} == weeks[weeks > 0].to_dict()


@once
@pytest.mark.parametrize("page", ["budget.md", "budget.zh.md"])
def test_the_budget_reads_the_run_as_the_page_says(attributed: Path, tmp_path: Path, page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    (data,) = [config.parse(block, page) for block in blocks if "credits_by_period" in block]
    assert data["input"]["history"]["table"] == "out/attribution/credits_by_period"
    data["input"]["history"]["table"] = str(attributed / "attribution" / "credits_by_period")
    data |= {"output": {"path": str(tmp_path / "out")}, "tracking": {"enabled": False}}
    result = job.run(data, "budget").result
    assert result is not None
    plan = result.diagnostics["plan"]
    credits_ = table(attributed, "credits_by_period")
    mine = credits_[(credits_["model"] == "markov_1") & credits_["complete"]]
    assert sorted(plan["channel"]) == sorted(set(mine["channel"]))
    assert plan["spend_now"].sum() == pytest.approx(mine["cost"].sum() / mine["period"].nunique(), rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"period": None}, "method.period"),
        ({"segments": ["period"]}, "method.segments"),
        ({"period": "year"}, "year"),
    ],
)
def test_periods_that_make_no_sense_are_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        config.build(Attribution, method(**changes), "method")


@pytest.mark.parametrize(
    ("unit", "period", "complete"),
    [("day", "2026-01-05", True), ("day", "2026-01-04", False), ("week", "2026-01-05", True),
     ("week", "2026-02-02", False), ("month", "2026-01-01", False), ("month", "2026-02-01", False)],
)  # fmt: skip
def test_a_period_is_complete_if_the_data_reach_over_it(unit: str, period: str, complete: bool) -> None:
    first = START + 4 * DAY + 3_600_000_000  # 2026-01-05 01:00
    last = START + 34 * DAY  # as_of 2026-02-04 00:00
    assert periods._complete(period, unit, {"first": first, "as_of": last}) is complete
