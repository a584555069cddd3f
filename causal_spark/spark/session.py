"""The one place that makes, finds and stops a session."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from causal_spark.errors import ConfigError, Phrase, RunError

try:
    from py4j.protocol import Py4JError
except ImportError:  # a client of Spark Connect has no py4j
    Py4JError = PySparkException

# What an engine raises: classic Spark gives only some errors of the JVM a class of its own.
ENGINE_ERRORS: tuple[type[Exception], ...] = (PySparkException, Py4JError)
JAVA_VERSIONS = (17, 21, 25)
CONNECT_MODE = "SPARK_CONNECT_MODE_ENABLED"

# Set where the session is ours to launch; elsewhere the cluster's owner decides.
LAUNCH = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.runSQLOnFiles": "false",
    "spark.sql.restrictedMode.enabled": "true",
    "spark.sql.shuffle.partitions": "8",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "4g",
}
# Set at run time on every session that lets us.
RUNTIME = {"spark.sql.session.timeZone": "UTC", "spark.sql.runSQLOnFiles": "false"}


@dataclass(frozen=True)
class Engine:
    """A session, the ``name`` of what runs it (sail, spark, connect, databricks) and its version."""

    spark: SparkSession
    name: str
    version: str

    @property
    def local_files(self) -> bool:
        """Whether a path without a scheme means a file of this machine."""
        return self.name == "sail" or (self.name == "spark" and _is_local_master(self.spark))


@contextmanager
def open_engine(engine: str | None = None) -> Iterator[Engine]:
    """An active session, else a submitted or configured one, else embedded Sail, else local Spark.

    ``engine`` forces ``sail`` or ``spark``. Only a session that was started here is stopped.
    Raises ConfigError if nothing can run, naming both remedies.
    """
    found = None if engine == "sail" else _existing()
    if found is not None:
        _prepare(found.spark)
        yield found
        return
    started, stop = _start(engine)
    try:
        _prepare(started.spark)
        yield started
    finally:
        stop()


@contextmanager
def engine_errors() -> Iterator[None]:
    """An error of the engine as one sentence; the whole of it stays its cause."""
    try:
        yield
    except ENGINE_ERRORS as error:
        raise RunError("engine_failed", reason=told(error, 400)) from error


def told(error: Exception, most: int) -> str:
    """What an error of the engine says, in one line of at most so many characters."""
    return re.sub(r"^An error occurred while calling \S+ : ", "", " ".join(str(error).split()))[:most]


def on_databricks() -> bool:
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def _existing() -> Engine | None:
    """The session that is already there, or that the environment describes."""
    described = ("SPARK_REMOTE", "PYSPARK_GATEWAY_PORT", "DATABRICKS_RUNTIME_VERSION")
    active = SparkSession.getActiveSession()
    if active is None and not any(os.environ.get(name) for name in described):
        return None
    spark = active if active is not None else SparkSession.builder.getOrCreate()
    if on_databricks():
        name = "databricks"
    else:
        name = "connect" if type(spark).__module__.startswith("pyspark.sql.connect") else "spark"
    return Engine(spark, name, spark.version)


def _start(engine: str | None) -> tuple[Engine, Any]:
    if engine not in (None, "sail", "spark"):
        raise ConfigError("bad_choice", where="--engine", got=repr(engine), choices="spark, sail")
    reason: Phrase | str = Phrase("reason_no_pysail")
    if engine != "spark" and importlib.util.find_spec("pysail") is not None:
        try:
            return _sail()
        except Exception as error:
            # The embedded engine refuses versions of pyspark that it does not know; local Spark may still run.
            reason = " ".join(str(error).split())[:200]
    if engine == "sail":
        raise ConfigError("no_sail", reason=reason)
    java = find_java(os.environ)
    if java is None:
        raise ConfigError("no_engine", reason=reason, versions=", ".join(map(str, JAVA_VERSIONS)))
    return _local_spark(java)


def _sail() -> tuple[Engine, Any]:
    from pysail.spark import SparkConnectServer

    os.environ.setdefault("RUST_LOG", "error")
    before = os.environ.get(CONNECT_MODE)
    server = SparkConnectServer(port=0)
    server.start(background=True)
    _, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://localhost:{port}").create()
    version = importlib.import_module("pysail").__version__

    def stop() -> None:
        spark.stop()
        server.stop()
        # pyspark sets this when a remote session is made; left there, no local session could start any more.
        if before is None:
            os.environ.pop(CONNECT_MODE, None)

    return Engine(spark, "sail", version), stop


def _local_spark(java: Path) -> tuple[Engine, Any]:
    os.environ["JAVA_HOME"] = str(java)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Python workers of a local session run in this very environment, not in the first python3 on PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master("local[*]").appName("causal_spark")
    for key, value in LAUNCH.items():
        builder = builder.config(key, value)
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise RunError("spark_start_failed", reason=" ".join(str(error).split())[:300]) from error
    return Engine(spark, "spark", spark.version), spark.stop


def _prepare(spark: SparkSession) -> None:
    """Harden what can be hardened at run time; serverless refuses most settings, and that is no error."""
    for key, value in RUNTIME.items():
        with suppress(Exception):
            spark.conf.set(key, value)


def _is_local_master(spark: SparkSession) -> bool:
    with suppress(Exception):
        return str(spark.conf.get("spark.master", "")).startswith("local")
    return False


def find_java(environ: Mapping[str, str]) -> Path | None:
    """Home of a Java that Spark 4 runs on (17, 21 or 25): JAVA_HOME, then PATH, then /usr/lib/jvm."""
    homes = [Path(environ["JAVA_HOME"])] if environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    if on_path:
        homes.append(Path(on_path).resolve().parent.parent)
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    return next((home for home in homes if _java_version(home) in JAVA_VERSIONS), None)


def _java_version(home: Path) -> int | None:
    try:
        # The path is a Java home found above, called with a fixed argument.
        run = subprocess.run([str(home / "bin" / "java"), "-version"], capture_output=True, text=True, timeout=20)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    _, _, rest = run.stderr.partition('version "')
    digits = rest.split(".")[0].split('"')[0].split("-")[0]
    return int(digits) if digits.isdigit() else None
