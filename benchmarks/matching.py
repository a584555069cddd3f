"""Measure the matching job beside its peers: ``python -m benchmarks.matching``.

Writes one line for each task to ``--out`` as its process ends, the machine and versions beside it as JSON, and the
page made of both. ``--resume`` keeps the lines that are there. A process that fails or takes too long leaves a note and
does not stop the others. The exit code is 1 if those who match the same units find different effects.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, matching_page, matching_table
from benchmarks.lanes import Figure
from benchmarks.matching_page import effect
from benchmarks.matching_peers import PEERS
from benchmarks.matching_worker import Order
from benchmarks.processes import answers
from benchmarks.results import Line, Results

SWEEPS = ("grid", "ipw", "replace", "closest", "largest", "clumped")
WARM = 250_000
MANY = 5_000_000  # beyond, local Spark does the first tasks only, and nobody the whole job
# We average outcomes of ties by rounding (distances within 1e-12), packages take one: it meets one unit in a million.
CLOSE = 5e-6


def main(argv: Sequence[str] | None = None) -> int:
    """Run all processes one after the other and write the table and the page."""
    arguments = _arguments(argv)
    began = time.monotonic()
    results = Results(arguments.out, arguments.resume)
    for order in _orders(arguments):
        open_ = tuple(task for task in order.tasks if not _known(results, order, task))
        if open_:
            results.append(_process(arguments, replace(order, tasks=open_)))
    shutil.rmtree(arguments.folder / "runs", ignore_errors=True)
    results.finish(results.figures, (time.monotonic() - began) / 60)
    matching_page.write(results, arguments.page)
    return _judge(results.figures)


def _orders(arguments: argparse.Namespace) -> Iterator[Order]:
    """What each process does, small tables first. Tables are made when their turn comes."""
    for rows in arguments.sizes:
        table = matching_table.make(arguments.folder, rows)
        warm = matching_table.make(arguments.folder, min(WARM, rows))
        for engine in arguments.engines:
            few = engine != "sail" and rows > MANY
            tasks = SWEEPS[:4] if few else (*SWEEPS, *(("job",) if rows <= MANY else ()))
            yield Order(engine, rows, str(table), str(warm), tasks)
    for peer in arguments.peers:
        for rows in [*arguments.peer_sizes, *arguments.sizes]:
            if rows <= PEERS[peer].most:
                yield Order(peer, rows, str(matching_table.make(arguments.folder, rows)), "", PEERS[peer].tasks)
    for rows in arguments.peer_sizes:  # ours at the sizes that the peers can hold
        table = str(matching_table.make(arguments.folder, rows))
        yield from (Order(engine, rows, table, table, ("replace",)) for engine in arguments.engines[:1])


def _known(results: Results, order: Order, task: str) -> bool:
    """Whether the task was measured, or cannot be here."""
    mine = [one for one in results.figures if (one.system, one.rows, one.cell) == (order.system, order.rows, task)]
    return any(one.seconds is not None or one.note == "not installed" for one in mine)


def _process(arguments: argparse.Namespace, order: Order) -> list[Figure]:
    """The figures of one process. One that takes too long is ended, and keeps what it has found."""
    print(f"{order.system}: {order.rows:,} rows", file=sys.stderr, flush=True)
    patience = arguments.peer_patience if order.system in PEERS else arguments.patience
    runs, note = answers("benchmarks.matching_worker", order, patience, arguments.folder / "matching.log")
    found = {one["task"]: one for one in runs}
    figures = [_figure(order, task, found.get(task, {"note": note or "not reached"})) for task in order.tasks]
    for one in figures:
        print(f"  {one.cell:10} {one.seconds or '–'} s  {one.peak_mb or 0:.0f} MB  {one.stages} {one.note}",
              file=sys.stderr, flush=True)  # fmt: skip
    return figures


def _figure(order: Order, task: str, found: dict[str, Any]) -> Figure:
    known = {name: value for name, value in found.items() if name != "task"}
    one = Figure(order.system, "matching", order.rows, 1, "", order.system, task, "", **known)
    if one.seconds is not None:
        one.rows_per_s_core = round(order.rows / one.seconds / machine.cores())
    return one


def _judge(figures: Sequence[Line]) -> int:
    """Who matches the same units with replacement must find the same effect."""
    found: dict[int, list[float]] = {}
    for one in figures:
        exact = one.system not in PEERS or PEERS[one.system].exact
        if one.cell == "replace" and one.seconds is not None and exact:
            found.setdefault(one.rows, []).append(effect(one))
    wrong = {rows: values for rows, values in found.items() if max(values) - min(values) > CLOSE * abs(max(values))}
    for rows, values in wrong.items():
        print(f"benchmarks: other effects on {rows:,} rows: {values}", file=sys.stderr)
    return 1 if wrong else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=__doc__)
    numbers: Any = {"type": lambda text: [int(float(part)) for part in text.split(",") if part != "none"]}
    names: Any = {"type": lambda text: [part for part in text.split(",") if part != "none"]}
    parser.add_argument("--sizes", default=[1_000_000, 5_000_000, 20_000_000], help="numbers of units", **numbers)
    parser.add_argument("--peer-sizes", default=[10_000, 100_000], help="smaller tables, for the peers", **numbers)
    parser.add_argument("--engines", default=["sail", "spark"], **names)
    parser.add_argument("--peers", default=list(PEERS), **names)
    parser.add_argument("--patience", type=int, default=400, help="seconds for one process of an engine")
    parser.add_argument("--peer-patience", type=int, default=60, help="seconds for one process of a peer")
    parser.add_argument("--folder", type=Path, default=Path("out/benchmarks"), help="where the tables are made")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/matching.csv"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks-matching.md"))
    parser.add_argument("--resume", action="store_true", help="keep what --out holds already")
    given = parser.parse_args(argv)
    given.folder = given.folder.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    return given


if __name__ == "__main__":
    sys.exit(main())
