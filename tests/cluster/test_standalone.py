"""The experiment by spark-submit on a standalone cluster: a master and two workers as processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import launch
from tests.cluster.compare import manifest, same_tables
from tests.run import ROOT

Submit = Callable[..., launch.Done]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiment")


@pytest.fixture(scope="module")
def submit(cluster: launch.Cluster, shop: Path) -> Submit:
    """Submit the experiment on the shop's tables, with further ``--set`` texts."""

    def submitted(*sets: str) -> launch.Done:
        config = str(ROOT / "conf" / "experiment.yml")
        return cluster.submit(ROOT / "jobs" / "experiment.py", "--config", config, *settings(shop, *sets))

    return submitted


def settings(shop: Path, *sets: str) -> list[str]:
    given = (
        f"input.exposures.table={shop}/exposures",
        f"input.events.table={shop}/events",
        "tracking.enabled=false",
        *sets,
    )
    return [part for item in given for part in ("--set", item)]


def test_the_cluster_gives_the_numbers_of_one_machine(submit, cluster, java, folder, archive, shop):
    """Exit code 0; every table equals that of local Spark to 1e-9, and the work was done by both workers."""
    before = cluster.executors()
    done = submit(f"output.path={folder}/cluster")
    assert done.code == 0, done.err[-3000:]
    assert "revenue" in done.out
    assert len(cluster.executors() - before) == 2, "each worker ran an executor"

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

    assert manifest(folder / "cluster")["run_key"] == manifest(folder / "alone")["run_key"]
    assert manifest(folder / "cluster")["trusted"] is True
    same_tables(folder / "alone", folder / "cluster", 1e-9)


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
