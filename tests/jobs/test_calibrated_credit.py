"""Lifts from the folder of an experiment scale the credit of an attribution; every wrong row is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from causal_spark import config, job
from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import Attribution, lift
from causal_spark.methods.attribution.vocabulary import Calibration
from causal_spark.simulate_journeys import journeys, write, write_table

METHOD = {"person": "user_id", "time": "ts", "channel": "channel", "value": "revenue", "models": ["last", "linear"],
          "replicates": 20}  # fmt: skip


@pytest.fixture(scope="module")
def holdout(spark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment in which half of 4,000 persons got e-mails."""
    folder, rng = tmp_path_factory.mktemp("holdout"), np.random.default_rng(2)
    arm = np.arange(4000) % 2
    units = pa.table({"user_id": np.arange(4000), "variant": np.array(["off", "on"])[arm],
                      "orders": rng.poisson(0.2 + 0.05 * arm), "visits": rng.poisson(2.0, 4000)})  # fmt: skip
    write_table(units, folder / "units")
    metrics = [{"name": name, "kind": "mean", "value": name} for name in ("orders", "visits")]
    data = {"job": "experiment", "input": {"units": {"table": str(folder / "units")}},
            "method": {"unit": "user_id", "arm": "variant", "control": "off", "metrics": metrics},
            "output": {"path": str(folder / "run")}, "tracking": {"enabled": False}}  # fmt: skip
    job.run(data, "experiment")
    return folder / "run"


def attribute(folder: Path, table: Path, out: str, **method: Any) -> job.Outcome:
    tables = {"touches": folder / "touches", "conversions": folder / "conversions", "lift": table}
    data = {"job": "attribution", "input": {role: {"table": str(path)} for role, path in tables.items()},
            "method": {**METHOD, **method}, "output": {"path": str(folder / out)},
            "tracking": {"enabled": False}}  # fmt: skip
    return job.run(data, "attribution")


@pytest.mark.engines("sail", "spark")
def test_a_run_folder_scales_the_credit(spark, holdout: Path, tmp_path: Path) -> None:
    folder = write(journeys(persons=1_500, seed=8), tmp_path)
    asked = [
        {"channel": "email", "metric": "orders", "units": 1_500},
        {"channel": "radar", "metric": "orders", "units": 9},
    ]
    result = attribute(folder, holdout, "out", calibration=asked).result
    assert result is not None
    (row,) = (
        pd.read_parquet(holdout / "estimates").query("outcome == 'orders' and term == 'difference'").to_dict("records")
    )
    calibrated = result.diagnostics["calibration"]
    assert set(calibrated["channel"]) == {"email"} and len(calibrated) == 2
    for line in calibrated.to_dict("records"):
        assert line["lift"] == pytest.approx(1_500 * row["estimate"], rel=1e-12)
        assert line["lift_high"] == pytest.approx(1_500 * row["conf_high"], rel=2e-3)  # there a t quantile
        assert line["factor"] == pytest.approx(line["lift"] / line["credit"], rel=1e-12)
        assert line["factor_low"] < line["factor"] < line["factor_high"]
    caused = result.estimates.query("estimand == 'incremental' and term == 'email'")
    assert caused["std_error"].tolist() == pytest.approx([1_500 * row["std_error"]] * 2, rel=1e-12)
    named = result.diagnostics["checks"].query("code == 'LIFT_UNKNOWN_CHANNEL'")
    assert named["column"].tolist() == ["radar"]


@pytest.mark.engines("sail")
def test_calibration_without_a_table_is_refused(spark, tmp_path: Path) -> None:
    folder = write(journeys(persons=200, seed=8), tmp_path)
    data = {"job": "attribution", "input": {name: {"table": str(folder / name)} for name in ("touches", "conversions")},
            "method": {**METHOD, "calibration": [{"channel": "email", "metric": "orders", "units": 5}]},
            "output": {"path": str(tmp_path / "out")}, "tracking": {"enabled": False}}  # fmt: skip
    with pytest.raises(ConfigError, match=r"input\.lift"):
        job.run(data, "attribution")
    assert not (tmp_path / "out").exists()


ROWS: list[tuple[object, ...]] = [
    ("cuped", "orders", "all", "b vs a", "difference", 0.2, 0.1),
    ("welch", "orders", "all", "b vs a", "difference", 0.3, 0.2),
    ("welch", "orders", "all", "b vs a", "lift", 9.0, 1.0),
    ("welch", "orders", "country=DE", "b vs a", "difference", 0.5, 0.2),
    ("welch", "orders", "country=FR", "b vs a", "difference", None, None),
    ("z", "visits", "all", "b vs a", "difference", 1.0, 0.5),
    ("z", "visits", "all", "c vs a", "difference", 2.0, 0.5),
]


@pytest.mark.parametrize(
    ("asked", "total", "error"),
    [
        ({"metric": "orders", "method": "cuped"}, 2.0, 1.0),
        ({"metric": "orders", "segment": "country=DE"}, 5.0, 2.0),
        ({"metric": "visits", "contrast": "c vs a"}, 20.0, 5.0),
    ],
)
def test_one_row_is_chosen_and_multiplied(asked: dict[str, str], total: float, error: float) -> None:
    found = lift._of_run(Calibration("email", units=10, **asked), ROWS)  # type: ignore[arg-type]
    assert (found.estimate, found.std_error) == pytest.approx((total, error))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"metric": "orders"}, "2 rows.*cuped, b vs a, all"),
        ({"metric": "visits"}, "2 rows.*c vs a"),
        ({"metric": "revenue"}, "0 rows"),
        ({"metric": "orders", "segment": "country=FR"}, "no estimate"),
    ],
)
def test_a_row_that_is_not_one_is_refused(asked: dict[str, str], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        lift._of_run(Calibration("email", units=10, **asked), ROWS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        ([{"channel": "a", "metric": "m", "units": 0}], "units"),
        ([{"channel": "a", "metric": "m", "units": 1}] * 2, "twice"),
        ([{"channel": "a", "metric": "m", "units": 1, "outcome": "clicks"}], "conversions, value"),
        ([{"channel": "a", "units": 1}], "metric"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(entries: list[dict[str, Any]], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        config.build(Attribution, {**METHOD, "calibration": entries}, "method")
