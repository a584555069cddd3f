"""The matching job on a cluster: the numbers and pairs of one machine, and of a run that loses an executor."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cluster import launch
from tests.cluster.compare import same_rows, same_tables
from tests.cluster.killed_sweep import configuration
from tests.run import ROOT

N = 40_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matching")


@pytest.fixture(scope="module")
def units(folder: Path) -> Path:
    """40,000 units whose treatment and outcome both follow three covariates; the effect is 1."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(N, 3))
    index = x @ [0.8, 0.5, 0.2]
    treated = (rng.random(N) < 1 / (1 + np.exp(1.2 - index))).astype(np.int32)
    table = pa.table({
        "unit": np.arange(N), "treated": treated, "y": treated + 2 * index + rng.normal(size=N),
        **{f"x{i}": x[:, i] for i in range(3)},
    })  # fmt: skip
    path = folder / "units"
    path.mkdir()
    for part in range(4):
        pq.write_table(table.slice(part * N // 4, N // 4), path / f"part-{part}.parquet")
    return path


def test_the_cluster_gives_the_numbers_of_one_machine(cluster, folder, archive, units):
    """By spark-submit with the archive alone on the executors: estimates to 1e-9, pairs and weights identical."""
    for name in ("cluster", "alone"):
        config = configuration(str(units), folder / name, "replace")
        (folder / f"{name}.yml").write_text(json.dumps(config), encoding="utf-8")
    done = cluster.submit(ROOT / "jobs" / "matching.py", "--config", str(folder / "cluster.yml"))
    assert done.code == 0, done.err[-3000:]
    local = [sys.executable, "-m", "causal_spark.cli", "run", str(folder / "alone.yml"), "--engine", "sail"]
    env = {**os.environ, "PYTHONPATH": str(archive)}
    alone = launch.run(local, env, folder, timeout=240)
    assert alone.code == 0, alone.err[-3000:]
    same(folder / "cluster", folder / "alone", 1e-9)


@pytest.mark.parametrize("kind", ["replace", "closest"])
def test_an_executor_lost_in_a_sweep_changes_nothing(kind, home, java, units, tmp_path):
    """The process is gone and the driver noticed; pairs and weights are identical, estimates equal to 1e-12."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("finding an executor's process needs /proc")
    quiet = tmp_path / "conf"
    quiet.mkdir()
    paths = os.pathsep.join([str(launch.package(tmp_path)), str(ROOT)])
    env = launch.environment(home, java, tmp_path, quiet) | {"PYTHONPATH": paths}
    script = Path(__file__).with_name("killed_sweep.py")
    told = launch.run([sys.executable, str(script), str(units), str(tmp_path), kind], env, tmp_path, timeout=280)
    assert told.code == 0, told.err[-4000:]
    assert not Path(f"/proc/{(tmp_path / 'killed').read_text()}").exists()
    assert "Lost executor" in told.err
    same(tmp_path / "calm", tmp_path / "struck", 1e-12)


def same(first: Path, second: Path, tolerance: float) -> None:
    same_tables(first, second, tolerance)
    for table, keys in (("pairs", ["treated_id", "control_id"]), ("weights", ["unit"])):
        same_rows(first, second, table, keys, 1e-12)  # distances of equal rows are the same bits
