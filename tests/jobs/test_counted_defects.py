"""Defects that a job can live with: said, counted and gone on with."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from causal_spark import cli
from tests.jobs.bad_input import (
    DAY,
    N,
    all_of,
    also_treated,
    event_config,
    events,
    exposures,
    put,
    rows,
    saved,
    solved,
    unit_config,
    units,
    write,
)

if TYPE_CHECKING:
    from causal_spark.results import Result

# What is tested is the driver's: on the embedded engine alone.
once = pytest.mark.engines("sail")


def check(result: Result, code: str) -> pd.Series:
    found = result.diagnostics["checks"]
    return found[found["code"] == code].iloc[0]


def row(result: Result, outcome: str, term: str = "difference", method: str | None = None) -> pd.Series:
    frame = result.estimates[result.estimates["segment"] == "all"]
    frame = frame[(frame["outcome"] == outcome) & (frame["term"] == term)]
    return (frame if method is None else frame[frame["method"] == method]).iloc[0]


def test_a_few_units_in_two_arms_leave_and_are_counted(spark, tmp_path):
    write(also_treated(2)(units()), tmp_path / "units")
    result = solved(unit_config(tmp_path))
    found = check(result, "UNIT_IN_TWO_ARMS")
    assert (found["verdict"], found["count"]) == ("warn", 2)
    assert result.diagnostics["srm"].set_index("arm")["n"].to_dict() == {"control": 198, "treatment": 200}
    assert any("UNIT_IN_TWO_ARMS" in note for note in result.notes)


@once
def test_a_few_exposed_units_in_two_arms_leave_and_are_counted(spark, tmp_path):
    write(also_treated(2)(exposures()), tmp_path / "exposures")
    write(events(), tmp_path / "events")
    result = solved(event_config(tmp_path))
    found = check(result, "UNIT_IN_TWO_ARMS")
    assert (found["verdict"], found["count"]) == ("warn", 2)
    assert result.diagnostics["srm"].set_index("arm")["n"].to_dict() == {"control": 198, "treatment": 200}


def test_events_before_exposure_leave_and_are_counted(spark, tmp_path):
    """Seven events are from before exposure; with a covariate window of ten days only three are out of it."""
    moved = events()
    first = dict(zip(exposures()["user_id"], exposures()["ts"], strict=True))
    for i in range(7):
        place = 3 * (i + 5) + 1
        moved["ts"][place] = first[moved["user_id"][place]] - (20 if i < 3 else 5) * DAY
    write(exposures(), tmp_path / "exposures")
    write(moved, tmp_path / "events")
    config = event_config(tmp_path)
    plain = solved(config)
    found = check(plain, "EVENT_BEFORE_EXPOSURE")
    assert (found["verdict"], found["count"]) == ("warn", 7)
    assert found["share"] == pytest.approx(7 / (3 * N))
    arms = plain.diagnostics["arms"].query("outcome == 'bought' and segment == 'all'")
    assert (arms["mean"] * arms["n"]).sum() == pytest.approx(0.75 * N - 7)
    config["method"]["pre_days"] = 10
    config["output"]["path"] += "-pre"
    assert check(solved(config), "EVENT_BEFORE_EXPOSURE")["count"] == 3


@once
def test_a_declared_refund_is_no_defect(spark, tmp_path):
    write(exposures(), tmp_path / "exposures")
    write(put("amount", -9.5)(events()), tmp_path / "events")
    config = event_config(tmp_path)
    config["method"]["metrics"][0]["negative"] = True
    assert solved(config).trusted


@pytest.mark.parametrize("nulls", ["zero", "drop"])
def test_declared_nulls_are_counted(nulls, spark, tmp_path):
    write(put("revenue", *[None] * 10)(units()), tmp_path / "units")
    config = unit_config(tmp_path)
    config["method"]["metrics"][0] |= {"nulls": nulls, "covariates": []}
    result = solved(config)
    counted = result.diagnostics["nulls"].set_index("outcome").loc["revenue"]
    assert (counted["nulls"], counted["rows"], counted["policy"]) == (10, N, nulls)
    assert row(result, "revenue")["n"] == (N if nulls == "zero" else N - 10)


@once
def test_a_hot_unit_is_named(spark, tmp_path):
    write(put("revenue", 3000.0)(units()), tmp_path / "units")
    found = check(solved(unit_config(tmp_path)), "HOT_KEY")
    assert found["verdict"] == "warn"
    assert found["share"] > 0.25
    assert "winsorized" in found["message"]


@pytest.mark.parametrize(
    ("column", "value", "outcome"),
    [
        ("revenue", 3.25, "revenue"),
        pytest.param("revenue", 0.0, "revenue", marks=once),
        ("converted", 1, "converted"),
        pytest.param("converted", 0, "converted", marks=once),
    ],
)
def test_no_spread_means_no_p_value(column, value, outcome, spark, tmp_path):
    write(all_of(column, value)(units()), tmp_path / "units")
    config = unit_config(tmp_path)
    config["method"]["metrics"][0]["covariates"] = []
    result = solved(config)
    found = check(result, "ZERO_VARIANCE")
    assert found["verdict"] == "warn"
    assert "Check its column and its filter" in found["message"]
    for term in ("difference", "lift"):
        found = row(result, outcome, term)
        assert math.isnan(found["p_value"])
        assert math.isnan(found["p_adjusted"])
        assert found["note"]
    other = row(result, "converted" if outcome == "revenue" else "revenue")
    assert 0 <= other["p_value"] <= 1


@once
@pytest.mark.parametrize("kept", [2, 3, 20])
def test_few_units_are_named(kept, spark, tmp_path):
    """One unit in an arm: no estimate, a note; a handful: an estimate with a warning."""
    write(rows(lambda i: i < kept)(units()), tmp_path / "units")
    config = unit_config(tmp_path)
    for metric in config["method"]["metrics"]:
        metric.pop("covariates", None)
    result = solved(config)
    assert check(result, "N_TOO_SMALL")["verdict"] == "warn"
    found = row(result, "revenue")
    if kept < 4:
        assert math.isnan(found["p_value"])
        assert math.isnan(found["estimate"])
        assert found["note"]
    else:
        assert 0 <= found["p_value"] <= 1


@once
def test_sizes_off_the_plan_are_not_to_be_trusted(spark, tmp_path, capsys):
    """A sample ratio mismatch is a result with a verdict, not a refusal."""
    write(rows(lambda i: i % 2 == 0 or i % 4 == 1)(units()), tmp_path / "units")
    assert cli.main(["run", saved(unit_config(tmp_path), tmp_path)]) == 0
    assert "NOT TRUSTWORTHY" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["trusted"] is False
