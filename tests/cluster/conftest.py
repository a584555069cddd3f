"""What every cluster test needs: Java, a SPARK_HOME that may be written to, and a simulated shop."""

from __future__ import annotations

from pathlib import Path

import pytest

from causal_spark.simulate import shop_experiment, write
from tests.cluster import launch
from tests.run import NO_JAVA, find_java


@pytest.fixture(scope="session")
def java() -> Path:
    found = find_java()
    if found is None:
        pytest.skip(NO_JAVA)
    return found


@pytest.fixture(scope="session")
def home(java: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launch.spark_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the exposures and events of 50,000 units."""
    return write(shop_experiment(50_000), tmp_path_factory.mktemp("shop"))
