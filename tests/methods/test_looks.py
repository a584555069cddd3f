"""Looks at growing data under a plan, each a tracked run: from tables to MLflow and back, on the embedded engine."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from causal_spark import cli, job, storage
from causal_spark.errors import ConfigError, RunError
from causal_spark.outputs import read_manifest
from causal_spark.report import tracking
from causal_spark.solve.sequential import Plan, group_sequential
from causal_spark.words import say

Config = dict[str, Any]
SIZES = (600, 1200, 2400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units of an experiment after one, two and three weeks: the first rows of one table."""
    folder = tmp_path_factory.mktemp("looks")
    rng = np.random.default_rng(17)
    rows = {
        "user": np.arange(SIZES[-1]),
        "arm": np.where(np.arange(SIZES[-1]) % 2 == 0, "a", "b"),
        "revenue": rng.normal(10, 2, SIZES[-1]) + 0.3 * (np.arange(SIZES[-1]) % 2),
        "latency": rng.normal(100, 5, SIZES[-1]),
    }
    for week, n in enumerate(SIZES, start=1):
        (folder / f"week{week}").mkdir()
        table = pa.table({name: values[:n] for name, values in rows.items()})
        pq.write_table(table, folder / f"week{week}" / "0.parquet")
    return folder


def config(folder: Path, week: int, out: str, **more: Any) -> Config:
    plan = {"key": "checkout", "units": 3000, **more.pop("sequential", {})}
    method = {
        "unit": "user", "arm": "arm", "control": "a", "decision": {},
        "metrics": [
            {"name": "revenue", "kind": "mean", "value": "revenue"},
            {"name": "latency", "kind": "mean", "value": "latency", "role": "guardrail", "good": "decrease",
             "test": "non-inferiority", "margin": {"relative": 0.02}},
        ],
        "sequential": plan, **more,
    }  # fmt: skip
    return {
        "job": "experiment",
        "input": {"units": {"table": str(folder / f"week{week}")}},
        "method": method,
        "output": {"path": str(folder / out)},
        "tracking": {"uri": f"sqlite:///{folder / 'store' / 'runs.db'}", "experiment": "shop"},
    }


def run(folder: Path, week: int, out: str, **more: Any) -> job.Outcome:
    outcome = job.run(config(folder, week, out, **more), "experiment")
    assert outcome.tracking_error is None
    return outcome


@pytest.fixture(scope="module")
def weeks(spark: Any, folder: Path) -> list[job.Outcome]:
    return [run(folder, week, f"out{week}") for week in (1, 2, 3)]


def texts(folder: Path, key: str = "checkout") -> list[str]:
    return tracking.look_texts(key, config(folder, 1, "x")["tracking"])


def test_looks_find_those_before_them(weeks: list[job.Outcome], folder: Path) -> None:
    bounds = [look.bound for look in group_sequential([0.2, 0.4, 0.8], Plan(3000))]
    for number, outcome in enumerate(weeks, start=1):
        assert outcome.result is not None
        table = outcome.result.diagnostics["looks"]
        mine = table[table["outcome"] == "revenue"]
        assert list(mine["n"]) == list(SIZES[:number])
        np.testing.assert_allclose(mine["bound"], bounds[:number], rtol=1e-12)
        keys = [read_manifest(str(folder / f"out{week}"))["run_key"] for week in range(1, number + 1)]
        assert list(mine["run_key"]) == keys
        assert storage.read_frame(str(folder / f"out{number}" / "looks")).shape == table.shape
    for earlier, later in pairwise(weeks):
        before, after = (o.result.diagnostics["looks"].set_index(["outcome", "look"]) for o in (earlier, later))
        assert before["statistic"].to_dict() == after["statistic"].loc[before.index].to_dict()


def test_each_look_is_a_tracked_run_with_its_plan(weeks: list[job.Outcome], folder: Path) -> None:
    from mlflow import MlflowClient

    found = [json.loads(text) for text in texts(folder)]
    assert [look["plan"]["units"] for look in found] == [3000.0] * 3
    assert [[one["n"] for one in look["seen"] if one["outcome"] == "revenue"] for look in found] == [[n] for n in SIZES]
    client = MlflowClient(tracking_uri=config(folder, 1, "x")["tracking"]["uri"])
    for outcome in weeks:
        logged = client.get_run(outcome.manifest["mlflow_run"])
        assert logged.data.tags["causal_spark.experiment_key"] == "checkout"
        assert {"look.json", "looks.csv", "looks.svg"} <= {
            item.path for item in client.list_artifacts(logged.info.run_id)
        }


def test_the_same_run_again_is_no_new_look(weeks: list[job.Outcome], folder: Path) -> None:
    """Neither as it stands, nor made anew after its folder was lost, although later looks are there."""
    assert run(folder, 2, "out2").repeated
    shutil.rmtree(folder / "out2")
    before, again = weeks[1].result, run(folder, 2, "out2").result
    assert list(again.diagnostics["looks"]["look"]) == list(before.diagnostics["looks"]["look"])
    np.testing.assert_array_equal(again.estimates["p_value"], before.estimates["p_value"])
    assert len(texts(folder)) == 3


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_terminal_says_what_to_do(
    language: str,
    weeks: list[job.Outcome],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump(config(folder, 3, "out3")), encoding="utf-8")
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    assert cli.main(["run", str(file)]) == 0
    row = weeks[2].result.diagnostics["decision"].iloc[0]
    assert f"b vs a: {say('decision_' + row.verdict, language)} {row.sentence}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("method.sequential.units=4000", "units"),
        ("method.sequential.spending=pocock", "spending"),
        ("method.sequential.kind=always_valid", "kind"),
        ("method.alpha=0.1", "alpha"),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_changed_plan_is_refused_and_nothing_is_written(
    setting: str, field: str, language: str, weeks: list[job.Outcome], folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump(config(folder, 3, "refused")), encoding="utf-8")
    assert cli.main(["run", str(file), "--set", setting]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert field in told and ("plan" in told) == (language == "en")
    assert not (folder / "refused").exists()
    assert len(texts(folder)) == 3


def test_fewer_units_are_refused_and_nothing_is_written(weeks: list[job.Outcome], folder: Path) -> None:
    """Week 1 with another metric's role is another run, and no later look."""
    with pytest.raises(ConfigError) as caught:
        run(folder, 1, "refused", alternative="two-sided", srm_alpha=0.002)
    assert caught.value.key == "look_out_of_order"
    assert not (folder / "refused").exists()


def test_another_key_is_another_experiment(weeks: list[job.Outcome], folder: Path) -> None:
    other = run(folder, 1, "other", sequential={"key": "banner", "kind": "always_valid"})
    assert other.result is not None
    assert set(other.result.diagnostics["looks"]["look"]) == {1}
    assert len(texts(folder, "banner")) == 1 and len(texts(folder)) == 3


def test_solved_again_it_is_the_same_look_and_keeps_its_plan(weeks: list[job.Outcome], folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job.resolve(str(folder / "out3"), {"alpha": 0.1}, str(folder / "again"))
    assert caught.value.key == "plan_changed"
    assert not (folder / "again").exists()
    found = job.resolve(str(folder / "out3"), {"margin_alpha": 0.01}, str(folder / "again"), tracking=False)
    first = weeks[2].result
    assert found.result is not None and first is not None
    assert found.result.diagnostics["looks"]["bound"].tolist() == first.diagnostics["looks"]["bound"].tolist()
    assert (found.result.diagnostics["margins"]["level"] < first.diagnostics["margins"]["level"]).all()


def test_a_look_whose_logging_failed_is_logged_as_it_was(
    weeks: list[job.Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"sequential": {"key": "late"}}
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_fill", _broken)
        assert job.run(config(folder, 1, "late", **key), "experiment").tracking_error is not None
    assert texts(folder, "late") == []
    assert run(folder, 1, "late", **key).manifest["mlflow_run"]
    (kept,) = [json.loads(text) for text in texts(folder, "late")]
    assert kept["run_key"] == read_manifest(str(folder / "late"))["run_key"]
    assert kept["seen"][0]["n"] == SIZES[0]


def test_a_look_that_lost_its_plan_refuses_the_next(weeks: list[job.Outcome], folder: Path) -> None:
    run(folder, 1, "lost1", sequential={"key": "lost"})
    key = read_manifest(str(folder / "lost1"))["run_key"]
    for file in (folder / "store" / "mlartifacts").rglob("look.json"):
        if json.loads(file.read_text("utf-8"))["run_key"] == key:
            file.unlink()
    with pytest.raises(ConfigError) as caught:
        run(folder, 2, "lost2", sequential={"key": "lost"})
    assert caught.value.key == "plan_missing"
    assert not (folder / "lost2").exists()


def test_a_store_that_is_away_refuses_the_look(spark: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(folder, 1, "away")
    data["tracking"]["uri"] = "http://alice:hunter2@127.0.0.1:9/"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError) as caught:
        job.run(data, "experiment")
    assert caught.value.key == "looks_unreadable" and "hunter2" not in str(caught.value)
    assert not (folder / "away").exists()


def _broken(*given: Any) -> None:
    raise OSError("no room left")
