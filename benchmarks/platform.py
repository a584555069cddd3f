"""Measure what an experiment asks beyond means: ``python -m benchmarks.platform``. A table beside machine and versions.

Each line is a process of its own that does one thing to one table of (unit, arm, value): bootstrap of a difference of
means with 200 replicates, effects on two quantiles, the engine's own percentiles of the same column, 2,000 A/A splits;
and scipy's bootstrap at the size it can hold. Best of the repetitions after one warm-up.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import machine
from benchmarks.processes import answers

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks-platform.md"
PART = 1_000_000
LARGE = 50_000_000  # from so many rows on a line runs once
REPLICATES, SPLITS, SPLIT_BUCKETS = 200, 2_000, 32_768
QUANTILES = (0.5, 0.9)
ARMS = ("control", "treatment")
PUBLISHED = 118_000  # rows a second and core: the best published figure of a bootstrap with 200 replicates
TASKS = ("bootstrap", "quantiles", "percentile", "percentile_approx", "splits")
COLUMNS = ("system", "task", "rows", "seconds", "rows_per_s_core", "peak_mb", "python_mb", "estimate", "std_error",
           "note")  # fmt: skip


@dataclass(frozen=True)
class Order:
    """What the process of a line does."""

    system: str
    task: str
    rows: int
    folder: str
    repetitions: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run all lines and write the table and its page; given an ``Order`` as JSON, be the process of a line."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given and given[0].startswith("{"):
        print(json.dumps(_one(Order(**json.loads(given[0])))))
        return 0
    arguments = _arguments(given)
    rows = [_line(arguments, *line) for line in _lines(arguments)]
    with (HERE / "platform.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    versions = {name: importlib.metadata.version(name) for name in ("pyspark", "pysail", "numpy", "scipy", "pyarrow")}
    facts = {**machine.facts(), "packages": versions, "date": machine.today()}
    (HERE / "platform.json").write_text(json.dumps(facts, indent=1) + "\n")
    PAGE.write_text("\n".join(_page(rows, facts)) + "\n")
    return 0


def _lines(arguments: argparse.Namespace) -> list[tuple[str, str, int]]:
    lines = []
    for rows in arguments.sizes:
        _make(arguments.folder, rows)
        lines += [(system, task, rows) for system in arguments.systems for task in arguments.tasks]
    for rows in arguments.peer_sizes:
        _make(arguments.folder, rows)
        lines += [("sail", "bootstrap", rows), ("scipy", "bootstrap", rows)]
    return lines


def _line(arguments: argparse.Namespace, system: str, task: str, rows: int) -> dict[str, Any]:
    order = Order(system, task, rows, str(arguments.folder), arguments.repetitions if rows < LARGE else 1)
    runs, note = answers("benchmarks.platform", order, arguments.patience, arguments.folder / "platform.log")
    found: dict[str, Any] = {"system": system, "task": task, "rows": rows, **(runs[-1] if runs else {"note": note})}
    print(found, file=sys.stderr, flush=True)
    return found


def _one(order: Order) -> dict[str, Any]:
    path = _folder(Path(order.folder), order.rows)
    if order.system == "scipy":
        return _timed(_scipy(path), 1, order.rows)
    from causal_spark.spark.session import open_engine

    with open_engine(order.system) as engine:
        frame = engine.spark.read.parquet(str(path))
        works = {"bootstrap": _bootstrap, "quantiles": _quantiles, "percentile": _percentile("percentile"),
                 "percentile_approx": _percentile("percentile_approx"), "splits": _splits}  # fmt: skip
        return _timed(lambda: works[order.task](frame), order.repetitions, order.rows)


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


# the tasks ----------------------------------------------------------------------------------------------------------


def _given(frame: Any) -> Any:
    """What the passes of the experiment job are given, for the one metric of the table."""
    from causal_spark.methods.experiment import Experiment, Metric
    from causal_spark.methods.experiment.passes.given import Given
    from causal_spark.methods.experiment.settings import Bootstrap
    from causal_spark.methods.experiment.tables import UnitTable
    from causal_spark.spark import gate
    from causal_spark.statistics import Grouped

    metric = Metric("value", "mean", value="value", quantiles=QUANTILES)
    method = Experiment(
        unit="unit", arm="arm", control="control", metrics=(metric,), bootstrap=Bootstrap(replicates=REPLICATES)
    )
    table = UnitTable(frame, (metric,), "unit", "arm", gate.ranges(frame, ["value"]), dict.fromkeys(ARMS, 0.5))
    return Given(method, table, {}, Grouped((), {}))


def _bootstrap(frame: Any) -> tuple[float, float]:
    from causal_spark.methods.experiment.passes.buckets import buckets
    from causal_spark.solve.bootstrap import bootstrap, replicates

    data = buckets(_given(frame))["value"]  # type: ignore[index]
    tables = [np.array(data["arms"][arm]) for arm in ARMS]
    now = [table.sum(axis=0) for table in tables]
    again = [replicates(table, REPLICATES, 7 + place) for place, table in enumerate(tables)]
    means, each = [t[1] / t[0] for t in now], [t[:, 1] / t[:, 0] for t in again]
    test = bootstrap(means[1] - means[0], each[1] - each[0])
    return test.estimate, test.std_error


def _quantiles(frame: Any) -> tuple[float, float]:
    from causal_spark.methods.experiment.passes.histograms import histograms
    from causal_spark.solve.means import difference
    from causal_spark.solve.quantiles import quantile
    from causal_spark.statistics.histogram import Histogram

    data = histograms(_given(frame))["value"]["arms"]  # type: ignore[index]
    arms = [Histogram.from_dict(data[arm]) for arm in ARMS]
    tests = []
    for q in QUANTILES:
        c, t = (quantile(h, q).values for h in arms)
        tests.append(difference(t, c, dof=math.inf))
    return tests[0].estimate, tests[0].std_error


def _percentile(name: str) -> Callable[[Any], tuple[float, float]]:
    """The engine's own percentiles of the same column by arm: no standard error."""

    def work(frame: Any) -> tuple[float, float]:
        from pyspark.sql import functions as F

        found = F.array(*(getattr(F, name)("value", F.lit(q)) for q in QUANTILES)).alias("q")
        rows = {row["arm"]: row["q"] for row in frame.groupBy("arm").agg(found).toArrow().to_pylist()}
        return float(rows["treatment"][0] - rows["control"][0]), math.nan

    return work


def _splits(frame: Any) -> tuple[float, float]:
    """The rejection rate of 2,000 A/A splits and the deviation of their z."""
    from causal_spark.solve.splits import bucket_splits, validate
    from causal_spark.spark.buckets import BucketSum, bucket_sums
    from causal_spark.spark.compress import MomentsSpec, compress

    by_arm = compress(frame, MomentsSpec({"value": ("value",)}, by=("arm",), levels={"arm": ARMS}))
    whole = sum(by_arm.cells.values())
    sums = (BucketSum(None), BucketSum("value", centre=float(whole.mean[0])))  # type: ignore[union-attr]
    table = sum(bucket_sums(frame, "arm", "unit", SPLIT_BUCKETS, "splits", sums).values())
    z, _ = bucket_splits(table[:, 0], table[:, 1:], whole.covariance.ravel(), SPLITS, 7)  # type: ignore
    verdict = validate(z[:, 0])
    return verdict.rejection, verdict.spread


def _scipy(path: Path) -> Callable[[], tuple[float, float]]:
    """scipy's percentile bootstrap of a difference of means, in batches that its memory can hold; reading not timed."""
    from scipy import stats

    frame = pq.read_table(path).to_pandas()
    t, c = (frame[frame["arm"] == arm]["value"].to_numpy() for arm in reversed(ARMS))

    def work() -> tuple[float, float]:
        found = stats.bootstrap(
            (t, c), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), n_resamples=REPLICATES, batch=10,
            vectorized=True, method="percentile", rng=np.random.default_rng(7),
        )  # fmt: skip
        return float(t.mean() - c.mean()), float(found.standard_error)

    return work


# the table and the page ---------------------------------------------------------------------------------------------


def _folder(folder: Path, rows: int) -> Path:
    return folder / f"platform-{rows}"


def _make(folder: Path, rows: int) -> None:
    """Units in two arms with a lognormal value, 2 % more when treated."""
    path = _folder(folder, rows)
    if (path / "_SUCCESS").exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    for part, first in enumerate(range(0, rows, PART)):
        n = min(PART, rows - first)
        rng = np.random.default_rng([17, part])
        arm = rng.integers(0, 2, n, dtype=np.int8)
        value = np.exp(rng.standard_normal(n)) * np.where(arm == 1, 1.02, 1.0)
        labels = pa.DictionaryArray.from_arrays(pa.array(arm), list(ARMS)).dictionary_decode()
        columns = {"unit": np.arange(first, first + n), "arm": labels, "value": value}
        pq.write_table(pa.table(columns), path / f"part-{part:05d}.parquet")
    (path / "_SUCCESS").touch()


METHOD = f"""
A table of (unit, arm, value), parquet, files of a million rows. `bootstrap`: difference of means with {REPLICATES}
replicates (best published figure: {PUBLISHED:,} rows a second and core). `quantiles`: effects on p50 and p90 with
standard errors; `percentile` and `percentile_approx`: the engine's own, of the same column by arm, without them.
`splits`: {SPLITS:,} A/A splits judged, for which `estimate` is the rejection rate and `std_error` the deviation of z.
Best of two after a warm-up, once from 50 M rows on; memory is the peak of the process with its children, and of Python.
"""


def _page(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> Iterator[str]:
    """``docs/benchmarks-platform.md``."""
    yield "# Benchmarks: beyond means\n"
    yield f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']}; {facts['date']}."
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items())
    yield f"Python {facts['python']}, Java {facts['java']}, {packages}."
    yield "Repeat with `python -m benchmarks.platform`; all figures: `benchmarks/platform.csv`."
    yield METHOD
    yield "| system | task | rows | seconds | rows/s/core | peak MB | Python MB | estimate | std_error | |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for row in rows:
        texts = [row["system"], f"`{row['task']}`", f"{row['rows']:,}", *(_shown(row.get(key)) for key in COLUMNS[3:])]
        yield f"| {' | '.join(texts)} |"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value).replace("|", "/")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.platform", description=__doc__)
    numbers = {"type": lambda text: [int(float(part)) for part in text.split(",") if part]}
    texts = {"type": lambda text: text.split(",")}
    parser.add_argument("--folder", type=Path, default=Path("out/benchmarks"))
    parser.add_argument("--sizes", default=[10_000_000, 50_000_000], **numbers)  # type: ignore[arg-type]
    parser.add_argument("--peer-sizes", default=[100_000, 1_000_000], **numbers)  # type: ignore[arg-type]
    parser.add_argument("--systems", default=("sail", "spark"), **texts)  # type: ignore[arg-type]
    parser.add_argument("--tasks", default=TASKS, **texts)  # type: ignore[arg-type]
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--patience", type=int, default=90)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
