"""One process that is measured: it opens what it needs, says what it can do, then does a task a line."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import peers
from benchmarks.data import TABLES, Table
from benchmarks.effects import ALL, Cells, Effects, effects


class Task(NamedTuple):
    """What is timed: a cell of the results, its layout (all | segments) and its form."""

    cell: str
    layout: str
    form: str = ""


@dataclass(frozen=True)
class Order:
    """What a worker is for. ``role``: reference, compress, job, tracked (of an engine) or peer."""

    system: str
    role: str
    table: str
    metrics: int
    root: str

    @property
    def described(self) -> Table:
        return TABLES[self.table].take(self.metrics)

    @property
    def layouts(self) -> tuple[str, ...]:
        return (ALL,) if self.described.segment is None else (ALL, "segments")

    def folder(self, rows: int) -> Path:
        return self.described.folder(Path(self.root), rows)


@dataclass(frozen=True)
class Answer:
    """What a task found: effects or a floor's sums, and the seconds of its stages if it has any."""

    effects: Effects = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)


Tasks = dict[Task, Callable[[int], Answer]]


def main() -> None:
    """Replies go to the original standard output; whatever libraries print goes to standard error."""
    order = Order(**json.loads(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    began = time.perf_counter()
    with _opened(order) as tasks:
        replies.write(json.dumps({"session": time.perf_counter() - began, "tasks": list(tasks)}) + "\n")
        for line in sys.stdin:
            asked = json.loads(line)
            replies.write(json.dumps(_timed(tasks[Task(*asked["task"])], asked["rows"])) + "\n")


def _timed(task: Callable[[int], Answer], rows: int) -> dict[str, Any]:
    gc.collect()
    began = time.perf_counter()
    try:
        answer = task(rows)
    except Exception as error:  # the figure of this cell is missing, not the run
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {"seconds": time.perf_counter() - began, **asdict(answer)}


@contextmanager
def _opened(order: Order) -> Iterator[Tasks]:
    if order.system in ("sail", "spark"):
        from causal_spark.spark.session import open_engine

        with open_engine(order.system) as engine:
            yield _engine_tasks(order, engine)
    elif order.system == "duckdb":
        yield _duckdb_tasks(order)
    elif order.system == "tea-tasting":
        connection, table = peers.tea_connection(), order.described

        def analysis(rows: int, form: Callable[..., Effects]) -> Answer:
            return Answer(form(connection, order.folder(rows), table))

        forms = peers.TEA_FORMS.items()
        yield {Task("analysis", "segments", name): partial(analysis, form=form) for name, form in forms}
    else:
        table = order.described
        yield {Task("analysis", "segments"): lambda rows: Answer(peers.pandas_analysis(order.folder(rows), table))}


def _duckdb_tasks(order: Order) -> Tasks:
    connection, table = peers.duckdb_connection(), order.described

    def floor(rows: int) -> Answer:
        return Answer(sums=peers.duckdb_floor(connection, order.folder(rows), table))

    def grouped(rows: int, form: Callable[..., Cells], segments: bool) -> Answer:
        return Answer(effects(form(connection, order.folder(rows), table, segments), table.levels))

    tasks: Tasks = {Task("floor", ALL): floor}
    for layout in order.layouts:
        for name, form in peers.DUCKDB_FORMS.items():
            tasks[Task("aggregates", layout, name)] = partial(grouped, form=form, segments=layout != ALL)
    return tasks


def _engine_tasks(order: Order, engine: Any) -> Tasks:
    @cache
    def frame(rows: int) -> Any:
        return engine.spark.read.parquet(str(order.folder(rows)))

    if order.role == "reference":
        return _reference_tasks(order, frame)
    if order.role == "compress":
        return {
            Task("compress", layout): partial(_compress, frame=frame, table=order.described, segments=layout != ALL)
            for layout in order.layouts
        }
    form = "tracked" if order.role == "tracked" else "untracked"
    return {Task("job", "segments", form): partial(_job, order=order, engine=engine)}


def _reference_tasks(order: Order, frame: Callable[[int], Any]) -> Tasks:
    from benchmarks import queries

    table = order.described

    def floor(rows: int) -> Answer:
        return Answer(sums=queries.floor(frame(rows), table))

    def hand(rows: int, form: queries.Form) -> Answer:
        return Answer(effects(form(frame(rows), table), table.levels))

    tasks: Tasks = {Task("floor", ALL): floor}
    for layout in order.layouts:
        for name, form in queries.forms(layout, order.metrics).items():
            tasks[Task("hand", layout, name)] = partial(hand, form=form)
    if table.segment is not None:
        tasks[Task("naive", "segments")] = partial(hand, form=queries.naive)
    return tasks


def _compress(rows: int, frame: Callable[[int], Any], table: Table, segments: bool) -> Answer:
    """The call that the experiment job makes, with the same spec; the differences are the benchmark's own."""
    from causal_spark.spark.compress import MomentsSpec, compress

    spec = MomentsSpec(
        {"(units)": (), **{name: (name,) for name in table.columns}},
        by=(table.arm,),
        levels={table.arm: table.levels},
        segments=(str(table.segment),) if segments else (),
    )
    grouped = compress(frame(rows), spec)
    found: dict[tuple[str, str], tuple[float, list[float], list[float]]] = {}
    for name in table.columns:
        for named, part in grouped.where(block=name):
            segment = (named[str(table.segment)] or ALL) if segments else ALL
            cell = found.setdefault((str(named[table.arm]), segment), (part.n, [], []))
            cell[1].append(float(part.mean[0]))
            cell[2].append(float(part.covariance[0, 0]))
    return Answer(effects(dict(found), table.levels))


def _job(rows: int, order: Order, engine: Any) -> Answer:
    """The whole job on the unit table, in the session that is open, into a folder that did not exist."""
    from causal_spark import job

    runs = Path(order.root) / "runs"
    output = runs / f"{os.getpid()}-{time.monotonic_ns()}"
    config = job.validate(_config(order, rows, output, runs / f"{os.getpid()}.db"), "experiment")
    marks: list[tuple[str, float]] = []
    outcome = job._run(engine, config, lambda stage: marks.append((stage, time.perf_counter())))
    marks.append(("", time.perf_counter()))
    if outcome.result is None or outcome.tracking_error is not None:
        raise RuntimeError(f"the job did not run: {outcome.tracking_error or 'nothing to do'}")
    stages = {name: after - at for (name, at), (_, after) in pairwise(marks)}
    shutil.rmtree(output)
    return Answer(_estimated(outcome.result.estimates, order.described), stages=stages)


def _config(order: Order, rows: int, output: Path, store: Path) -> dict[str, Any]:
    table = order.described
    tracking = {"enabled": False}
    if order.role == "tracked":
        tracking = {"enabled": True, "uri": f"sqlite:///{store}", "experiment": "benchmark"}
    return {
        "job": "experiment",
        "input": {"units": {"table": str(order.folder(rows))}},
        "method": {
            "unit": "unit_id",
            "arm": table.arm,
            "control": table.levels[0],
            "shares": dict.fromkeys(table.levels, 0.5),
            "metrics": [{"name": name, "kind": "mean", "value": name} for name in table.columns],
            "segments": [table.segment],
        },
        "output": {"path": str(output)},
        "tracking": tracking,
    }


def _estimated(estimates: Any, table: Table) -> Effects:
    found: Effects = {}
    rows = estimates[estimates["term"] == "difference"]
    by_name = {(row.segment, row.outcome): [row.estimate, row.std_error] for row in rows.itertuples()}
    for segment in dict.fromkeys(rows["segment"]):
        name = segment.partition("=")[2] or segment
        found[name] = [by_name[segment, column] for column in table.columns]
    return found


if __name__ == "__main__":
    main()
