"""The attribution job on a cluster: an executor lost in the journey shuffle changes nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from causal_spark import storage
from causal_spark.simulate_journeys import journeys, write
from tests.cluster import launch
from tests.run import ROOT

KEYS = ["person", "time", "channel", "conversion_time", "model"]


def test_an_executor_lost_in_the_journey_shuffle_changes_nothing(home, java, tmp_path):
    """The process is gone and the driver noticed; statistics, tables and the credit of each touch are identical."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("finding an executor's process needs /proc")
    tables = write(journeys(8_000, 3), tmp_path / "tables")
    quiet = tmp_path / "conf"
    quiet.mkdir()
    paths = os.pathsep.join([str(launch.package(tmp_path)), str(ROOT)])
    env = launch.environment(home, java, tmp_path, quiet) | {"PYTHONPATH": paths}
    script = Path(__file__).with_name("killed_journeys.py")
    told = launch.run([sys.executable, str(script), str(tables), str(tmp_path)], env, tmp_path, timeout=280)
    assert told.code == 0, told.err[-4000:]
    assert not Path(f"/proc/{(tmp_path / 'killed').read_text()}").exists()
    assert "Lost executor" in told.err
    calm, struck = tmp_path / "calm", tmp_path / "struck"
    found = [json.loads((run / "statistics.json").read_text(encoding="utf-8")) for run in (calm, struck)]
    assert found[0]["cells"] == found[1]["cells"] and found[0]["paths"] == found[1]["paths"]
    for table in json.loads((calm / "manifest.json").read_text(encoding="utf-8"))["tables"]:
        pd.testing.assert_frame_equal(*(storage.read_frame(str(run / table)) for run in (calm, struck)))
    touches = [pq.read_table(run / "touch_credit").to_pandas().sort_values(KEYS, ignore_index=True)
               for run in (calm, struck)]  # fmt: skip
    assert len(touches[0]) > 0
    pd.testing.assert_frame_equal(*touches)
