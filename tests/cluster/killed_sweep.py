"""The matching job twice on two executors: undisturbed, and with one executor killed in the middle of a sweep.

``python killed_sweep.py UNITS FOLDER KIND``, where KIND is ``replace`` or ``closest``. Writes ``FOLDER/calm``,
``FOLDER/struck`` and the process id of the executor that was killed into ``FOLDER/killed``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from causal_spark import job
from causal_spark.methods.matching import matched
from causal_spark.spark import neighbours, sweeps
from tests.cluster.killed_run import session

LAST = 0.5  # a block whose points lie above this is not the first to be done


def configuration(units: str, out: Path, kind: str) -> dict[str, Any]:
    return {
        "job": "matching",
        "input": {"units": {"table": units}},
        "method": {
            "unit": "unit", "treatments": ["treated"], "outcomes": ["y"], "covariates": ["x0", "x1", "x2"],
            "estimators": ["matching", "ipw"], "matching": {"replace": kind == "replace", "ratio": 2},
        },
        "output": {"path": str(out)},
        "tracking": {"enabled": False},
    }  # fmt: skip


def strike(flag: str, work: Any) -> Any:
    """``work``, but the first block of high points takes its executor with it."""

    def struck(block: Any) -> Any:
        points = block[neighbours.POINT]
        if len(points) and points.max() > LAST:
            try:
                handle = os.open(flag, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                return work(block)
            pid = os.getppid()
            while b"CoarseGrainedExecutorBackend" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            os.write(handle, str(pid).encode())
            os.close(handle)
            os.kill(pid, signal.SIGKILL)
            time.sleep(60)  # this worker goes with its executor
        return work(block)

    return struck


def main(units: str, folder: Path, kind: str) -> None:
    spark = session()
    neighbours.ROWS = 4_000  # many blocks of few rows
    for plan in (neighbours.with_guests, neighbours.at_gaps):
        plan.__defaults__ = (*plan.__defaults__[:-1], 4_000)  # type: ignore[attr-defined]
    job.run(configuration(units, folder / "calm", kind), "matching")

    def striking(real: Any) -> Any:
        def sweep(frame: Any, plan: Any, columns: Any, engine: Any, work: Any, *more: Any) -> Any:
            return real(frame, plan, columns, engine, strike(str(folder / "killed"), work), *more)

        return sweep

    for name in ("sweep", "sweep_with_rows"):
        setattr(matched.sweeps, name, striking(getattr(sweeps, name)))
    job.run(configuration(units, folder / "struck", kind), "matching")
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
