"""An executor lost in the middle of the write of the unit table loses no unit, doubles none and changes no number."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from causal_spark import outputs, storage
from causal_spark.spark import units
from tests.cluster import launch
from tests.run import ROOT

N = 50_000


@pytest.fixture(scope="module")
def done(home: Path, java: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, launch.Done]:
    """The folder with both runs, and what the driver said."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("finding an executor's process needs /proc")
    folder = tmp_path_factory.mktemp("kill")
    quiet = folder / "conf"
    quiet.mkdir()
    paths = os.pathsep.join([str(launch.package(folder)), str(ROOT)])
    env = launch.environment(home, java, folder, quiet) | {"PYTHONPATH": paths}
    script = Path(__file__).with_name("killed_run.py")
    told = launch.run([sys.executable, str(script), str(shop), str(folder)], env, folder, timeout=280)
    assert told.code == 0, told.err[-4000:]
    return folder, told


def test_an_executor_was_killed(done, home):
    """The process is gone, the driver has noticed, and a third executor took its place."""
    folder, told = done
    pid = int((folder / "killed").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert "Lost executor" in told.err
    executors = [path for path in (home / "work").glob("app-*/*") if path.name.isdigit()]
    assert len(executors) >= 3


def staged(folder: Path, run: str) -> pa.Table:
    table = pq.read_table(folder / run / outputs.STAGE / "units")
    return table.sort_by([(units.UNIT, "ascending")])


def test_no_unit_is_lost_or_doubled(done, shop):
    folder, _ = done
    exposed = np.sort(pq.read_table(shop / "exposures")["user_id"].to_numpy())
    for run in ("calm", "struck"):
        found = staged(folder, run)[units.UNIT].to_numpy()
        assert len(found) == N
        assert np.array_equal(found, exposed)


def test_the_unit_table_is_the_same_to_the_bit(done):
    """Every column of it: what is summed before a shuffle is an integer."""
    folder, _ = done
    calm, struck = staged(folder, "calm"), staged(folder, "struck")
    assert struck.schema.names == calm.schema.names
    assert not [field.name for field in struck.schema if pa.types.is_floating(field.type)]
    for name in calm.schema.names:
        assert calm[name].combine_chunks().equals(struck[name].combine_chunks()), name
    assert pc.sum(calm[units.EVENTS]).as_py() > N


def test_the_estimates_are_the_same(done):
    folder, _ = done
    manifests = {run: outputs.read_manifest(str(folder / run)) for run in ("calm", "struck")}
    assert manifests["calm"]["run_key"] == manifests["struck"]["run_key"]
    for table in manifests["calm"]["tables"]:
        frames = [storage.read_frame(str(folder / run / table)) for run in ("calm", "struck")]
        pd.testing.assert_frame_equal(*frames, rtol=1e-12, atol=1e-15)
