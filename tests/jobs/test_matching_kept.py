"""What a matching run leaves behind: manifest, repeats, repair after a kill, catalog tables, MLflow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from causal_spark import cli, job, outputs, storage
from causal_spark.errors import ConfigError
from causal_spark.methods import matching
from causal_spark.methods.matching import run as matching_run
from tests.matching_runs import LALONDE, LARGEST, config, only_on_sail, pairs_of, row


def test_the_manifest_names_what_is_there(several) -> None:
    outcome, out = several
    manifest = json.loads((out / "manifest.json").read_text())
    assert sorted(manifest["tables"]) == sorted(["estimates", *outcome.result.diagnostics])
    assert {"checks", "balance", "overlap", "propensity", "sizes", "sensitivity"} <= set(manifest["tables"])
    for name in manifest["tables"]:
        assert pq.read_table(out / name).num_rows > 0
    assert not (out / "_stage").exists()
    assert not (out / "_started.json").exists()
    assert manifest["method"]["spend"] == {"treat": 500.0, "mail": 100.0}
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_finished_run_is_left_as_it_is(spark, several, channels, monkeypatch) -> None:
    outcome, out = several
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    def forbidden(*arguments: Any) -> Any:
        raise AssertionError("the table was read again")

    monkeypatch.setattr(matching_run, "compress", forbidden)
    data = config(channels[1], out)
    data["method"] = {**outcome.manifest["method"]}
    assert job.run(data, "matching").repeated
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(ConfigError, match="Choose another output"):
        job.run({**data, "method": {**data["method"], "folds": 3}}, "matching")


def test_a_finished_run_is_solved_again_without_an_engine(several, tmp_path, monkeypatch) -> None:
    from causal_spark.spark import session

    def refuse(engine: str | None = None) -> Any:
        raise AssertionError("a session was asked for")

    monkeypatch.setattr(session, "open_engine", refuse)
    outcome, out = several
    again = job.resolve(str(out), {"alpha": 0.2, "spend": {"treat": 250.0}, "smd": 0.01}, str(tmp_path / "r"))
    assert again.result is not None
    keys = ["method", "contrast", "outcome", "term"]
    old, new = (x.result.estimates.set_index(keys) for x in (outcome, again))
    key = ("matching", "treat", "y", "difference")
    assert new.loc[key].estimate == old.loc[key].estimate
    assert new.loc[key].conf_high < old.loc[key].conf_high
    assert (new["conf_level"] == 0.8).all()
    wanted = 2 * old.loc[("matching", "treat", "y", "roi")].estimate + 1
    assert new.loc[("matching", "treat", "y", "roi")].estimate == pytest.approx(wanted, rel=1e-12)
    assert ("matching", "mail", "y", "roi") not in new.index
    assert again.result.diagnostics["checks"].query("code == 'BALANCE'")["verdict"].ne("pass").any()
    with pytest.raises(ConfigError, match="estimators"):
        job.resolve(str(out), {"estimators": ["ipw"]}, str(tmp_path / "r2"))


def test_a_run_solved_again_by_other_code_is_another(several, monkeypatch) -> None:
    out = str(several[1])
    first, repeated = (job.resolve(out, {"alpha": 0.15}, None) for _ in range(2))
    assert (first.repeated, repeated.repeated) == (False, True)
    monkeypatch.setattr(job, "code_version", lambda: "of another day")
    newer = job.resolve(out, {"alpha": 0.15}, None)
    assert not newer.repeated
    assert newer.manifest["path"] != first.manifest["path"]


def test_the_command_says_where_a_run_solved_again_is(several, monkeypatch, capsys) -> None:
    """In the language of that run, and again where it is there already."""
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", "zh")
    out, before = several[1], set(several[1].parent.iterdir())
    for _ in range(2):
        assert cli.main(["resolve", str(out), "--set", "method.alpha=0.3"]) == 0
        told = capsys.readouterr().out
        assert "roi" in told and "Report" in told
        (folder,) = set(out.parent.iterdir()) - before
        assert f"{folder}/report.html" in told


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("method=3", "method: "),
        ("output=x", "output: "),
        ("output.path=[a]", "output.path: "),
        ("output.format=delta", "Did you mean: path"),
        ("output.table=main.a.b", "Did you mean: path"),
        ("input=3", "Did you mean: method, output"),
    ],
)
def test_the_command_refuses_what_solving_again_cannot_do(several, monkeypatch, capsys, change, named) -> None:
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", "zh")
    before = set(several[1].parent.iterdir())
    assert cli.main(["resolve", str(several[1]), "--set", change]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert len(told.splitlines()) == 1
    assert set(several[1].parent.iterdir()) == before


def test_a_run_is_logged_with_its_effects(spark, lalonde_table, tmp_path, engine) -> None:
    from mlflow import MlflowClient

    only_on_sail(engine)
    data = config(lalonde_table, tmp_path / "out", outcomes=["re78"], covariates=LALONDE, estimators=["ipw"])
    data["tracking"] = {"experiment": "matching-logged"}
    outcome = job.run(data, "matching")
    assert outcome.tracking_error is None
    run = MlflowClient().get_run(outcome.manifest["mlflow_run"])
    found = row(outcome.result, "ipw")
    assert any(value == pytest.approx(found.estimate, rel=1e-12) for value in run.data.metrics.values())
    assert run.data.params["estimators"] == '["ipw"]'


SCRIPT = """
import os, signal, sys
from causal_spark import cli, outputs

def finish(self, manifest, keep_stage):
    os.kill(os.getpid(), signal.SIGKILL)

outputs.RunFolder.finish = finish
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_run_killed_before_its_manifest_is_repaired(spark, on_lalonde, lalonde_table, tmp_path, engine) -> None:
    """SIGKILL when tables, pairs and weights are there and the manifest is not; the next run leaves what one leaves."""
    only_on_sail(engine)
    asked = {"outcomes": ["re78"], "covariates": LALONDE, "matching": {**LARGEST, "caliper": 0.2}}
    data = config(lalonde_table, tmp_path / "out", **asked)
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, "run", str(file), "--engine", "sail"],
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    out = tmp_path / "out"
    assert {"pairs", "weights", "estimates", "_started.json"} <= {path.name for path in out.iterdir()}
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        outputs.read_manifest(str(out))
    job.run(data, "matching")
    _, clean = on_lalonde(matching={**LARGEST, "caliper": 0.2})
    names = {path.relative_to(clean) for path in clean.rglob("*") if path.suffix in (".html", ".json")}
    assert names == {path.relative_to(out) for path in out.rglob("*") if path.suffix in (".html", ".json")}
    assert {path.name for path in clean.iterdir()} == {path.name for path in out.iterdir()}
    for name in outputs.read_manifest(str(clean))["tables"]:
        pd.testing.assert_frame_equal(storage.read_frame(str(out / name)), storage.read_frame(str(clean / name)))
    assert pairs_of(out) == pairs_of(clean)


def test_results_as_catalog_tables(spark, lalonde_table, tmp_path, monkeypatch) -> None:
    """Small tables in the catalog, pairs and weights in the scratch folder; the second run is none."""
    monkeypatch.chdir(tmp_path)  # the embedded engine keeps its warehouse where it stands
    name = f"matching_{tmp_path.name.replace('-', '_')}".lower()
    data = config(lalonde_table, tmp_path, outcomes=["re78"], covariates=["age", "educ"])
    data["output"] = {"table": name, "scratch": str(tmp_path / "scratch")}
    outcome = job.run(data, "matching")
    stored = spark.table(name).toPandas()
    assert len(stored) == len(outcome.result.estimates)
    assert spark.table(f"{name}_balance").count() == len(outcome.result.diagnostics["balance"])
    folders = sorted(path.name.split("_")[-1] for path in (tmp_path / "scratch").iterdir())
    assert folders == ["pairs", "weights"]
    pairs = pq.read_table(next((tmp_path / "scratch").glob("*_pairs"))).num_rows
    assert pairs == row(outcome.result, "matching").n
    assert job.run(data, "matching").repeated


def test_a_catalog_run_without_a_folder_for_pairs_is_told_so(spark, lalonde_table, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = config(lalonde_table, tmp_path, outcomes=["re78"], covariates=["age", "educ"])
    data["output"] = {"table": "matching_without_scratch"}
    with pytest.raises(ConfigError, match=r"output\.scratch"):
        job.run(data, "matching")
    assert not spark.catalog.tableExists("matching_without_scratch")


def test_a_catalog_run_that_fails_leaves_nothing_in_the_scratch_folder(
    spark, lalonde_table, tmp_path, monkeypatch, engine
) -> None:
    """Pairs and weights are written before the rest; they go when the rest fails."""
    only_on_sail(engine)
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def fail(*arguments: Any) -> Any:
        seen.extend(sorted(path.name.split("_")[-1] for path in (tmp_path / "scratch").iterdir()))
        raise RuntimeError("failed")

    monkeypatch.setattr(matching, "solve", fail)
    data = config(lalonde_table, tmp_path, outcomes=["re78"], covariates=["age", "educ"])
    data["output"] = {"table": "matching_failed", "scratch": str(tmp_path / "scratch")}
    with pytest.raises(RuntimeError, match="failed"):
        job.run(data, "matching")
    assert {"pairs", "weights"} <= set(seen)
    assert list((tmp_path / "scratch").iterdir()) == []
