"""Secrets of addresses, of the environment and of the session are in nothing that a run writes, prints or raises."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from causal_spark import cli, job
from causal_spark.errors import CausalSparkError
from tests.jobs.hostile import config_for, put, saved, units, write

# What is tested is the driver's: on the embedded engine alone.
once = pytest.mark.engines("sail")

SECRETS = {
    "user of the tracking address": "s3cr3t-alpha-01",
    "key of the tracking address": "s3cr3t-bravo-02",
    "tracking password": "s3cr3t-charlie-03",
    "tracking token": "s3cr3t-delta-04",
    "cloud key": "s3cr3t-echo-05",
    "workspace token": "s3cr3t-foxtrot-06",
    "key of the file system": "s3cr3t-golf-07",
    "password in the session": "s3cr3t-hotel-08",
    "address of a table": "s3cr3t-india-09",
    "address of an output": "s3cr3t-juliet-10",
}
ENVIRONMENT = {
    "MLFLOW_TRACKING_PASSWORD": "tracking password",
    "MLFLOW_TRACKING_TOKEN": "tracking token",
    "AWS_SECRET_ACCESS_KEY": "cloud key",
    "DATABRICKS_TOKEN": "workspace token",
}
SESSION = {
    "spark.hadoop.fs.s3a.secret.key": "key of the file system",
    "spark.causal.test.password": "password in the session",
}
ADDRESS = (
    f"http://analyst:{SECRETS['user of the tracking address']}@127.0.0.1:9/"
    f"?token={SECRETS['key of the tracking address']}"
)


@pytest.fixture
def planted(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets in the environment and in the session."""
    for name, secret in ENVIRONMENT.items():
        monkeypatch.setenv(name, SECRETS[secret])
    for name, secret in SESSION.items():
        spark.conf.set(name, SECRETS[secret])
    yield
    for name in SESSION:
        spark.conf.unset(name)


def assert_no_secret(*texts: str | bytes) -> None:
    for text in texts:
        content = text if isinstance(text, bytes) else text.encode()
        found = [name for name, secret in SECRETS.items() if secret.encode() in content]
        assert not found, (found, content[:400])


def assert_no_secret_below(folder: Path, *besides: Path) -> int:
    """How many files were looked at."""
    files = [path for path in folder.rglob("*") if path.is_file() and path not in besides]
    for path in files:
        assert_no_secret(path.read_bytes())
    return len(files)


def test_no_secret_in_a_run_that_is_tracked(spark, planted, tmp_path, capsys):
    """Through to MLflow's store, its artifacts, the report, the manifest and the statistics."""
    write(units(), tmp_path / "units")
    config = config_for(tmp_path)
    config["tracking"] = {"experiment": "no-secret"}
    assert cli.main(["run", saved(config, tmp_path)]) == 0
    told = capsys.readouterr()
    assert_no_secret(told.out, told.err)
    assert assert_no_secret_below(tmp_path) > 8
    store = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    assert_no_secret(*(path.read_bytes() for path in store.parent.glob("mlflow.db*")))
    assert assert_no_secret_below(store.parent / "mlartifacts" / "no-secret") > 5


@once
def test_no_secret_when_the_tracking_store_is_away(spark, planted, tmp_path, capsys):
    write(units(), tmp_path / "units")
    config = config_for(tmp_path)
    config["tracking"] = {"uri": ADDRESS, "experiment": "checkout"}
    file = saved(config, tmp_path)
    assert cli.main(["run", file]) == 1
    told = capsys.readouterr()
    assert "MLflow" in told.err
    assert "127.0.0.1:9" in told.err
    assert_no_secret(told.out, told.err)
    assert assert_no_secret_below(tmp_path, Path(file)) > 8


@once
@pytest.mark.parametrize("told_by", ["configuration", "environment"])
def test_no_secret_in_the_closing_lines(told_by, spark, planted, tmp_path, capsys, monkeypatch):
    """The line that says how to open the MLflow run."""
    from causal_spark.report import tracking

    monkeypatch.setattr(tracking, "log_run", lambda *a, **k: "0123456789abcdef")
    write(units(), tmp_path / "units")
    config = config_for(tmp_path)
    config["tracking"] = {"uri": ADDRESS} if told_by == "configuration" else {}
    if told_by == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    file = saved(config, tmp_path)
    assert cli.main(["run", file]) == 0
    told = capsys.readouterr()
    assert "0123456789abcdef" in told.out
    assert_no_secret(told.out, told.err)
    assert_no_secret_below(tmp_path, Path(file))


TABLE, OUTPUT = SECRETS["address of a table"], SECRETS["address of an output"]
ADDRESSES = {
    "table with user": ("input.units.table", f"s3a://AKIA:{TABLE}@bucket/units"),
    "table with account": ("input.units.table", f"abfss://container:{TABLE}@account.dfs.core.windows.net/units"),
    "table with query": ("input.units.table", f"s3://bucket/units?secret_key={TABLE}"),
    "table by JDBC": ("input.units.table", f"jdbc:mysql://root:{TABLE}@127.0.0.1/db"),
    "table by JDBC with a key": ("input.units.table", f"jdbc:postgresql://127.0.0.1/db?user=a&password={TABLE}"),
    "output with user": ("output.path", f"s3a://AKIA:{OUTPUT}@bucket/out"),
    "scratch with user": ("output.scratch", f"hdfs://AKIA:{OUTPUT}@host/out"),
    "tracking is a text": ("tracking", f"http://root:{TABLE}@127.0.0.1:9"),
    "tracking is a list": ("tracking.uri", [f"http://root:{TABLE}@127.0.0.1:9"]),
    "unknown key": ("tracking.password", TABLE),
}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ADDRESSES)
def test_no_secret_in_a_refusal(name, language, tmp_path, capsys, monkeypatch):
    """On the command line, and with all of its causes, as a notebook shows it."""
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    place, value = ADDRESSES[name]
    config = put(config_for(tmp_path), place, value)
    assert cli.main(["run", saved(config, tmp_path)]) == 2
    told = capsys.readouterr()
    assert_no_secret(told.out, told.err)
    with pytest.raises(CausalSparkError) as caught:
        job.run(config, "experiment")
    assert_no_secret("".join(traceback.format_exception(caught.value)), repr(caught.value), str(caught.value.values))


def test_no_secret_in_a_configuration_that_cannot_be_read(tmp_path, capsys):
    file = tmp_path / "config.yml"
    for text in (
        f'tracking: {{uri: "http://root:{TABLE}@h", token: {OUTPUT}\n',
        f"tracking:\n  password: {TABLE}: x\n",
    ):
        file.write_text(text, encoding="utf-8")
        assert cli.main(["run", str(file)]) == 2
        told = capsys.readouterr().err
        assert "line" in told
        assert_no_secret(told)


@once
def test_no_secret_in_what_nobody_foresaw(spark, planted, tmp_path, capsys, monkeypatch):
    def broken(*arguments: Any) -> None:
        raise RuntimeError(f"cannot reach {ADDRESS}")

    monkeypatch.setattr(job, "run", broken)
    assert cli.main(["run", saved(config_for(tmp_path), tmp_path)]) == 1
    told = capsys.readouterr()
    assert "RuntimeError" in told.err
    assert_no_secret(told.out, told.err)
