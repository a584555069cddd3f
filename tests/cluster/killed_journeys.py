"""The attribution job twice on two executors: undisturbed, and with one executor killed in the journey shuffle.

``python killed_journeys.py TABLES FOLDER``. Writes ``FOLDER/calm``, ``FOLDER/struck`` and the process id of the
executor that was killed into ``FOLDER/killed``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from causal_spark import job
from causal_spark.methods.attribution import events
from causal_spark.spark import journeys
from tests.cluster.killed_run import session

STRUCK = 4  # of the remainders of the hash by 8: not the first bucket to be done


def configuration(tables: str, out: Path) -> dict[str, Any]:
    return {
        "job": "attribution",
        "input": {name: {"table": f"{tables}/{name}"} for name in ("touches", "conversions")},
        "method": {
            "person": "user_id", "time": "ts", "channel": "channel", "value": "revenue", "event_id": "event_id",
            "models": ["first", "linear", "time_decay", "markov_1", "markov_2", "shapley", "additive_hazard"],
            "segments": ["region"], "replicates": 10, "touch_credit": True,
        },
        "output": {"path": str(out)},
        "tracking": {"enabled": False},
    }  # fmt: skip


def strike(flag: str, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``work``, but the first bucket of one remainder takes its executor with it."""

    def struck(columns: Any) -> Any:
        if len(columns["p1"]) and int(np.mod(columns["p1"][0], 8)) == STRUCK:
            try:
                handle = os.open(flag, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                return work(columns)
            pid = os.getppid()
            while b"CoarseGrainedExecutorBackend" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            os.write(handle, str(pid).encode())
            os.close(handle)
            os.kill(pid, signal.SIGKILL)
            time.sleep(60)  # this worker goes with its executor
        return work(columns)

    return struck


def main(tables: str, folder: Path) -> None:
    spark = session()
    journeys.BUCKET_ROWS = 2_000  # many buckets of few rows
    job.run(configuration(tables, folder / "calm"), "attribution")
    real = events.sweep

    def sweep(rows: Any, columns: Any, work: Any, total: int) -> Any:
        return real(rows, columns, strike(str(folder / "killed"), work), total)

    events.sweep = sweep
    job.run(configuration(tables, folder / "struck"), "attribution")
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
