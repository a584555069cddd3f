"""One process of the matching benchmark: ``python -m benchmarks.matching_worker ORDER``; a line of JSON for a task."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.matching_peers import PEERS
from benchmarks.matching_table import COVARIATES

COSTLY = 20.0  # seconds; a task that takes longer is timed once
RUNS = 3
MEMORY = 0.8  # of the machine's, for a peer


@dataclass(frozen=True)
class Order:
    """What a process does: its system, the table and its rows, a small table to warm up on, tasks in order."""

    system: str
    rows: int
    table: str
    warm: str
    tasks: tuple[str, ...]


def main(text: str) -> int:
    order = Order(**json.loads(text))
    if order.system in PEERS:
        for task in order.tasks:
            _print(task, _peer(order, task))
        return 0
    from causal_spark.spark.session import open_engine

    began = time.perf_counter()
    with open_engine(order.system) as engine:
        session = round(time.perf_counter() - began, 2)
        for task in order.tasks:
            work = _job if task == "job" else _sweep
            found = _told(lambda work=work, task=task: _timed(order, lambda path: work(engine, path, task)))
            _print(task, {**found, "session_s": session})
    return 0


def _print(task: str, found: dict[str, Any]) -> None:
    print(json.dumps({"task": task, **found}), flush=True)


def _told(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except Exception as error:  # a task that fails is a note, and the next one's turn
        lines = str(error).splitlines() or [""]
        return {"note": f"failed: {type(error).__name__}: {lines[0][:160]}"}


def _peer(order: Order, task: str) -> dict[str, Any]:
    peer = PEERS[order.system]
    if peer.missing:
        return {"note": "not installed"}
    if order.system != "cross join":
        most = int(MEMORY * machine.memory())
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return _told(lambda: _timed(order, lambda path: (peer.work(path, task), math.nan)))


def _timed(order: Order, work: Callable[[Path], tuple[float, float]]) -> dict[str, Any]:
    """The best of the runs after one on the small table; peaks are those of the last run."""
    if order.warm:
        work(Path(order.warm))
    taken: list[float] = []
    while len(taken) < RUNS and sum(taken) < COSTLY:
        machine.reset_peaks(os.getpid())
        before, began = machine.cpu_seconds(os.getpid()), time.perf_counter()
        effect, error = work(Path(order.table))
        taken.append(time.perf_counter() - began)
        cpu = machine.cpu_seconds(os.getpid()) - before
    peak, python = machine.peaks(os.getpid())
    told = f"effect {effect:.12g}" + ("" if math.isnan(error) else f"; error {error:.6g}")
    return {"seconds": round(min(taken), 4), "median_s": round(median(taken), 4), "first_s": round(taken[0], 4),
            "repetitions": len(taken), "cpu_s": round(cpu, 2), "peak_mb": round(peak), "python_mb": round(python),
            "stages": told}  # fmt: skip


def _sweep(engine: Any, path: Path, task: str) -> tuple[float, float]:
    """One estimator on the given score, from the parquet files to the estimate and its standard error."""
    from causal_spark.methods.matching import matched, strata, weighted
    from causal_spark.methods.matching.prepare import Table
    from causal_spark.methods.matching.score import Score
    from causal_spark.methods.matching.vocabulary import Matching, Observational
    from causal_spark.spark import design

    table = engine.spark.read.parquet(str(path))
    treatment = "clumped" if task == "clumped" else "treated"
    frame = design.designed(table, "unit", (), {"t0": treatment, "y0": "y"}, ["score"], None, 1, "")
    frame = design.with_given_score(frame, "score")
    method = Observational(
        unit="unit", treatments=("t0",), outcomes=("y0",), covariates=("x0",), score="score", unit_weights=False,
        estimators=(task,) if task in ("grid", "ipw") else ("matching",),  # type: ignore[arg-type]
        matching=Matching(replace=task == "replace", order="largest" if task == "largest" else "closest"),
    )  # fmt: skip
    prepared = Table(frame, 0, (), (), {}, (0.0,))
    given, unbounded = Score(frame, None), (-math.inf, math.inf)
    if task == "grid":
        cells = design.overlap(frame, "t0", 1000)
        ends = min(cell["low"] for cell in cells), max(cell["high"] for cell in cells)
        effect = strata.estimate(method, prepared, "t0", given, unbounded, ends)[0].found.effect
        return float(effect.estimate[0]), float(effect.std_error[0])
    if task == "ipw":
        found = weighted.estimate(method, prepared, "t0", given, unbounded, _nothing, _nothing)[0]
        return float(found.effect[0]), float(found.std_error[0])
    placed = matched.place(method, prepared, "t0", given, unbounded, engine, np.zeros((0, 0)))
    effect = matched.match(method, placed, given, engine).effect
    return float(effect.estimate[0]), float(effect.std_error[0])


def _nothing(*given: object) -> None:
    """Tables and findings that are not wanted."""


def _job(engine: Any, path: Path, task: str) -> tuple[float, float]:
    """The whole job: gate, propensity of ten covariates, matching with replacement, balance, pairs, report."""
    from causal_spark import job

    output = path.parent / "runs" / str(os.getpid())
    shutil.rmtree(output, ignore_errors=True)
    config = {
        "job": "matching", "input": {"units": {"table": str(path)}},
        "method": {"unit": "unit", "treatments": ["treated"], "outcomes": ["y"],
                   "covariates": [f"x{i}" for i in range(COVARIATES)], "matching": {"replace": True}},
        "output": {"path": str(output)}, "tracking": {"enabled": False},
    }  # fmt: skip
    outcome = job._run(engine, job.validate(config, "matching"), job.silent)
    shutil.rmtree(output)
    assert outcome.result is not None
    rows = outcome.result.estimates
    row = rows[(rows["method"] == "matching") & (rows["term"] == "difference")].iloc[0]
    return float(row["estimate"]), float(row["std_error"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
