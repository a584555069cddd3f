"""What every cluster test needs: Java, a SPARK_HOME that may be written to, a standalone cluster, a simulated shop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from causal_spark.simulate import shop_experiment, write
from tests.cluster import launch
from tests.run import NO_JAVA, ROOT, find_java


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
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launch.package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def cluster(
    home: Path, java: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[launch.Cluster]:
    """A master and two workers as processes of their own, for every test that submits."""
    folder = tmp_path_factory.mktemp("standalone")
    daemons = folder / "conf"
    daemons.mkdir()
    driver = launch.environment(home, java, folder, ROOT / "conf")
    with launch.standalone(home, launch.environment(home, java, folder, daemons), folder, workers=2) as master:
        yield launch.Cluster(home, folder, archive, master, driver)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the exposures and events of 50,000 units."""
    return write(shop_experiment(50_000), tmp_path_factory.mktemp("shop"))
