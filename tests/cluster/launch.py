"""Start and stop the processes of a real Spark cluster on this machine, all in one folder given by the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.run import ROOT

PACKAGE = ROOT / "causal_spark"
ZIP = ROOT / "dist" / "causal_spark.zip"


@dataclass(frozen=True)
class Done:
    """A finished command: its exit code and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Cluster:
    """A standalone cluster and how to submit to it; ``folder`` holds the ``work0`` and ``work1`` of its workers."""

    home: Path
    folder: Path
    archive: Path
    master: str
    driver: Mapping[str, str]

    def submit(self, script: Path, *arguments: str) -> Done:
        """``spark-submit`` of a script with the package's archive alone on the executors."""
        command = [
            str(self.home / "bin" / "spark-submit"), "--master", self.master, "--driver-memory", "640m",
            "--conf", "spark.executor.memory=512m", "--conf", "spark.sql.shuffle.partitions=2",
            "--conf", "spark.driver.bindAddress=127.0.0.1", "--conf", "spark.driver.host=127.0.0.1",
            "--conf", "spark.ui.enabled=false", "--py-files", str(self.archive), str(script), *arguments,
        ]  # fmt: skip
        return run(command, self.driver, self.folder, timeout=480)

    def executors(self) -> set[Path]:
        """The folder that each worker has made for each application."""
        return {path for i in range(2) for path in (self.folder / f"work{i}").glob("app-*")}


def spark_home(folder: Path) -> Path:
    """A SPARK_HOME of links to the installed pyspark: Spark writes its ``work`` there, and not into the package."""
    import pyspark

    home = folder / "spark_home"
    home.mkdir()
    for item in Path(pyspark.__file__).parent.iterdir():
        if item.name != "work":
            (home / item.name).symlink_to(item)
    return home


def environment(home: Path, java: Path, folder: Path, conf: Path) -> dict[str, str]:
    """The variables of every process of the cluster; none of the test run's own settings of Spark."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_", "PYTHONPATH"))}
    local = folder / "local"
    local.mkdir(exist_ok=True)
    return kept | {
        "SPARK_HOME": str(home),
        "JAVA_HOME": str(java),
        "SPARK_CONF_DIR": str(conf),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(local),
        "SPARK_DAEMON_MEMORY": "256m",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def process(
    command: Sequence[str], env: Mapping[str, str], folder: Path, log: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own; the group ends with the block, whatever happened in it."""
    with (folder / log).open("wb") as sink:
        started = subprocess.Popen(
            command, cwd=folder, env=dict(env), stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield started
        finally:
            end_group(started)


def end_group(started: subprocess.Popen[bytes]) -> None:
    """Ask the process and its children to end, then make them."""
    for sign, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            started.wait(patience)


def run(command: Sequence[str], env: Mapping[str, str], folder: Path, timeout: float) -> Done:
    """A command to its end; past ``timeout`` seconds its whole group is ended and the test fails."""
    out, err = folder / "command.out", folder / "command.err"
    with out.open("wb") as sink, err.open("wb") as errors:
        started = subprocess.Popen(
            command, cwd=folder, env=dict(env), stdout=sink, stderr=errors, start_new_session=True
        )
        try:
            code = started.wait(timeout)
        finally:
            end_group(started)
    return Done(code, out.read_text(errors="replace"), err.read_text(errors="replace"))


@contextmanager
def standalone(home: Path, env: Mapping[str, str], folder: Path, workers: int) -> Iterator[str]:
    """A standalone master and its workers of one core each; yields the master's address when all have registered."""
    port, page = free_port(), free_port()
    launcher = str(home / "bin" / "spark-class")
    address = f"spark://127.0.0.1:{port}"
    deploy = "org.apache.spark.deploy"
    master = [
        launcher,
        f"{deploy}.master.Master",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--webui-port",
        str(page),
    ]
    with process(master, env, folder, "master.log"):
        wait_for(lambda: alive(page) >= 0, 60, folder / "master.log")
        with several(
            [
                [launcher, f"{deploy}.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "640m",
                 "--webui-port", "0", "-d", str(folder / f"work{i}"), address]
                for i in range(workers)
            ],
            env,
            folder,
        ):  # fmt: skip
            wait_for(lambda: alive(page) >= workers, 60, folder / "worker0.log")
            yield address


@contextmanager
def several(commands: Sequence[Sequence[str]], env: Mapping[str, str], folder: Path) -> Iterator[None]:
    if not commands:
        yield
        return
    with process(commands[0], env, folder, f"worker{len(commands) - 1}.log"), several(commands[1:], env, folder):
        yield


def alive(page: int) -> int:
    """How many workers the master's page counts; -1 while there is no page."""
    with suppress(OSError, ValueError), urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=5) as answer:
        return int(json.load(answer)["aliveworkers"])
    return -1


def wait_for(ready: object, seconds: float, log: Path) -> None:
    assert callable(ready)
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"not ready after {seconds} s; its log ends: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.3)


def package(folder: Path) -> Path:
    """The package as ``--py-files`` takes it: what ``make wheel`` made, if no file is newer, else a zip made here."""
    files = [p for p in sorted(PACKAGE.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    if ZIP.exists() and ZIP.stat().st_mtime >= max(p.stat().st_mtime for p in files):
        return ZIP
    made = folder / "causal_spark.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(ROOT))
    return made
