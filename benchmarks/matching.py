"""Measure the matching job: ``python -m benchmarks.matching``. One committed table beside the machine and versions.

Each line is a process of its own that does one thing to one table: grid matching and exact matching on a given score,
the whole job on ten covariates, and peers at the sizes they can hold. Best of the repetitions after one warm-up.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import machine

HERE = Path(__file__).parent
PART = 250_000
COVARIATES = 10
TREATED = 0.2
TASKS = ("grid", "replace", "closest", "largest", "clumped", "job")
PEERS = ("causalml", "dowhy", "psmpy", "cross-join")
COLUMNS = (
    "system",
    "task",
    "rows",
    "seconds",
    "rows_per_s_core",
    "peak_mb",
    "python_mb",
    "estimate",
    "std_error",
    "note",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all lines and write the table; with ``--one`` be the process of a line."""
    arguments = _arguments(argv)
    if arguments.one:
        print(json.dumps(_one(*arguments.one, arguments.folder, arguments.repetitions)))
        return 0
    rows = [_line(arguments, *line) for line in _lines(arguments)]
    with (HERE / "matching.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    versions = {name: importlib.metadata.version(name) for name in ("pyspark", "pysail", "numpy", "scipy", "pyarrow")}
    facts = {**machine.facts(), "packages": versions}
    (HERE / "matching.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0


def _lines(arguments: argparse.Namespace) -> list[tuple[str, str, int]]:
    lines = []
    for rows in arguments.sizes:
        _make(arguments.folder, rows)
        lines += [(system, task, rows) for system in ("sail", "spark") for task in arguments.tasks]
    for rows in arguments.peer_sizes:
        _make(arguments.folder, rows)
        lines += [("sail", "replace", rows), *((peer, "replace", rows) for peer in arguments.peers)]
    return lines


def _line(arguments: argparse.Namespace, system: str, task: str, rows: int) -> dict[str, Any]:
    """One process; its peak memory is that of all its children, the JVM among them."""
    command = [sys.executable, "-m", "benchmarks.matching", "--folder", str(arguments.folder),
               "--repetitions", str(arguments.repetitions), "--one", system, task, str(rows)]  # fmt: skip
    found: dict[str, Any] = {"system": system, "task": task, "rows": rows}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=arguments.patience)
        found |= json.loads(out.splitlines()[-1]) if process.returncode == 0 else {"note": errors.strip()[-200:]}
    except subprocess.TimeoutExpired:
        process.kill()
        found["note"] = f"did not finish within {arguments.patience} s"
    print({key: value for key, value in found.items() if value != ""}, file=sys.stderr, flush=True)
    return found


def _one(system: str, task: str, rows: str, folder: Path, repetitions: int) -> dict[str, Any]:
    path = _folder(folder, int(rows))
    if system not in ("sail", "spark"):
        return _timed(lambda: _peer(system, path), 1, int(rows))
    from causal_spark.spark.session import open_engine

    with open_engine(system) as engine:
        work = (lambda: _job(engine, path, folder)) if task == "job" else (lambda: _sweep(engine, path, task))
        return _timed(work, repetitions, int(rows))


def _timed(work: Callable[[], tuple[float, float]], repetitions: int, rows: int) -> dict[str, Any]:
    """The best of the repetitions; the first run of all is a warm-up if there are several."""
    taken = []
    for _ in range(repetitions + (repetitions > 1)):
        machine.reset_peaks(os.getpid())
        began = time.perf_counter()
        estimate, error = work()
        taken.append(time.perf_counter() - began)
    best = min(taken[1:] or taken)
    peak, python = machine.peaks(os.getpid())
    return {"seconds": round(best, 3), "rows_per_s_core": round(rows / best / machine.cores()), "peak_mb": round(peak),
            "python_mb": round(python), "estimate": estimate, "std_error": error}  # fmt: skip


def _sweep(engine: Any, path: Path, task: str) -> tuple[float, float]:
    """One estimator on the given score, from the parquet file to the estimate and its standard error."""
    from causal_spark.methods.matching import matched, strata
    from causal_spark.methods.matching.prepare import Table
    from causal_spark.methods.matching.score import Score
    from causal_spark.methods.matching.vocabulary import Matching, Observational
    from causal_spark.spark import design

    table = engine.spark.read.parquet(str(path))
    treatment = "clumped" if task == "clumped" else "treated"
    frame = design.designed(table, "unit", (), {"t0": treatment, "y0": "y"}, ["score"], None, 1, "")
    frame = design.with_given_score(frame, "score")
    replace = task == "replace"
    method = Observational(
        unit="unit", treatments=("t0",), outcomes=("y0",), covariates=("x0",), score="score",
        estimators=("grid",) if task == "grid" else ("matching",),
        matching=Matching(replace=replace, order="largest" if task == "largest" else "closest"),
    )  # fmt: skip
    prepared = Table(frame, 0, (), (), {}, (0.0,))
    given, unbounded = Score(frame, None), (-math.inf, math.inf)
    if task == "grid":
        cells = design.overlap(frame, "t0", 1000)
        ends = min(cell["low"] for cell in cells), max(cell["high"] for cell in cells)
        effect = strata.estimate(method, prepared, "t0", given, unbounded, ends)[0].found.effect
        return float(effect.estimate[0]), float(effect.std_error[0])
    placed = matched.place(method, prepared, "t0", given, unbounded, engine, np.zeros((0, 0)))
    found = matched.match(method, placed, given, engine).effect
    return float(found.estimate[0]), float(found.std_error[0])


def _job(engine: Any, path: Path, folder: Path) -> tuple[float, float]:
    """The whole job: gate, propensity of ten covariates, matching with replacement, balance, pairs, report."""
    import shutil

    from causal_spark import job

    output = folder / f"run-{os.getpid()}"
    shutil.rmtree(output, ignore_errors=True)
    config = {
        "job": "matching", "input": {"units": {"table": str(path)}},
        "method": {"unit": "unit", "treatments": ["treated"], "outcomes": ["y"],
                   "covariates": [f"x{i}" for i in range(COVARIATES)], "matching": {"replace": True}},
        "output": {"path": str(output)}, "tracking": {"enabled": False},
    }  # fmt: skip
    outcome = job._run(engine, job.validate(config, "matching"), lambda stage: None)
    shutil.rmtree(output)
    assert outcome.result is not None
    rows = outcome.result.estimates
    row = rows[(rows["method"] == "matching") & (rows["term"] == "difference")].iloc[0]
    return float(row["estimate"]), float(row["std_error"])


def _peer(system: str, path: Path) -> tuple[float, float]:
    """The peer's nearest neighbour with replacement on the score, at its own best setting; no standard error."""
    import pandas as pd

    frame = pd.read_parquet(path, columns=["unit", "treated", "score", "y"])
    if system == "causalml":
        from causalml.match import NearestNeighborMatch

        done = NearestNeighborMatch(caliper=1e6, replace=True, ratio=1, shuffle=False).match(
            frame, "treated", ["score"]
        )
        by = done.groupby("treated")["y"].mean()
        return float(by[1] - by[0]), math.nan
    if system == "psmpy":
        from psmpy import PsmPy

        psm = PsmPy(frame[["unit", "treated", "score"]], treatment="treated", indx="unit", exclude=[])
        psm.logistic_ps(balance=False)
        psm.knn_matched(matcher="propensity_logit", replacement=True, caliper=None)
        pairs = psm.matched_ids.merge(frame, on="unit")
        return float(len(pairs)), math.nan
    if system == "dowhy":
        from dowhy import CausalModel

        model = CausalModel(frame.astype({"treated": bool}), "treated", "y", common_causes=["score"])
        estimand = model.identify_effect(proceed_when_unidentifiable=True)
        found = model.estimate_effect(estimand, "backdoor.propensity_score_matching", target_units="att",
                                      method_params={"propensity_score_column": "score"})  # fmt: skip
        return float(found.value), math.nan
    return _cross_join(path)


def _cross_join(path: Path) -> tuple[float, float]:
    """The usual Spark script: every treated row against every control, a window over the distance."""
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as F

    spark = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false").getOrCreate()
    rows = spark.read.parquet(str(path))
    treated = rows.where("treated = 1").select("unit", F.col("score").alias("s1"), F.col("y").alias("y1"))
    control = rows.where("treated = 0").select(
        F.col("unit").alias("c"), F.col("score").alias("s0"), F.col("y").alias("y0")
    )
    distance = F.abs(F.col("s1") - F.col("s0"))
    ranked = treated.crossJoin(control).withColumn(
        "r", F.row_number().over(Window.partitionBy("unit").orderBy(distance))
    )
    return float(ranked.where("r = 1").agg(F.avg(F.col("y1") - F.col("y0"))).first()[0]), math.nan


# the table ----------------------------------------------------------------------------------------------------------


def _folder(folder: Path, rows: int) -> Path:
    return folder / f"matching-{rows}"


def _make(folder: Path, rows: int) -> None:
    """Ten covariates, a true score of them, an effect of 1; ``clumped``: treated only where the score is highest."""
    path = _folder(folder, rows)
    if (path / "_SUCCESS").exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    for part, first in enumerate(range(0, rows, PART)):
        n = min(PART, rows - first)
        rng = np.random.default_rng([13, part])
        x = rng.standard_normal((n, COVARIATES))
        index = x @ np.linspace(0.5, 0.05, COVARIATES)
        score = 1 / (1 + np.exp(-(index - 1.6)))
        treated = (rng.random(n) < score).astype(np.int8)
        y = treated + 2 * index + rng.standard_normal(n)
        columns: dict[str, Any] = {f"x{i}": x[:, i] for i in range(COVARIATES)}
        columns |= {"unit": np.arange(first, first + n), "treated": treated, "y": y, "score": score,
                    "clumped": (score > 0.45).astype(np.int8)}  # fmt: skip
        pq.write_table(pa.table(columns), path / f"part-{part:05d}.parquet")
    (path / "_SUCCESS").touch()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=__doc__)
    numbers = {"type": lambda text: [int(float(part)) for part in text.split(",")]}
    parser.add_argument("--folder", type=Path, default=Path("out/benchmarks"))
    parser.add_argument("--sizes", default=[1_000_000, 5_000_000, 20_000_000], **numbers)  # type: ignore[arg-type]
    parser.add_argument("--peer-sizes", default=[10_000, 100_000], **numbers)  # type: ignore[arg-type]
    parser.add_argument("--tasks", default=TASKS, type=lambda text: text.split(","))
    parser.add_argument("--peers", default=PEERS, type=lambda text: text.split(","))
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--patience", type=int, default=900)
    parser.add_argument("--one", nargs=3, metavar=("SYSTEM", "TASK", "ROWS"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
