"""Measure what an experiment asks beyond means: ``python -m benchmarks.platform``. A table beside machine and versions.

Each line is a process of its own that does one thing to one table of (unit, arm, value): see ``platform_tasks`` and,
for what others do at the sizes they can hold, ``platform_peers``. Best of the repetitions after one warm-up.
``--resume`` keeps the lines that are there.
"""

from __future__ import annotations

import argparse
import csv
import json
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

from benchmarks import machine, platform_page
from benchmarks.platform_peers import TASKS as PEERS
from benchmarks.platform_tasks import ARMS, TASKS
from benchmarks.processes import answers

HERE = Path(__file__).parent
PART = 1_000_000
LARGE = 50_000_000  # from so many rows on a line runs once
PEER_TASKS = ("bootstrap", "quantiles", "splits")


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
    rows = _kept(arguments.out) if arguments.resume else []
    done = {(row["system"], row["task"], int(row["rows"])) for row in rows}
    for line in _lines(arguments):
        if line not in done:
            rows.append(_line(arguments, *line))
            _write(arguments.out, rows)
    facts = {**machine.facts(), "date": machine.today()}
    arguments.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    platform_page.write(_kept(arguments.out), facts, arguments.page)
    return 0


def _lines(arguments: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Tables are made when their turn comes."""
    for rows in arguments.peer_sizes:
        _make(arguments.folder, rows)
        yield from (("sail", task, rows) for task in PEER_TASKS)
        yield from ((peer, task, rows) for peer in arguments.peers for task in PEERS[peer])
    for rows in arguments.sizes:
        _make(arguments.folder, rows)
        yield from ((system, task, rows) for system in arguments.systems for task in arguments.tasks)


def _line(arguments: argparse.Namespace, system: str, task: str, rows: int) -> dict[str, Any]:
    order = Order(system, task, rows, str(arguments.folder), arguments.repetitions if rows < LARGE else 1)
    runs, note = answers("benchmarks.platform", order, arguments.patience, arguments.folder / "platform.log")
    found: dict[str, Any] = {"system": system, "task": task, "rows": rows, **(runs[-1] if runs else {"note": note})}
    print(found, file=sys.stderr, flush=True)
    return found


def _one(order: Order) -> dict[str, Any]:
    path = _folder(Path(order.folder), order.rows)
    if order.system in PEERS:
        return _timed(PEERS[order.system][order.task](path), order.repetitions, order.rows)
    from causal_spark.spark.session import open_engine

    with open_engine(order.system) as engine:
        frame = engine.spark.read.parquet(str(path))
        return _timed(lambda: TASKS[order.task](frame), order.repetitions, order.rows)


def _timed(work: Callable[[], tuple[float, float]], repetitions: int, rows: int) -> dict[str, Any]:
    """The best of the repetitions after a warm-up; what takes long is not repeated."""
    taken: list[float] = []
    while len(taken) <= repetitions and sum(taken) < 20 and (repetitions > 1 or not taken):
        machine.reset_peaks(os.getpid())
        began = time.perf_counter()
        estimate, error = work()
        taken.append(time.perf_counter() - began)
    best = min(taken[1:] or taken)
    peak, python = machine.peaks(os.getpid())
    return {"seconds": round(best, 3), "rows_per_s_core": round(rows / best / machine.cores()), "peak_mb": round(peak),
            "python_mb": round(python), "estimate": estimate, "std_error": error}  # fmt: skip


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


def _kept(out: Path) -> list[dict[str, Any]]:
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, platform_page.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.platform", description=__doc__)
    numbers: Any = {"type": lambda text: [int(float(part)) for part in text.split(",") if part]}
    texts: Any = {"type": lambda text: [part for part in text.split(",") if part != "none"]}
    parser.add_argument("--folder", type=Path, default=Path("out/benchmarks"), help="where the tables are made")
    parser.add_argument("--sizes", default=[10_000_000, LARGE], help="rows", **numbers)
    parser.add_argument("--peer-sizes", default=[100_000, 1_000_000], help="rows for the peers", **numbers)
    parser.add_argument("--systems", default=["sail", "spark"], **texts)
    parser.add_argument("--peers", default=list(PEERS), **texts)
    parser.add_argument("--tasks", default=list(TASKS), **texts)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--patience", type=int, default=90, help="seconds for one line")
    parser.add_argument("--out", type=Path, default=HERE / "platform.csv")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks-platform.md")
    parser.add_argument("--resume", action="store_true", help="keep what --out holds already")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
