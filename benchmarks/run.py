"""Measure the experiment job beside two floors and its peers: ``python -m benchmarks.run``.

Writes one line for each cell to ``--out`` as its lane finishes, the machine and versions beside it as JSON, and the
page made of both. ``--resume`` goes on where a run was interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import machine, page
from benchmarks.data import T_TEST, TABLES, UNITS, WIDEST, make
from benchmarks.lanes import Figure, Lane, figures, measure, running
from benchmarks.peers import pandas_peak
from benchmarks.results import Results, with_ratios
from benchmarks.worker import Order

PEERS = ("duckdb", "pandas", "tea-tasting", "naive")
LARGE = 50_000_000  # from here on two repetitions instead of three
NAIVE_CELLS = 100_000_000  # rows × metrics above which the naive script takes too long
MEMORY_SHARE = 0.6  # a peer that would need more of the memory is left out …
SMALL_SHARE = 0.1  # … and one that needs more than this is measured alone
TOLERANCE = 1e-9


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if somebody's numbers differ from the others', 2 for a wrong argument."""
    arguments = _arguments(argv)
    began = time.monotonic()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.out, arguments.resume)
    known = _known(folder, arguments.resume)
    for lane in _lanes(arguments):
        if results.has(lane):
            continue
        make(folder, TABLES[lane.table], _sizes(arguments, lane.table))
        print(f"{lane.table} {lane.rows:,} × {lane.metrics}: {lane.name}", file=sys.stderr, flush=True)
        results.append(_lane(lane, folder, known))
        (folder / "numbers.json").write_text(json.dumps(known))
    shutil.rmtree(folder / "runs", ignore_errors=True)
    results.append(_left_out(arguments, results))
    results.finish(with_ratios(results.figures), (time.monotonic() - began) / 60)
    page.write(results, arguments.page)
    return _judge(results.figures)


def _lane(lane: Lane, folder: Path, known: dict[str, Any]) -> list[Figure]:
    """Start the workers one after the other, measure, end them all."""
    found: list[Figure] = []
    with ExitStack() as stack:
        workers = []
        for system, role in lane.workers:
            order = Order(system, role, lane.table, lane.metrics, str(folder))
            workers.append(stack.enter_context(running(order, folder / "workers.log")))
        measure(workers, lane)
        for worker in workers:
            found += figures(worker, lane, known)
    for figure in found:
        print(f"  {page.line(figure)}", file=sys.stderr, flush=True)
    return found


def _lanes(arguments: argparse.Namespace) -> Iterator[Lane]:
    """All that is to be measured, small first; an engine's cells together with DuckDB's in one lane."""
    duckdb = (("duckdb", "peer"),) if "duckdb" in arguments.peers else ()
    for rows in arguments.sizes:
        repetitions = min(arguments.repetitions, 2 if rows >= LARGE else 3)
        for metrics in arguments.metrics:
            naive = "naive" in arguments.peers and rows * metrics <= NAIVE_CELLS
            skip = () if naive else ("naive",)
            for engine in arguments.engines:
                workers = ((engine, "reference"), (engine, "compress"), *duckdb)
                yield Lane(engine, UNITS.name, rows, metrics, workers, repetitions, skip)
            roles = ("job", "tracked") if rows < LARGE and metrics == _middle(arguments.metrics) else ("job",)
            jobs = tuple((engine, role) for engine in arguments.engines for role in roles)
            tea = (("tea-tasting", "peer"),) if "tea-tasting" in arguments.peers else ()
            pandas = (("pandas", "peer"),) if "pandas" in arguments.peers and _fits(rows, metrics) else ()
            beside = pandas if pandas_peak(rows, metrics) <= SMALL_SHARE * machine.memory() else ()
            yield Lane("analysis", UNITS.name, rows, metrics, (*jobs, *tea, *beside), repetitions)
            if pandas and not beside:
                yield Lane("pandas", UNITS.name, rows, metrics, pandas, repetitions)
    if arguments.t_test_rows:
        for engine in arguments.engines:
            workers = ((engine, "reference"), (engine, "compress"), *duckdb)
            yield Lane(engine, T_TEST.name, arguments.t_test_rows, 1, workers, arguments.repetitions)


def _middle(metrics: Sequence[int]) -> int:
    """The one number of metrics with which the tracked job is measured: tracking costs the same whatever it is, and
    whatever the rows, which are therefore below ``LARGE``."""
    return sorted(metrics)[len(metrics) // 2]


def _fits(rows: int, metrics: int) -> bool:
    return pandas_peak(rows, metrics) <= MEMORY_SHARE * machine.memory()


def _left_out(arguments: argparse.Namespace, results: Results) -> list[Figure]:
    """A line for each cell that was not even tried, with the reason."""
    found = []
    for rows in arguments.sizes:
        for metrics in arguments.metrics:
            if "pandas" in arguments.peers and not _fits(rows, metrics):
                need, have = pandas_peak(rows, metrics) / 1e9, machine.memory() / 1e9
                note = f"left out: would need about {need:.0f} GB of {have:.0f} GB"
                found.append(
                    Figure("pandas", UNITS.name, rows, metrics, "segments", "pandas", "analysis", "", note=note)
                )
            if "naive" in arguments.peers and rows * metrics > NAIVE_CELLS:
                note = f"left out for time: {2 * metrics} jobs"
                for engine in arguments.engines:
                    found.append(Figure(engine, UNITS.name, rows, metrics, "segments", engine, "naive", "", note=note))
    there = {(one.lane, one.rows, one.metrics, one.system, one.cell) for one in results.figures}
    return [one for one in found if (one.lane, one.rows, one.metrics, one.system, one.cell) not in there]


def _sizes(arguments: argparse.Namespace, table: str) -> list[int]:
    return list(arguments.sizes) if table == UNITS.name else [arguments.t_test_rows]


def _known(folder: Path, resume: bool) -> dict[str, Any]:
    """The numbers that were found before the interruption."""
    path = folder / "numbers.json"
    return dict(json.loads(path.read_text())) if resume and path.exists() else {}


def _judge(found: Sequence[Figure]) -> int:
    wrong = [one for one in found if one.deviation is not None and not one.deviation <= TOLERANCE]
    for one in wrong:
        print(f"benchmarks: other numbers by {one.deviation:.1e}: {page.line(one)}", file=sys.stderr)
    return 1 if wrong else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--sizes", type=_numbers, default=None, help="rows of the unit table, or none (1e6,1e7,5e7)")
    parser.add_argument(
        "--metrics", type=_numbers, default=None, help=f"numbers of metrics, at most {WIDEST} (1,10,20)"
    )
    parser.add_argument("--engines", type=_names(("sail", "spark")), default=["sail", "spark"])
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--t-test-rows", type=_number, default=None, help="rows of the t-test; 0 leaves it out (6e8)")
    parser.add_argument("--repetitions", type=int, default=3, help="at most; best of 2 from 50 M rows on")
    parser.add_argument("--folder", type=Path, default=Path("out/benchmarks"), help="for the data, about 11 GB")
    parser.add_argument("--out", type=Path, default=None, help="CSV of the results (benchmarks/results.csv)")
    parser.add_argument("--page", type=Path, default=None, help="Markdown made of them (docs/benchmarks.md)")
    parser.add_argument("--quick", action="store_true", help="small sizes, results into the data folder")
    parser.add_argument("--resume", action="store_true", help="keep the lanes that are in the CSV already")
    given = parser.parse_args(argv)
    if given.sizes is None:
        given.sizes = [1_000_000] if given.quick else [1_000_000, 10_000_000, 50_000_000]
    given.metrics = given.metrics or ([1, 10] if given.quick else [1, 10, 20])
    given.folder = given.folder.resolve()
    if given.t_test_rows is None:
        given.t_test_rows = 5_000_000 if given.quick else 600_000_000
    given.out = given.out or (given.folder / "results.csv" if given.quick else Path("benchmarks/results.csv"))
    given.page = given.page or (given.folder / "benchmarks.md" if given.quick else Path("docs/benchmarks.md"))
    if max(given.metrics) > WIDEST or min(given.metrics) < 1:
        parser.error(f"--metrics: from 1 to {WIDEST}")
    return given


def _number(text: str) -> int:
    return int(float(text))


def _numbers(text: str) -> list[int]:
    return [] if text == "none" else sorted({_number(part) for part in text.split(",")})


def _names(allowed: tuple[str, ...]) -> Any:
    def names(text: str) -> list[str]:
        found = [part.strip() for part in text.split(",") if part.strip() and part.strip() != "none"]
        if not set(found) <= set(allowed):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(allowed)}")
        return found

    return names


if __name__ == "__main__":
    sys.exit(main())
