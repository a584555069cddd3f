"""One process that is measured: it takes turns at its tasks and prints one line for each run."""

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
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import journey_peers, journeys, machine

RULES = ("first", "last", "last_non_direct", "linear", "u_shape", "w_shape", "j_shape", "inverse_j", "time_decay",
         "participation")  # fmt: skip
MODELS = (*RULES, "markov_1", "shapley")
ROUNDS, ENOUGH = 3, 12.0  # a task is run so often, and not again once its runs took so many seconds
STATES_CHANNELS, GAME_CHANNELS, GAME_SETS = 10, 20, 50_000


@dataclass(frozen=True)
class Order:
    """What a process is for: a system, the folders of the journeys and of smaller ones to warm up on, its tasks."""

    system: str
    folder: str
    warm: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What a run found: the conversions that got a journey, the seconds of its stages, those that count (or all)."""

    attributed: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None


Work = Callable[[Path], Run]


def main() -> None:
    """Lines go to the original standard output; whatever libraries print goes to standard error."""
    order = Order(**json.loads(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with _opened(order) as tasks:
        for line in _turns(order, tasks):
            replies.write(json.dumps(line) + "\n")


def _turns(order: Order, tasks: dict[str, Work]) -> Iterator[dict[str, Any]]:
    """Each task once on the small journeys, then in turns, every other round backwards; one that fails is left out."""
    taken: dict[str, float] = dict.fromkeys(tasks, 0.0)
    for name in list(tasks):
        if order.warm and "error" in (line := _measured(name, tasks[name], Path(order.warm))):
            yield line
            del tasks[name]
    for number in range(ROUNDS):
        for name in list(tasks) if number % 2 == 0 else list(tasks)[::-1]:
            if taken[name] > ENOUGH:
                continue
            yield (line := _measured(name, tasks[name], Path(order.folder)))
            if "error" in line:
                del tasks[name]
            else:
                taken[name] += line["whole"]


def _measured(name: str, work: Work, folder: Path) -> dict[str, Any]:
    gc.collect()
    machine.reset_peaks(os.getpid())
    began = time.perf_counter()
    try:
        run = work(folder)
    except Exception as error:  # the figure of this task is missing, not the run
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        return {"task": name, "error": f"{kind}{' '.join(str(error).split())[:160]}"}
    whole = time.perf_counter() - began
    peak, python = machine.peaks(os.getpid())
    seconds = whole if run.seconds is None else run.seconds
    return {"task": name, "whole": whole, "peak_mb": peak, "python_mb": python, **asdict(run), "seconds": seconds}


@contextmanager
def _opened(order: Order) -> Iterator[dict[str, Work]]:
    if order.system in ("sail", "spark"):
        from causal_spark.spark.session import open_engine

        with open_engine(order.system) as engine:
            every = {
                "script": lambda folder: Run(journey_peers.spark_script(engine.spark, folder)),
                "lists": lambda folder: _nothing_but(journey_peers.packed_lists, engine.spark, folder),
                "moved": lambda folder: _nothing_but(journey_peers.moved, engine.spark, folder),
                "journeys": partial(_compressed, engine=engine, models=("last",)),
                "models": partial(_compressed, engine=engine, models=MODELS),
                "job": partial(_job, engine=engine),
                "paths": partial(_paths, engine=engine),
            }
            yield {name: every[name] for name in order.tasks}
    elif order.system == "pandas":
        yield {"script": lambda folder: Run(float(journey_peers.pandas_script(folder)["total_conversions"].sum()))}
    elif order.system == "numpy":
        yield {"markov_3": _markov_3(), "shapley_rate": _rate_game()}
    else:
        yield _package(order)


def _package(order: Order) -> dict[str, Work]:
    """The tasks of a package on the counted paths; where it cannot be imported they say why."""
    import pandas as pd

    try:
        tasks = journey_peers.PACKAGES[order.system](pd.read_parquet(Path(order.folder) / "paths"))
    except ImportError as error:
        return {task: partial(_missing, reason=str(error)) for task in order.tasks}

    def run(folder: Path, work: Callable[[], Any]) -> Run:
        work()
        return Run()

    return {name: partial(run, work=work) for name, work in tasks.items()}


def _missing(folder: Path, reason: str) -> Run:
    raise ImportError(f"not installed: {reason}")


# the job and its parts ----------------------------------------------------------------------------------------------


def _nothing_but(work: Callable[[Any, Path], int], spark: Any, folder: Path) -> Run:
    """A part of the way by itself. It must see every touch."""
    seen, there = work(spark, folder), journeys.rows(folder / "touches")
    if seen != there:
        raise ValueError(f"{seen} of {there} touches")
    return Run()


def _compressed(folder: Path, engine: Any, models: tuple[Any, ...]) -> Run:
    """Gate, journeys, sums and credits as the job makes them, without intervals. The gate is not in the seconds."""
    from causal_spark.methods.attribution import Attribution

    method = Attribution(models=models, person="user_id", time="ts", channel="channel", value="revenue", replicates=0)
    return _passes(engine, method, {name: folder / name for name in ("touches", "conversions")})


def _paths(folder: Path, engine: Any) -> Run:
    """All models but time decay on the counted paths."""
    from causal_spark.methods.attribution import Attribution, Paths

    names = Paths(nulls=journey_peers.NULLS, value=journey_peers.VALUE)
    models: tuple[Any, ...] = tuple(model for model in MODELS if model != "time_decay")
    method = Attribution(models=models, paths=names, replicates=0)
    return _passes(engine, method, {"paths": folder / "paths"})


def _passes(engine: Any, method: Any, tables: dict[str, Path]) -> Run:
    from causal_spark.methods import attribution
    from causal_spark.methods.attribution.run import compress

    frames = {role: engine.spark.read.parquet(str(path)) for role, path in tables.items()}
    staged = Path(next(iter(tables.values()))).parent.parent / "staged" / f"{os.getpid()}-{time.monotonic_ns()}"
    marks: list[tuple[str, float]] = []

    def mark(stage: str) -> None:
        marks.append((stage, time.perf_counter()))

    compressed = compress(engine, method, frames, lambda name: str(staged / name), mark)
    mark("solve")
    result = attribution.solve(method, compressed)
    mark("")
    shutil.rmtree(staged, ignore_errors=True)
    stages = _stages(marks)
    totals = result.diagnostics["totals"].set_index("outcome")
    attributed = float(totals.loc["conversions", "attributed"])
    return Run(attributed, stages, sum(seconds for stage, seconds in stages.items() if stage != "gate"))


def _job(folder: Path, engine: Any) -> Run:
    """The whole job with 100 replicates for intervals, tables and report included, into a new folder."""
    from causal_spark import job

    output = folder.parent / "runs" / f"{os.getpid()}-{time.monotonic_ns()}"
    config = {
        "job": "attribution",
        "input": {name: {"table": str(folder / name)} for name in ("touches", "conversions")},
        "method": {"person": "user_id", "time": "ts", "channel": "channel", "value": "revenue",
                   "models": list(MODELS)},
        "output": {"path": str(output)}, "tracking": {"enabled": False},
    }  # fmt: skip
    marks: list[tuple[str, float]] = []
    asked = job.validate(config, "attribution")
    outcome = job._run(engine, asked, lambda stage: marks.append((stage, time.perf_counter())))
    marks.append(("", time.perf_counter()))
    shutil.rmtree(output)
    assert outcome.result is not None
    totals = outcome.result.diagnostics["totals"].set_index("outcome")
    return Run(float(totals.loc["conversions", "attributed"]), _stages(marks))


def _stages(marks: list[tuple[str, float]]) -> dict[str, float]:
    return {name: round(after - at, 4) for (name, at), (_, after) in pairwise(marks)}


# the solvers by themselves ------------------------------------------------------------------------------------------


def _markov_3() -> Work:
    """Removal effects, for conversions and value, of a chain of order 3 whose states are all of 10³ triples."""
    from causal_spark.solve import chains

    many, rng = STATES_CHANNELS, np.random.default_rng(5)
    states = many**3
    digits = np.stack(np.unravel_index(np.arange(states), (many,) * 3))
    moves = np.zeros((states, states))
    for step in range(many):
        moves[np.arange(states), (digits[1] * many + digits[2]) * many + step] = rng.poisson(20, states)
    start, leaving = rng.poisson(9, states) + 1.0, rng.poisson(40, states) + 1.0
    exits = np.column_stack([leaving * 0.2, leaving * 8.0])
    owned = [np.flatnonzero((digits == channel).any(axis=0)) for channel in range(many)]

    def work(folder: Path) -> Run:
        chains.removal_effects(chains.fit(start, moves, exits, leaving), owned)
        return Run()

    return work


def _rate_game() -> Work:
    """Shapley values of the rate among 20 channels, from 50,000 different sets."""
    from causal_spark.solve import games

    rng = np.random.default_rng(6)
    masks = np.unique(rng.integers(1, 1 << GAME_CHANNELS, GAME_SETS))
    trials = rng.poisson(30, len(masks)) + 1.0
    successes = rng.binomial(trials.astype(int), 0.2).astype(float)

    def work(folder: Path) -> Run:
        games.rate_game(masks, successes, trials, GAME_CHANNELS)
        return Run()

    return work


if __name__ == "__main__":
    main()
