"""Results as catalog tables."""

from __future__ import annotations

import uuid

import pandas as pd
import pytest

from causal_spark.errors import ConfigError
from causal_spark.spark.catalog import RunTables
from causal_spark.spark.session import Engine


@pytest.fixture
def name(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)  # the embedded engine keeps its warehouse where it stands
    return f"run_{uuid.uuid4().hex[:8]}"


def tables(spark: object, name: str, key: str) -> RunTables:
    return RunTables(Engine(spark, "connect", ""), name, "parquet", None, key)  # type: ignore[arg-type]


def test_a_finished_run_is_found_and_reads_nan_as_null(spark, name) -> None:
    run = tables(spark, name, "k1")
    assert run.finished() is None
    frame = pd.DataFrame({"outcome": ["a", "b"], "p_value": [0.5, float("nan")]})
    run.begin()
    run.write({"estimates": frame, "srm": frame}, {"statistics.json": "{}", "report.html": "<html>"})
    assert run.finished() is None
    run.finish({"run_key": "k1", "mlflow_run": None}, keep_stage=False)
    again = tables(spark, name, "k1")
    assert again.finished() == {"run_key": "k1", "mlflow_run": None}
    assert again.read("report.html") == "<html>"
    stored = {row["outcome"]: row["p_value"] for row in spark.table(name).collect()}
    assert stored == {"a": 0.5, "b": None}
    assert spark.table(f"{name}_srm").count() == 2


def test_a_table_that_no_run_made_is_left_alone(spark, name) -> None:
    spark.range(3).write.saveAsTable(name)
    with pytest.raises(ConfigError, match=name):
        tables(spark, name, "k1").finished()
    assert spark.table(name).count() == 3


def test_a_table_of_another_run_is_refused(spark, name) -> None:
    run = tables(spark, name, "k1")
    run.write({"estimates": pd.DataFrame({"a": [1]})}, {"statistics.json": "", "report.html": ""})
    run.finish({"run_key": "k1"}, keep_stage=False)
    with pytest.raises(ConfigError, match="k1"):
        tables(spark, name, "k2").finished()


@pytest.mark.parametrize("bad", ["text.x", "a.b.c.d", "a`b", "x; drop table y", ""])
def test_names_that_are_no_table_are_refused(bad) -> None:
    with pytest.raises(ConfigError):
        tables(None, bad, "k")
