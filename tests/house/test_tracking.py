"""MLflow: one run for one job, whoever comes first; no secrets; no long waits."""

from __future__ import annotations

import json
import math
import os
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from causal_spark.errors import RunError
from causal_spark.report import store, tracking
from causal_spark.results import Estimate, Result, estimates_frame


def small_result() -> Result:
    """Two metrics, one with its unadjusted twin, one that could not be estimated."""
    numbers = {"estimate": 0.1, "std_error": 0.02, "p_value": 1e-6, "conf_low": 0.06, "conf_high": 0.14, "n": 100.0}
    rows = [
        Estimate(method, "ATE", "revenue/usd", segment, "b vs a", term, note="", **numbers)
        for segment in ("all", "country=DE")
        for term in ("difference", "lift")
        for method in ("cuped", "welch")
    ]
    rows.append(Estimate("z", "ATE", "收入", "all", "b vs a", "difference", estimate=math.inf, p_value=0.5))
    return Result(estimates_frame(rows))


def logged(uri: str, run_key: str, **change: Any) -> str:
    """Log the small result."""
    given: dict[str, Any] = {
        "tracking": {"uri": uri, "experiment": "结账/test", "run_name": "night"},
        "params": {"alpha": 0.05, "metrics": [{"name": "x"}], "long": "y" * 9000} | {f"p{i}": i for i in range(120)},
        "tags": {"run_key": run_key, "engine": "sail"},
        "artifacts": {"report.html": "<p>é</p>", "statistics.json": b"{}", "figures/effects.svg": "<svg/>"},
        "dataset": {"name": "units", "source": "s3://me:hunter2@bucket/units", "digest": "d" * 50, "rows": 7},
    }
    return tracking.log_run(small_result(), **{**given, **change})


def work(uri: str, run_key: str, start: Barrier, end: Connection) -> None:
    """Log a run in a process of its own, at the same time as the others."""
    start.wait(timeout=240)
    end.send(logged(uri, run_key))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DATABRICKS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A fresh store that four processes use for the first time at once; two of them have the same run key."""
    folder = tmp_path_factory.mktemp("tracking")
    uri = f"sqlite:///{folder / 'deep' / 'runs.db'}"
    processes = get_context("forkserver")  # its server imports mlflow, which takes seconds, once for all of them
    processes.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", __name__])
    start, ends = processes.Barrier(4), [processes.Pipe(duplex=False) for _ in range(4)]
    workers = [
        processes.Process(target=work, args=(uri, key, start, end))
        for key, (_, end) in zip(("k1", "k2", "k3", "k3"), ends, strict=True)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=240)
    assert [worker.exitcode for worker in workers] == [0] * 4
    return folder / "deep" / "runs.db", [mine.recv() for mine, _ in ends]


def test_four_processes_make_one_store_and_three_runs(shared: tuple[Path, list[str]]) -> None:
    database, runs = shared
    assert len(set(runs)) == 3 and runs[2] == runs[3]
    assert sorted(path.name for path in database.parent.iterdir()) == ["mlartifacts", "runs.db", "runs.db.lock"]


def test_a_run_holds_all_and_is_logged_once(shared: tuple[Path, list[str]]) -> None:
    from mlflow import MlflowClient

    database, runs = shared
    uri = f"sqlite:///{database}"
    assert logged(uri, "k1") == runs[0]
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(runs[0])
    assert run.info.status == "FINISHED" and run.info.run_name == "night"
    assert run.data.tags["causal_spark.run_key"] == "k1" and run.data.tags["causal_spark.engine"] == "sail"
    assert len(run.data.params) == 123 and len(run.data.params["long"]) == 6000
    assert run.data.metrics == tracking.metric_values(small_result())
    assert {item.path for item in client.list_artifacts(runs[0])} == {"report.html", "statistics.json", "figures"}
    place = database.parent / "mlartifacts"
    assert [path.read_text("utf-8") for path in place.glob(f"*/{runs[0]}/artifacts/report.html")] == ["<p>é</p>"]
    (data,) = [entry.dataset for entry in run.inputs.dataset_inputs]
    assert (data.name, data.digest, json.loads(data.profile)) == ("units", "d" * 36, {"rows": 7})
    assert "hunter2" not in data.source and b"hunter2" not in database.read_bytes()
    assert not list(database.parent.rglob("*.pkl"))
    assert len(client.search_runs([run.info.experiment_id])) == 3


def test_a_failed_run_is_not_taken_for_the_real_one(shared: tuple[Path, list[str]]) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{shared[0]}"
    with pytest.raises(RunError) as caught:
        logged(uri, "k4", dataset={"name": "units", "source": "x", "digest": "d", "rows": {1, ("a", "b")}, (1, 2): 3})
    assert caught.value.key == "tracking_failed"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_run(shared[1][0]).info.experiment_id
    failed = client.search_runs([experiment], "tags.`causal_spark.run_key` = 'k4'")
    assert [run.info.status for run in failed] == ["FAILED"]
    assert logged(uri, "k4") != failed[0].info.run_id


def test_an_unreachable_server_is_told_soon_and_without_its_password() -> None:
    start = time.monotonic()
    with pytest.raises(RunError) as caught:
        logged("http://alice:hunter2@127.0.0.1:9/?token=s3cret", "k")
    assert time.monotonic() - start < 30
    for text in (str(caught.value), caught.value.text("zh"), repr(caught.value.values)):
        assert "127.0.0.1:9" in text
        assert not any(secret in text for secret in ("hunter2", "alice", "s3cret"))
    assert caught.value.__suppress_context__
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


@pytest.mark.parametrize(
    "name", ["../x.csv", "/etc/x.csv", "a/b/c.csv", "x.pkl", "x", "x\n.csv", "c:x.csv", "a\\b.csv"]
)
def test_artifact_names_are_plain(name: str) -> None:
    with pytest.raises(ValueError, match="plain artifact name"):
        logged("sqlite:///never.db", "k", artifacts={name: ""})


def test_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    here = tmp_path.resolve().as_posix()
    assert store.absolute_uri("sqlite:///a/../m.db") == f"sqlite:///{here}/m.db"
    assert store.absolute_uri("sqlite:///m.db?mode=rwc") == f"sqlite:///{here}/m.db?mode=rwc"
    assert store.absolute_uri("sqlite:////srv/m.db") == "sqlite:////srv/m.db"
    for same in ("http://host:5000", "databricks", "sqlite:///:memory:", "postgresql://u@h/db"):
        assert store.absolute_uri(same) == same
    assert tracking._tracking_uri("") == f"sqlite:///{here}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert tracking._tracking_uri("") == "http://elsewhere"
    assert tracking._tracking_uri("http://mine") == "http://mine"
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    assert tracking._tracking_uri("sqlite:///m.db") == ""


class Client:
    """Remembers which experiment was asked for."""

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        return f"{name} at {artifact_location}"


def test_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "file:///srv/mlartifacts/"
    assert tracking._experiment_id(Client(), "sqlite:////srv/m.db", "a/../b") == f"a/../b at {place}a_.._b"
    assert tracking._experiment_id(Client(), "http://host", "") == "causal_spark at None"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-env")
    assert tracking._experiment_id(Client(), "http://host", "") == "from-env at None"
    assert tracking._experiment_id(Client(), "http://host", "mine") == "mine at None"


@pytest.mark.parametrize(
    "text",
    [
        "http://u:SECRET@h/x", "https://SECRET@h", "postgresql+psycopg://u:SE/CRET@h/db",
        "http://h/?access_token=SECRET&a=1",
        "jdbc:x;user=a;password=SECRET;b=1", "Authorization: Bearer SECRET", "https://h/c?sv=1&sig=SECRET",
        "api_key=SECRET", "AWS_SECRET_ACCESS_KEY=SECRET", "client-secret=SECRET",
    ],
)  # fmt: skip
def test_secrets_are_scrubbed(text: str) -> None:
    assert "SECRET" not in store.scrub(text).replace("AWS_SECRET_ACCESS_KEY", "").replace("client-secret", "")
    assert "CRET@" not in store.scrub(text)


def test_metric_names() -> None:
    found = tracking.metric_values(small_result())
    base = "revenue_usd/b vs a"
    assert {name.rsplit("/", 1)[0] for name in found} == {
        base, f"{base}/lift", f"{base}/welch", f"{base}/lift/welch", "收入/b vs a"
    }  # fmt: skip
    assert "收入/b vs a/estimate" not in found and found["收入/b vs a/p_value"] == 0.5
    assert all(math.isfinite(value) for value in found.values())


def test_names_that_collide_stay_apart() -> None:
    assert list(tracking.unique([("a", 1), ("A", 2), ("a", 3)])) == ["a", "A_2", "a_3"]
    long = list(tracking.unique([("x" * 300, 1), ("x" * 300, 2)]))
    assert len(set(long)) == 2 and max(map(len, long)) <= 250
    assert tracking.safe_name("../../etc/<b>") == "_.._etc_b_"
    assert tracking.safe_name("...") == "_"
