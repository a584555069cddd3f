"""The experiment twice on two executors: undisturbed, and with one executor killed while the unit table is written.

``python killed_run.py SHOP FOLDER``. Writes ``FOLDER/calm``, ``FOLDER/struck`` and the process id of the executor that
was killed into ``FOLDER/killed``. Product code is as it is: the staging write is wrapped from here.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession

from causal_spark import job
from causal_spark.methods.experiment import run
from causal_spark.spark.session import Engine
from tests.run import ROOT

PARTITIONS, STRUCK = 6, 4  # when task 4 runs on one of two cores, earlier tasks of its stage have finished


def session() -> SparkSession:
    """Two executors of one core. Defaults, but joins shuffle as they do on large tables, and no adaptive plans."""
    settings = {
        "spark.executor.memory": "512m",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.autoBroadcastJoinThreshold": "-1",
        "spark.sql.shuffle.partitions": str(PARTITIONS),
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "768m",
    }
    builder = SparkSession.builder.master("local-cluster[2,1,600]").appName("executor kill")
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def configuration(shop: str, out: Path) -> dict[str, Any]:
    from causal_spark.config import load

    data = load(ROOT / "conf" / "experiment.yml")
    data["input"] = {role: {"table": f"{shop}/{role}"} for role in ("exposures", "events")}
    return {**data, "output": {"path": str(out), "keep_units": True}, "tracking": {"enabled": False}}


def strike(flag: str, partition: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Rows as they come; the first time that ``partition`` is computed, its executor dies with half of them sent."""

    def passed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        for batch in batches:
            if context is not None and context.partitionId() == partition:
                try:
                    handle = os.open(flag, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                except FileExistsError:
                    yield batch
                    continue
                yield batch.slice(0, batch.num_rows // 2)
                pid = os.getppid()
                while b"CoarseGrainedExecutorBackend" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                os.write(handle, str(pid).encode())
                os.close(handle)
                os.kill(pid, signal.SIGKILL)
                time.sleep(60)  # this worker goes with its executor
            yield batch

    return passed


def main(shop: str, folder: Path) -> None:
    spark = session()
    job.run(configuration(shop, folder / "calm"), "experiment")
    real = run.stage

    def stage(engine: Engine, frame: DataFrame, where: str) -> DataFrame:
        return real(engine, frame.mapInArrow(strike(str(folder / "killed"), STRUCK), frame.schema), where)

    run.stage = stage
    job.run(configuration(shop, folder / "struck"), "experiment")
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
