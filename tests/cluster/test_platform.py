"""Experiments with every extra, a design and a portfolio on a standalone cluster, in one submission."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causal_spark.simulate_journeys import write_table
from causal_spark.simulate_portfolio import past
from tests.cluster import launch, platform_run
from tests.cluster.compare import same_rows, same_tables

N = 20_000
WANTED = {
    "extras": {"estimates", "quantiles", "bayes"}, "predicted": {"estimates"}, "shops": {"estimates", "quantiles"},
    "design": {"sizes", "aa", "assigned", "covariates"}, "portfolio": {"actions", "totals"},
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Units in four files, and the effects of sixty experiments."""
    folder, rng = tmp_path_factory.mktemp("platform"), np.random.default_rng(9)
    before, age = rng.gamma(1.5, 4, N), rng.integers(18, 70, N)
    arm, shop = rng.integers(0, 2, N), rng.integers(0, 300, N)
    revenue = np.round(before * rng.lognormal(0, 0.6, N) + 0.05 * age + 0.4 * arm + rng.normal(0, 1, 300)[shop] ** 2, 2)
    views = rng.poisson(6, N) + 1
    labels = np.array(["control", "treatment"])
    units = pa.table({
        "unit": np.arange(N), "arm": labels[arm], "shop": [f"s{i}" for i in shop], "shop_arm": labels[shop % 2],
        "country": np.array(["DE", "FR", "US"])[rng.integers(0, 3, N)], "before": before, "age": age,
        "revenue": revenue, "views": views, "clicks": rng.binomial(views, 0.2 + 0.02 * arm),
    })  # fmt: skip
    write_table(units, folder / "units", 4)
    year = past()
    write_table(year.estimates, folder / "estimates", 3)
    write_table(year.reach, folder / "reach", 1)
    return folder


def test_the_cluster_gives_the_numbers_of_one_machine(cluster, archive, tables, tmp_path):
    """Every table equals that of the embedded engine to 1e-9, every unit has the same arm, both workers took part."""
    script, before = Path(platform_run.__file__), cluster.executors()
    done = cluster.submit(script, str(tables), str(tmp_path / "cluster"))
    assert done.code == 0, done.err[-3000:]
    assert len(cluster.executors() - before) == 2, "each worker ran an executor"
    alone = [sys.executable, str(script), str(tables), str(tmp_path / "alone"), "sail"]
    found = launch.run(alone, {**os.environ, "PYTHONPATH": str(archive)}, tmp_path, timeout=240)
    assert found.code == 0, found.err[-3000:]
    for name, wanted in WANTED.items():
        names = same_tables(tmp_path / "cluster" / name, tmp_path / "alone" / name, 1e-9)
        assert wanted <= set(names)
    same_rows(tmp_path / "cluster" / "design", tmp_path / "alone" / "design", "assignment", ["unit"], 0)
    assert pq.read_table(tmp_path / "alone" / "design" / "assignment").num_rows == N
