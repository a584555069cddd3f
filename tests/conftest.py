"""One session for each run: ``pytest --engine sail`` (the default), ``--engine spark`` or ``--engine connect``.

Every run has its own scratch folder for the warehouse and the MLflow store; nothing is written into the checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.run import NO_JAVA, ROOT, find_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENGINES = ("sail", "spark", "connect")
SCRATCH = Path(tempfile.mkdtemp(prefix="causal_spark_tests_"))
RUNTIME = {"spark.sql.session.timeZone": "UTC", "spark.sql.shuffle.partitions": "2"}
LAUNCH = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.default.parallelism": "2",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.extraJavaOptions": (
        f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Duser.timezone=UTC -Dderby.system.home={SCRATCH}"
    ),
    "spark.sql.warehouse.dir": str(SCRATCH / "warehouse"),
    "spark.local.dir": str(SCRATCH / "local"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=ENGINES, default="sail", help="the engine of the fixture `spark`")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before anything imports pyspark or mlflow, for this process and those it starts."""
    engine = config.getoption("--engine")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["SPARK_CONF_DIR"] = str(ROOT / "conf")
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{SCRATCH / 'mlflow.db'}"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    for name in ("SPARK_REMOTE", "SPARK_MASTER", "MLFLOW_EXPERIMENT_NAME", "DATABRICKS_RUNTIME_VERSION"):
        os.environ.pop(name, None)
    if engine == "connect":
        os.environ["SPARK_TESTING"] = "1"  # an ephemeral port for the server that pyspark starts


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the two Spark legs: not what asks for no session, nor what ``engines`` leaves to others. Sail runs all."""
    engine = config.getoption("--engine")
    if engine == "sail":
        return
    kept, left = [], []
    for item in items:
        mark = item.get_closest_marker("engines")
        wanted = "spark" in getattr(item, "fixturenames", ()) and (mark is None or engine in mark.args)
        (kept if wanted else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> str:
    return f"engine: {config.getoption('--engine')}"


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of this run: ``sail``, ``spark`` or ``connect``."""
    return str(request.config.getoption("--engine"))


@pytest.fixture(scope="session")
def spark(engine: str) -> Iterator[SparkSession]:
    """The one session of this run, on the engine asked for; stopped at the end."""
    yield from _sail() if engine == "sail" else _spark(engine)


def _sail() -> Iterator[SparkSession]:
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer(port=0)
    server.start(background=True)
    _, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://localhost:{port}").getOrCreate()
    for key, value in RUNTIME.items():
        session.conf.set(key, value)
    yield session
    session.stop()
    server.stop()


def _spark(engine: str) -> Iterator[SparkSession]:
    from pyspark.sql import SparkSession

    java = find_java()
    if java is None:
        pytest.skip(NO_JAVA)
    os.environ["JAVA_HOME"] = str(java)
    if engine == "connect":
        # The server's settings go this way: those of the builder are set on the session too, which refuses them.
        os.environ["PYSPARK_REMOTE_INIT_CONF_LEN"] = "1"
        os.environ["PYSPARK_REMOTE_INIT_CONF_0"] = json.dumps(LAUNCH)
        builder, settings = SparkSession.builder.remote("local[2]"), RUNTIME
    else:
        builder, settings = SparkSession.builder.master("local[2]").appName("tests"), RUNTIME | LAUNCH
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
