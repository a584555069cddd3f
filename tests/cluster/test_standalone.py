"""The experiment by spark-submit on a standalone cluster: a master and two workers as processes of their own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from causal_spark import storage
from tests.cluster import launch
from tests.run import ROOT

Submit = Callable[..., launch.Done]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("standalone")


@pytest.fixture(scope="module")
def archive(folder: Path) -> Path:
    return launch.package(folder)


@pytest.fixture(scope="module")
def submit(home: Path, java: Path, folder: Path, archive: Path, shop: Path) -> Iterator[Submit]:
    """Submit the experiment on the shop's tables, with further ``--set`` texts."""
    daemons = folder / "conf"
    daemons.mkdir()
    driver = launch.environment(home, java, folder, ROOT / "conf")
    with launch.standalone(home, launch.environment(home, java, folder, daemons), folder, workers=2) as master:

        def submitted(*sets: str) -> launch.Done:
            command = [
                str(home / "bin" / "spark-submit"), "--master", master, "--driver-memory", "640m",
                "--conf", "spark.executor.memory=512m", "--conf", "spark.sql.shuffle.partitions=2",
                "--conf", "spark.driver.bindAddress=127.0.0.1", "--conf", "spark.driver.host=127.0.0.1",
                "--conf", "spark.ui.enabled=false", "--py-files", str(archive),
                str(ROOT / "jobs" / "experiment.py"), "--config", str(ROOT / "conf" / "experiment.yml"),
            ]  # fmt: skip
            return launch.run([*command, *settings(shop, *sets)], driver, folder, timeout=240)

        yield submitted


def settings(shop: Path, *sets: str) -> list[str]:
    given = (
        f"input.exposures.table={shop}/exposures",
        f"input.events.table={shop}/events",
        "tracking.enabled=false",
        *sets,
    )
    return [part for item in given for part in ("--set", item)]


def test_the_cluster_gives_the_numbers_of_one_machine(submit, java, folder, archive, shop):
    """Exit code 0; every table equals that of local Spark to 1e-9, and the work was done by both workers."""
    done = submit(f"output.path={folder}/cluster")
    assert done.code == 0, done.err[-3000:]
    assert "revenue" in done.out
    made = [name for i in range(2) for name in os.listdir(folder / f"work{i}") if name.startswith("app-")]
    assert len(made) == 2, "each worker ran an executor"

    local = [
        sys.executable,
        "-m",
        "causal_spark.cli",
        "run",
        str(ROOT / "conf" / "experiment.yml"),
        "--engine",
        "spark",
    ]
    env = {**os.environ, "JAVA_HOME": str(java), "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": str(archive)}
    alone = launch.run([*local, *settings(shop, f"output.path={folder}/alone")], env, folder, timeout=240)
    assert alone.code == 0, alone.err[-3000:]

    manifests = {}
    for name in ("cluster", "alone"):
        manifests[name] = json.loads((folder / name / "manifest.json").read_text(encoding="utf-8"))
    assert manifests["cluster"]["run_key"] == manifests["alone"]["run_key"]
    assert manifests["cluster"]["tables"] == manifests["alone"]["tables"]
    assert manifests["cluster"]["trusted"] is True
    for table in manifests["alone"]["tables"]:
        frames = [storage.read_frame(str(folder / name / table)) for name in ("cluster", "alone")]
        pd.testing.assert_frame_equal(*frames, rtol=1e-9, atol=1e-12)


def test_a_wrong_configuration_is_exit_2(submit, folder):
    done = submit(f"output.path={folder}/wrong", "method.alfa=0.1")
    assert done.code == 2, done.err[-3000:]
    assert "Did you mean: alpha" in done.out + done.err  # spark-submit sends both of Python's streams to one
    assert not (folder / "wrong").exists()


def test_a_refusal_of_the_gate_is_exit_3(submit, folder):
    done = submit(f"output.path={folder}/refused", "method.as_of=2026-01-10")
    assert done.code == 3, done.err[-3000:]
    assert "FUTURE_TS" in done.out + done.err
    assert not (folder / "refused").exists()
