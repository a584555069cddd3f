"""A lane: workers that stay open side by side and take turns, so that a drift of the machine hits them all alike."""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.data import TABLES
from benchmarks.effects import Effects, deviation, sums_deviation
from benchmarks.processes import kill
from benchmarks.worker import Order, Task

PATIENCE = 900  # seconds for one answer
DROP = 1.25  # beyond the last warm-up's size, forms slower than this against their best one are left out
COSTLY = 20.0  # a task that takes longer is timed twice at most, one beyond twice this once
ONCE_WARM = ("job", "naive")  # warmed up on the smallest size only
WARM_QUERIES = 12  # in each JVM before the smallest size is timed: its planner is slow at first

Warm = dict[tuple[str, Task], float | None]


@dataclass(frozen=True)
class Lane:
    """What is measured together: workers by (system, role) on one table, size and number of metrics."""

    name: str
    table: str
    rows: int
    metrics: int
    workers: tuple[tuple[str, str], ...]
    repetitions: int = 3
    skip: tuple[str, ...] = ()  # cells that are left out


@dataclass
class Figure:
    """One line of the results."""

    lane: str
    table: str
    rows: int
    metrics: int
    layout: str
    system: str
    cell: str
    form: str
    seconds: float | None = None
    median_s: float | None = None
    first_s: float | None = None
    session_s: float | None = None
    repetitions: int = 0
    rows_per_s_core: float | None = None
    cpu_s: float | None = None
    peak_mb: float | None = None
    python_mb: float | None = None
    read_mb: float | None = None
    deviation: float | None = None
    stages: str = ""
    note: str = ""


@dataclass
class Worker:
    """A running process, the tasks it offers and what is known of each."""

    order: Order
    process: subprocess.Popen[str]
    session: float = 0.0
    runs: dict[Task, list[dict[str, Any]]] = field(default_factory=dict)
    first: dict[Task, float] = field(default_factory=dict)
    dropped: dict[Task, str] = field(default_factory=dict)

    def ask(self, task: Task, rows: int) -> dict[str, Any]:
        """Run the task; its seconds with peak memory and bytes read, or an error, after which it is dropped."""
        pid = self.process.pid
        machine.reset_peaks(pid)
        before, busy = machine.bytes_read(pid), machine.cpu_seconds(pid)
        answer = self._exchange({"task": task, "rows": rows})
        if "error" in answer:
            self.dropped[task] = f"failed: {answer['error']}"
            return answer
        answer["read"] = (machine.bytes_read(pid) - before) / 1e6
        answer["cpu"] = machine.cpu_seconds(pid) - busy
        answer["peak"], answer["python"] = machine.peaks(pid)
        self.first.setdefault(task, answer["seconds"])
        return answer

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": "the process has ended"}
        return self.listen()

    def listen(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        if not ready:
            return {"error": f"no answer within {PATIENCE} s"}
        line = self.process.stdout.readline()
        return dict(json.loads(line)) if line else {"error": "the process has ended"}


@contextmanager
def running(order: Order, log: Path) -> Iterator[Worker]:
    """A worker process, from its start to its end."""
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(order))]
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    worker = Worker(order, process)
    try:
        opened = worker.listen()
        worker.session = opened.get("session", 0.0)
        worker.runs = {Task(*task): [] for task in opened.get("tasks", [])}
        if "error" in opened:
            worker.dropped[Task("session", "")] = opened["error"]
        yield worker
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        kill(process.pid)
        process.wait()
    process.stdout.close()


def measure(workers: Sequence[Worker], lane: Lane) -> None:
    """Warm up, leave out forms that are far behind, then take turns, every other round backwards."""
    turns = [(worker, task) for worker in workers for task in worker.runs if task.cell not in lane.skip]
    sizes = TABLES[lane.table].warm_sizes(lane.rows)
    for worker in workers:
        _heat(worker, [task for owner, task in turns if owner is worker], lane)
    warm: Warm = {}
    for size in sizes:
        for worker, task in turns:
            if task not in worker.dropped and (size == sizes[0] or task.cell not in ONCE_WARM):
                warm[worker.order.system, task] = worker.ask(task, size).get("seconds")
    if lane.rows > sizes[-1]:
        _drop(turns, warm, sizes[-1])
    for number in range(lane.repetitions):
        for worker, task in turns if number % 2 == 0 else turns[::-1]:
            if task not in worker.dropped and _again([run["seconds"] for run in worker.runs[task]]):
                answer = worker.ask(task, lane.rows)
                if "error" not in answer:
                    worker.runs[task].append(answer)


def _heat(worker: Worker, tasks: Sequence[Task], lane: Lane) -> None:
    """Short queries on a JVM: as many before the first figure in every process, whatever the number of its tasks."""
    first = TABLES[lane.table].warm_sizes(lane.rows)[0]
    if worker.order.system != "spark" or lane.rows > first:
        return
    short = [task for task in tasks if task.cell not in ONCE_WARM]
    for number in range(WARM_QUERIES if short else 1):
        task = short[number % len(short)] if short else tasks[0]
        if task not in worker.dropped:
            worker.ask(task, first)


def _again(taken: Sequence[float]) -> bool:
    """Whether a task that took these seconds may be timed once more."""
    if not taken or min(taken) < COSTLY:
        return True
    return len(taken) < 2 and min(taken) < 2 * COSTLY


def _drop(turns: Sequence[tuple[Worker, Task]], warm: Warm, size: int) -> None:
    """Of several forms of one thing, those that are clearly slower at ``size`` rows."""
    for worker, task in turns:
        same = [
            seconds
            for (system, other), seconds in warm.items()
            if seconds and system == worker.order.system and (other.cell, other.layout) == (task.cell, task.layout)
        ]
        mine = warm.get((worker.order.system, task))
        if mine and mine > DROP * min(same):
            worker.dropped[task] = f"left out: {mine:.2f} s on {size:,} rows, the best form {min(same):.2f} s"


def figures(worker: Worker, lane: Lane, known: dict[str, Any]) -> Iterator[Figure]:
    """The results of one worker. ``known``: numbers found so far, that all others must agree with."""
    order = worker.order
    if Task("session", "") in worker.dropped:
        yield Figure(lane.name, lane.table, lane.rows, lane.metrics, "", order.system, order.role, "",
                     note=worker.dropped[Task("session", "")])  # fmt: skip
    for task, runs in worker.runs.items():
        if task.cell in lane.skip:
            continue
        figure = Figure(
            lane.name, lane.table, lane.rows, lane.metrics, task.layout, order.system, task.cell, task.form,
            session_s=round(worker.session, 3), note=worker.dropped.get(task, ""), repetitions=len(runs),
        )  # fmt: skip
        if task in worker.first:
            figure.first_s = round(worker.first[task], 4)
        if runs:
            _fill(figure, runs)
            figure.deviation = _compare(task, lane, runs[-1], known)
        yield figure


def _fill(figure: Figure, runs: Sequence[dict[str, Any]]) -> None:
    best = min(runs, key=lambda run: run["seconds"])
    figure.seconds = round(best["seconds"], 4)
    figure.median_s = round(statistics.median(run["seconds"] for run in runs), 4)
    figure.rows_per_s_core = round(figure.rows / best["seconds"] / machine.cores())
    figure.cpu_s = round(min(run["cpu"] for run in runs), 2)
    figure.peak_mb = round(max(run["peak"] for run in runs))
    figure.python_mb = round(max(run["python"] for run in runs))
    figure.read_mb = round(min(run["read"] for run in runs), 1)
    figure.stages = "; ".join(f"{name} {seconds:.4f}" for name, seconds in best["stages"].items())


def _compare(task: Task, lane: Lane, run: dict[str, Any], known: dict[str, Any]) -> float:
    """How far the numbers are from those that the first to come found."""
    if run["sums"]:
        sums: dict[str, float] = known.setdefault(f"{lane.table} {lane.rows} {lane.metrics} sums", run["sums"])
        return sums_deviation(run["sums"], sums)
    key = f"{lane.table} {lane.rows} {lane.metrics} {task.layout}"
    reference: Effects = known.setdefault(key, run["effects"])
    return deviation(run["effects"], reference, lane.rows)
