"""Measure the attribution job beside its peers: ``python -m benchmarks.attribution``.

Writes one line for each task to ``--out`` as its process ends, the machine and versions beside it as JSON, and the
page made of both. ``--resume`` keeps the lines that are there. The exit code is 1 if somebody found other conversions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import attribution_page, journey_lines, journey_peers, journeys, machine
from benchmarks.journey_lines import Line
from benchmarks.journey_worker import Order
from benchmarks.processes import answers

SCRIPTED = 20_000_000  # beyond, the script (ordered lists of structs) fills the memory of a small machine
LARGE = 5_000_000  # beyond, only journeys and models run with other than the first number of channels
WARM = 200_000
COUNTED = 1_000_000  # the packages and pandas get journeys of at most so many touches
PACKAGE_TASKS = {"ChannelAttribution": ("rules", "markov_1")}  # of the others also their Shapley value


def main(argv: Sequence[str] | None = None) -> int:
    """Run all processes one after the other and write the table and the page."""
    arguments = _arguments(argv)
    began = time.monotonic()
    lines = journey_lines.read(arguments.out) if arguments.resume and arguments.out.exists() else []
    for touches, channels, order in _orders(arguments):
        done = {line.place for line in lines if line.seconds}
        if not {(order.system, task, touches, channels) for task in order.tasks} <= done:
            mine = _process(arguments, touches, channels, order)
            places = {line.place for line in mine}
            lines = [line for line in lines if line.place not in places] + mine
            journey_lines.write(arguments.out, lines)
    for name in ("runs", "staged"):
        shutil.rmtree(arguments.folder / name, ignore_errors=True)
    beside = arguments.out.with_suffix(".json")
    before = json.loads(beside.read_text())["minutes"] if arguments.resume and beside.exists() else 0.0
    minutes = round(before + (time.monotonic() - began) / 60, 1)
    facts = {**machine.facts(), "date": machine.today(), "minutes": minutes}
    beside.write_text(json.dumps(facts, indent=1) + "\n")
    attribution_page.write(lines, facts, arguments.page)
    return _judge(lines)


def _orders(arguments: argparse.Namespace) -> Iterator[tuple[int, int, Order]]:
    """What each process does, small journeys first. Journeys are made when their turn comes."""
    yield 0, 0, Order("numpy", "", "", ("markov_3", "shapley_rate"))
    for size in arguments.sizes:
        for channels in arguments.channels:
            folder = journeys.make(arguments.folder, size, channels)
            warm = journeys.make(arguments.folder, min(WARM, size), channels)
            touches = journeys.rows(folder / "touches")
            first = size <= LARGE or channels == arguments.channels[0]
            for engine in arguments.engines:
                if first:
                    scripts = ("script", "lists", "moved") if size <= SCRIPTED else ("lists", "moved")
                    yield touches, channels, Order(engine, str(folder), str(warm), scripts)
                tasks = ("journeys", "models", "job") if first else ("journeys", "models")
                yield touches, channels, Order(engine, str(folder), str(warm), tasks)
            if size <= COUNTED and channels == arguments.channels[0]:
                yield from _counted(arguments, touches, channels, folder)


def _counted(arguments: argparse.Namespace, touches: int, channels: int, folder: Path
             ) -> Iterator[tuple[int, int, Order]]:  # fmt: skip
    """pandas on the raw events; the embedded engine and the packages on the paths that pandas counted."""
    if "pandas" in arguments.peers:
        yield touches, channels, Order("pandas", str(folder), "", ("script",))
    counted = folder / "paths"
    if not counted.exists():
        counted.mkdir()
        journey_peers.pandas_script(folder).to_parquet(counted / "part-00000.parquet", index=False)
    for engine in arguments.engines[:1]:
        yield touches, channels, Order(engine, str(folder), "", ("paths",))
    for peer in arguments.peers:
        if peer in journey_peers.PACKAGES:
            yield (
                touches,
                channels,
                Order(peer, str(folder), "", PACKAGE_TASKS.get(peer, ("rules", "markov_1", "shapley"))),
            )


def _process(arguments: argparse.Namespace, touches: int, channels: int, order: Order) -> list[Line]:
    """The lines of one process. One that takes too long is ended, and keeps what it has found."""
    print(f"{order.system}: {touches:,} touches, {channels} channels", file=sys.stderr, flush=True)
    runs, note = answers("benchmarks.journey_worker", order, arguments.patience, arguments.folder / "attribution.log")
    lines = [_line(touches, channels, order.system, task, runs, note) for task in order.tasks]
    for line in lines:
        print(f"  {line}", file=sys.stderr, flush=True)
    return lines


def _line(touches: int, channels: int, system: str, task: str, runs: Sequence[dict[str, Any]], note: str) -> Line:
    line = Line(system, task, touches, channels, note=note)
    mine = [run for run in runs if run["task"] == task]
    done = [run for run in mine if "error" not in run]
    line.note = next((run["error"] for run in mine if "error" in run), note or "not reached" if not done else "")
    if done:
        best = min(done, key=lambda run: run["seconds"])
        line.seconds, line.runs = round(best["seconds"], 4), len(done)
        line.touches_per_s_core = round(touches / best["seconds"] / machine.cores()) if touches else None
        line.peak_mb, line.python_mb = (round(max(run[name] for run in done)) for name in ("peak_mb", "python_mb"))
        line.attributed = best["attributed"]
        line.stages = "; ".join(f"{name} {seconds}" for name, seconds in best["stages"].items())
    return line


def _judge(lines: Sequence[Line]) -> int:
    """Everybody who makes journeys of the same events must find the same number of conversions with a touch."""
    found: dict[tuple[int, int], set[float]] = {}
    for line in lines:
        if line.attributed is not None:
            found.setdefault((line.touches, line.channels), set()).add(line.attributed)
    wrong = {key: values for key, values in found.items() if len(values) > 1}
    for key, values in wrong.items():
        print(f"benchmarks: other conversions on {key}: {sorted(values)}", file=sys.stderr)
    return 1 if wrong else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attribution", description=__doc__)
    numbers: Any = {"type": lambda text: [int(float(part)) for part in text.split(",")]}
    names: Any = {"type": lambda text: [part for part in text.split(",") if part != "none"]}
    parser.add_argument("--sizes", default=[1_000_000, 20_000_000], help="numbers of touches", **numbers)
    parser.add_argument("--large", action="store_true", help="100 M touches too")
    parser.add_argument("--channels", default=[12, 40], **numbers)
    parser.add_argument("--engines", default=["sail", "spark"], **names)
    parser.add_argument("--peers", default=["pandas", *journey_peers.PACKAGES], **names)
    parser.add_argument("--patience", type=int, default=360, help="seconds for one process")
    parser.add_argument("--folder", type=Path, default=Path("out/benchmarks"), help="where the journeys are made")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/attribution.csv"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks-attribution.md"))
    parser.add_argument("--resume", action="store_true", help="keep what --out holds already")
    given = parser.parse_args(argv)
    given.sizes = [*given.sizes, *([100_000_000] if given.large else [])]
    given.folder = given.folder.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    return given


if __name__ == "__main__":
    sys.exit(main())
