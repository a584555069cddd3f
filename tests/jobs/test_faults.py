"""Runs that are repeated, killed, cut off or refused: never half a result, and the next run puts it right."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from causal_spark import cli, job, outputs, storage
from causal_spark.errors import ConfigError, GateError, RunError
from causal_spark.methods.experiment import run as experiment_run

N = 300
DAY = 86_400_000_000
START = 1_767_571_200_000_000  # 2026-01-05 00:00 UTC in microseconds
TIME = pa.timestamp("us", tz="UTC")
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there

Config = dict[str, Any]
# What is tested is the driver's: on the embedded engine alone.
once = pytest.mark.engines("sail")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exposures and events of a small experiment, which no test changes."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(21)
    shown = [START + i * 60_000_000 for i in range(N)]
    unit = np.repeat(np.arange(N), 3)
    day = rng.integers(0, 6, 3 * N)
    tables = {
        "exposures": {
            "user_id": [f"u{i}" for i in range(N)],
            "variant": [("control", "treatment")[i % 2] for i in range(N)],
            "ts": pa.array(shown, TIME),
            "country": [("DE", "FR")[i // 2 % 2] for i in range(N)],
        },
        "events": {
            "user_id": [f"u{i}" for i in unit],
            "ts": pa.array([shown[i] + int(d) * DAY + 1 for i, d in zip(unit, day, strict=True)], TIME),
            "amount": rng.gamma(8.0, 2.0, 3 * N).round(2).tolist(),
        },
    }
    for name, columns in tables.items():
        (folder / name).mkdir()
        pq.write_table(pa.table(columns), folder / name / "part-0.parquet")
    return folder


def config_of(data: Path, out: Path) -> Config:
    """An experiment on them, whose unit table is staged."""
    return {
        "job": "experiment",
        "input": {name: {"table": str(data / name)} for name in ("exposures", "events")},
        "method": {
            "unit": "user_id",
            "arm": "variant",
            "control": "control",
            "time": "ts",
            "metrics": [
                {"name": "revenue", "kind": "revenue", "value": "amount"},
                {"name": "orders", "kind": "count", "value": "*"},
            ],
            "segments": ["country"],
            "min_segment": 20,
        },
        "output": {"path": str(out)},
        "tracking": {"enabled": False},
    }


@pytest.fixture
def events_config(data: Path, tmp_path: Path) -> Config:
    return config_of(data, tmp_path / "out")


@pytest.fixture
def own_config(data: Path, tmp_path: Path) -> Config:
    """The same on a copy of the tables that the test may change."""
    shutil.copytree(data, tmp_path / "data")
    return config_of(tmp_path / "data", tmp_path / "out")


def saved(config: Config, folder: Path) -> str:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below ``folder`` with the digest of its bytes and the time of its last change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    manifest = outputs.read_manifest(str(folder))
    return {name: storage.read_frame(str(folder / name)) for name in manifest["tables"]}


def assert_equal_runs(left: Path, right: Path) -> None:
    """The same files and tables; numbers to 1e-12, everything else exactly. Nothing is left of a fault."""
    assert names(left) == names(right)
    assert not any("_started" in name or "_stage" in name or ".tmp" in name for name in names(left))
    first, second = tables_of(left), tables_of(right)
    assert first.keys() == second.keys()
    for name, frame in first.items():
        pd.testing.assert_frame_equal(frame, second[name], rtol=1e-12, atol=0)
    ours, theirs = (json.loads((path / "statistics.json").read_text(encoding="utf-8")) for path in (left, right))
    assert [cell["n"] for cell in ours["moments"]["cells"]] == [cell["n"] for cell in theirs["moments"]["cells"]]
    kept = ("run_key", "fingerprint", "trusted", "notes", "method", "tables", "rows", "units")
    manifests = [outputs.read_manifest(str(path)) for path in (left, right)]
    assert [manifests[0][name] for name in kept] == [manifests[1][name] for name in kept]


@pytest.fixture(scope="module")
def clean(spark: Any, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run without any fault."""
    folder = tmp_path_factory.mktemp("clean") / "out"
    job.run(config_of(data, folder), "experiment")
    return folder


# --- once more -------------------------------------------------------------------------------------------------


def runs_in_store(experiment: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


@once
def test_a_finished_run_is_left_as_it_is(spark, events_config, tmp_path, capsys, monkeypatch):
    """Once more the same: no scan, no byte and no time of a file changed, one MLflow run, and it says so."""
    events_config["tracking"] = {"experiment": "fault-repeat"}
    file = saved(events_config, tmp_path)
    assert cli.main(["run", file]) == 0
    before, out = state(tmp_path / "out"), capsys.readouterr().out
    assert len(runs_in_store("fault-repeat")) == 1
    monkeypatch.setattr(experiment_run, "compress", forbidden)
    assert cli.main(["run", file]) == 0
    assert state(tmp_path / "out") == before
    assert len(runs_in_store("fault-repeat")) == 1
    again = capsys.readouterr().out
    assert "already there" in again
    first, second = ([line for line in text.splitlines() if "revenue" in line] for text in (out, again))
    assert first == second


def forbidden(*arguments: Any, **named: Any) -> Any:
    raise AssertionError("the table was read again")


@once
def test_changed_input_is_another_run(spark, own_config, tmp_path):
    """The same configuration on a table with one more file does not pass for the old result."""
    job.run(own_config, "experiment")
    before = state(tmp_path / "out")
    part = tmp_path / "data" / "exposures" / "part-0.parquet"
    pq.write_table(pq.read_table(part).slice(0, 1), part.with_name("part-1.parquet"))
    with pytest.raises(ConfigError, match="Choose another output"):
        job.run(own_config, "experiment")
    assert state(tmp_path / "out") == before


# --- killed ----------------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
from causal_spark import cli, outputs

def finish(self, manifest, keep_stage):
    os.kill(os.getpid(), signal.SIGKILL)

outputs.RunFolder.finish = finish
sys.exit(cli.main(sys.argv[1:]))
"""


@once
def test_a_run_killed_before_its_manifest_is_repaired(spark, engine, events_config, clean, tmp_path):
    """SIGKILL to the driver when the tables are there and the manifest is not."""
    local = "sail" if importlib.util.find_spec("pysail") else "spark"
    file = saved(events_config, tmp_path)
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, "run", file, "--engine", local], capture_output=True, timeout=300, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    out = tmp_path / "out"
    assert {"report.html", "statistics.json", "_started.json", "estimates/part-00000.parquet"} <= names(out)
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        outputs.read_manifest(str(out))
    job.run(events_config, "experiment")
    assert_equal_runs(out, clean)


def break_at(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver dies at ``place``: nothing more is done, not even tidying up."""
    monkeypatch.setattr(outputs.RunFolder, "abandon", lambda self: None)
    owner, name, count = {
        "the claim": (outputs.RunFolder, "begin", 1),
        "the staged table": (experiment_run, "stage", 1),
        "the first table": (storage, "write_frame", 1),
        "the fourth table": (storage, "write_frame", 4),
        "the report": (storage, "write_text", 3),
        "the manifest": (storage, "write_text", 4),
        "the end": (storage, "delete_file", 1),
    }[place]
    real, calls = getattr(owner, name), []

    def broken(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == count and place in ("the claim", "the staged table"):
            real(*arguments, **named)
        if len(calls) >= count:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, broken)


@pytest.mark.parametrize(
    "place",
    [
        "the staged table",
        "the manifest",
        *(pytest.param(place, marks=once)
          for place in ("the claim", "the first table", "the fourth table", "the report", "the end")),
    ],
)  # fmt: skip
def test_a_run_that_dies_anywhere_is_repaired(place, spark, events_config, clean, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        break_at(place, patch)
        with pytest.raises(KeyboardInterrupt):
            job.run(events_config, "experiment")
    out = tmp_path / "out"
    assert names(out), "the fault came too early to leave anything"
    finished = (out / "manifest.json").exists()
    assert finished == (place == "the end")
    job.run(events_config, "experiment")
    if finished:
        (out / "_started.json").unlink()  # harmless beside a manifest
    assert_equal_runs(out, clean)


@once
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RunError("write_failed", path="x", reason="full")])
def test_a_run_that_fails_tidies_up(error, spark, events_config, tmp_path, capsys, monkeypatch):
    """An interrupt, a lack of memory, a full disk: an exit code, a message, and no folder."""

    def broken(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(outputs.RunFolder, "finish", broken)
    assert cli.main(["run", saved(events_config, tmp_path)]) == (130 if error is KeyboardInterrupt else 1)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert job.run(events_config, "experiment").result is not None


class Reader(threading.Thread):
    """Looks for results all the time; what a manifest promises must be there, and no table may be torn."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.stop = folder, threading.Event()
        self.looks, self.complete, self.bad = 0, 0, []

    def run(self) -> None:
        while not self.stop.is_set():
            self.looks += 1
            try:
                for folder in self.folder.glob("out*"):
                    self.look(folder)
            except Exception as error:
                self.bad.append(f"{type(error).__name__}: {error}")
            time.sleep(0.002)

    def look(self, folder: Path) -> None:
        if not (folder / "manifest.json").exists():
            return
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name in manifest["tables"]:
            assert len(pq.read_table(folder / name)) > 0
        assert (folder / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
        json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
        self.complete += 1


@once
def test_a_reader_never_sees_half_a_result(spark, events_config, tmp_path):
    """While runs are made, die before their end, are repaired and repeated."""
    reader = Reader(tmp_path)
    reader.start()
    try:
        for place in ("the fourth table", "the report", "the manifest"):
            config = {**events_config, "output": {"path": str(tmp_path / f"out-{place}")}}
            with pytest.MonkeyPatch.context() as patch:
                break_at(place, patch)
                with pytest.raises(KeyboardInterrupt):
                    job.run(config, "experiment")
            job.run(config, "experiment")
            job.run(config, "experiment")
    finally:
        reader.stop.set()
        reader.join(30)
    assert reader.bad == []
    assert reader.complete > 10
    assert reader.looks > reader.complete / 3


# --- cut off ---------------------------------------------------------------------------------------------------


@once
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_store_that_is_away_costs_no_result(language, spark, events_config, tmp_path, capsys, monkeypatch):
    """Exit 1 and a clear message; tables and report are there. With a store again: logged, and no second scan."""
    experiment = f"fault-away-{language}"
    events_config["tracking"] = {"uri": NOWHERE, "experiment": experiment}
    events_config["report"] = {"language": language}
    file = saved(events_config, tmp_path)
    start = time.monotonic()
    assert cli.main(["run", file]) == 1
    assert time.monotonic() - start < 90
    told = capsys.readouterr()
    message = told.err.strip().splitlines()[-1]
    assert NOWHERE in message
    assert "tracking.uri" in message
    assert ("已" in message or "结果" in message) == (language == "zh")
    assert "Traceback" not in told.err
    assert "revenue" in told.out
    out = tmp_path / "out"
    assert {"report.html", "statistics.json", "manifest.json", "estimates/part-00000.parquet"} <= names(out)
    assert outputs.read_manifest(str(out))["mlflow_run"] is None
    before = {name: value for name, value in state(out).items() if not name.endswith("manifest.json")}

    monkeypatch.setattr(experiment_run, "compress", forbidden)
    reached = [f"tracking.uri={os.environ['MLFLOW_TRACKING_URI']}"]
    assert cli.main(["run", file, "--set", *reached]) == 0
    logged = runs_in_store(experiment)
    assert [run.info.status for run in logged] == ["FINISHED"]
    assert outputs.read_manifest(str(out))["mlflow_run"] == logged[0].info.run_id
    assert {name: value for name, value in state(out).items() if not name.endswith("manifest.json")} == before
    estimates = storage.read_frame(str(out / "estimates")).query("segment == 'all' and term == 'difference'")
    for row in estimates.to_dict("records"):
        kept = logged[0].data.metrics[f"{row['outcome']}/{row['contrast']}/estimate"]
        assert kept == pytest.approx(row["estimate"], rel=1e-12)

    assert cli.main(["run", file, "--set", *reached]) == 0
    assert len(runs_in_store(experiment)) == 1


@once
def test_an_unfinished_mlflow_run_is_not_taken_for_the_result(spark, events_config, tmp_path, monkeypatch):
    """The logging dies on its way: the run in the store is marked, and the next attempt makes a whole one."""
    from mlflow import MlflowClient

    events_config["tracking"] = {"experiment": "fault-halfway"}
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", forbidden)
        outcome = job.run(events_config, "experiment")
    assert outcome.tracking_error is not None
    assert [run.info.status for run in runs_in_store("fault-halfway")] == ["FAILED"]
    assert job.run(events_config, "experiment").tracking_error is None
    assert sorted(run.info.status for run in runs_in_store("fault-halfway")) == ["FAILED", "FINISHED"]


# --- refused ---------------------------------------------------------------------------------------------------


def late_refusal(config: Config, folder: Path) -> None:
    """Units in two arms: found only when the unit table has been staged."""
    part = folder / "data" / "exposures" / "part-0.parquet"
    table = pq.read_table(part)
    moved = table.set_column(1, "variant", pa.array(["treatment"] * len(table))).slice(0, 60)
    pq.write_table(moved, part.with_name("part-1.parquet"))


def early_refusal(config: Config, folder: Path) -> None:
    part = folder / "data" / "exposures" / "part-0.parquet"
    table = pq.read_table(part)
    pq.write_table(table.set_column(1, "variant", pa.array([None] * len(table), pa.string())), part)


def refusal_on_solving(config: Config, folder: Path) -> None:
    config["method"]["shares"] = {"control": 0.5, "treatment": 0.3, "never": 0.2}


@pytest.mark.parametrize("scratch", [False, pytest.param(True, marks=once)])
@pytest.mark.parametrize(
    "refuse",
    [late_refusal, pytest.param(early_refusal, marks=once), pytest.param(refusal_on_solving, marks=once)],
)
def test_a_refusal_leaves_no_folder(refuse: Callable[[Config, Path], None], scratch, spark, own_config, tmp_path):
    refuse(own_config, tmp_path)
    if scratch:
        own_config["output"]["scratch"] = str(tmp_path / "scratch")
    with pytest.raises(GateError):
        job.run(own_config, "experiment")
    assert not (tmp_path / "out").exists()
    assert names(tmp_path / "scratch") == set()


def test_scratch_is_used_and_left_clean(spark, events_config, clean, tmp_path, monkeypatch):
    events_config["output"]["scratch"] = str(tmp_path / "scratch")
    staged: list[str] = []
    real = experiment_run.stage

    def noted(engine: Any, frame: Any, folder: str) -> Any:
        staged.append(folder)
        return real(engine, frame, folder)

    monkeypatch.setattr(experiment_run, "stage", noted)
    job.run(events_config, "experiment")
    assert all(folder.startswith(str(tmp_path / "scratch")) for folder in staged)
    assert staged
    assert names(tmp_path / "scratch") == set()
    assert_equal_runs(tmp_path / "out", clean)


def test_kept_units_are_kept(spark, events_config, tmp_path):
    events_config["output"]["keep_units"] = True
    job.run(events_config, "experiment")
    assert len(pq.read_table(tmp_path / "out" / "_stage" / "units")) == N


@once
def test_an_output_that_cannot_be_written_is_named(spark, events_config, tmp_path, capsys):
    """The output lies below a file: exit 1 or 2, two lines, nothing left."""
    (tmp_path / "wall").write_text("a file", encoding="utf-8")
    events_config["output"]["path"] = str(tmp_path / "wall" / "out")
    assert cli.main(["run", saved(events_config, tmp_path)]) in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "wall" in line]
    assert 1 <= len(lines) <= 2
    assert (tmp_path / "wall").read_text(encoding="utf-8") == "a file"


# --- formats ---------------------------------------------------------------------------------------------------


@pytest.fixture
def delta(engine: str) -> Iterator[None]:
    if engine != "sail":
        pytest.skip("this Spark has no Delta jar; Sail reads and writes Delta by itself")
    yield


def test_a_folder_in_delta(delta, spark, events_config, clean, tmp_path, capsys):
    events_config["output"]["format"] = "delta"
    file = saved(events_config, tmp_path)
    assert cli.main(["run", file]) == 0
    out = tmp_path / "out"
    manifest = outputs.read_manifest(str(out))
    for name in manifest["tables"]:
        assert (out / name / "_delta_log").is_dir()
        found = spark.read.format("delta").load(f"file://{out / name}").toPandas()
        pd.testing.assert_frame_equal(found, storage.read_frame(str(clean / name)), rtol=1e-12, check_dtype=False)
    before = state(out)
    assert cli.main(["run", file]) == 0
    assert "already there" in capsys.readouterr().out
    assert state(out) == before


def test_a_table_in_delta(delta, spark, events_config, clean, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Sail keeps its tables below the current folder
    events_config["output"] = {"table": "faults_delta", "format": "delta", "scratch": str(tmp_path / "scratch")}
    assert job.run(events_config, "experiment").result is not None
    found = spark.table("faults_delta").toPandas()
    expected = storage.read_frame(str(clean / "estimates"))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12, check_dtype=False)
    assert job.run(events_config, "experiment").repeated
    assert names(tmp_path / "scratch") == set()
