"""``docs/benchmarks-matching.md``, from the results: ``python -m benchmarks.matching_page``."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.aims import ENGINES, NAMES, Verdict, million
from benchmarks.page import _table as table
from benchmarks.page import peers_wanted
from benchmarks.results import Line, Results

TASKS = {
    "grid": "grid, 1,000 cells",
    "ipw": "inverse propensity weights",
    "replace": "1:1 with replacement",
    "closest": "1:1 without, closest first",
    "largest": "1:1 without, largest first",
    "clumped": "the same, treated in one clump",
    "job": "the whole job, ten covariates",
}
# Million rows a second and core, by engine: aims.
SPEEDS = {"grid": (1.94, 1.94), "replace": (2.0, 0.4), "closest": (1.0, 0.2), "largest": (1.0, 0.2)}
SLACK = 1.15  # of n·log n: what two measurements of the same may differ by
METHOD = """\
One row for each unit: ten covariates, a score, an outcome (the effect is 1), one in five treated; in the clumped case
the treated are those with the highest scores. Generated, parquet with snappy, files of 250,000 rows, read from the
page cache.

- Each system is a process of its own at each size; its tasks run one after the other in one session, each after one run
  on a table of 250,000 rows; the best of up to three runs counts (of one where it takes longer than 20 s). Starting a
  session is not in the seconds.
- The score is given: a task reads the files, puts the rows in order, matches, and gives the effect with its error.
  The whole job does all: gate, propensity, overlap, matching with replacement, balance, pairs, weights, tables, report.
- Memory is the peak of the process and its children while the task runs; the JVM of a local Spark is a child.
- Peers match one to one with replacement on the same score, without a standard error. One that takes longer than the
  limit or more memory than there is leaves a note. psmpy fits its own score. All who match the same units must find the
  same effect to 5e-6, or the run fails: distances that differ by 1e-12 of the points' size are ties here, and
  the outcomes of ties are averaged, while packages take one of them; that meets one unit in a million of the 5 M rows.
"""


def effect(one: Line) -> float:
    """The effect that was found."""
    return float(one.stages.split(";")[0].removeprefix("effect "))


def write(results: Results, path: Path) -> None:
    """The page at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_page(results.figures, results.facts)) + "\n", encoding="utf-8")


def _page(lines: Sequence[Line], facts: dict[str, Any]) -> Iterator[str]:
    found = [*_speeds(lines), *_growth(lines)]
    missed = sum(not verdict.met for verdict in found)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield "# Benchmarks of matching\n"
    yield f"{facts['date']}: {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']};"
    yield f"Python {facts['python']}, Java {facts['java'] or '–'}, {versions}."
    yield f"Repeat with `python -m benchmarks.matching` ({facts['minutes']:.0f} minutes here, 3 GB of disk; `--resume`"
    yield "goes on after an interruption). All figures: `benchmarks/matching.csv`."
    yield peers_wanted(facts, ("causalml", "dowhy", "psmpy"))
    yield f"\n## Aims: {len(found) - missed} met, {missed} missed\n"
    yield from table(("aim", "figure", ""), [(v.aim, v.figure, "met" if v.met else "**missed**") for v in found])
    yield "\n## On a given score\n\nSeconds; million rows a second and core; peak MB.\n"
    yield from table(("task", "units", *(NAMES[engine] for engine in ENGINES)), list(_ours(lines)))
    yield "\n## Peers: one to one with replacement\n\nSeconds; peak MB.\n"
    yield from table(("system", *map(million, _peer_sizes(lines))), list(_peers(lines)))
    notes = [one for one in lines if one.seconds is None]
    if notes:
        yield "\n## Left out\n"
        yield from (f"- {_name(one.system)}, {million(one.rows)}, {one.cell}: {one.note}" for one in notes)
    yield "\n## How it is measured\n"
    yield METHOD


def _at(lines: Sequence[Line], **wanted: object) -> Line | None:
    same = (one for one in lines if all(getattr(one, name) == value for name, value in wanted.items()))
    return next((one for one in same if one.seconds is not None), None)


def _speeds(lines: Sequence[Line]) -> Iterator[Verdict]:
    for task, speeds in SPEEDS.items():
        for engine, least in zip(ENGINES, speeds, strict=True):
            for one in lines:
                if (one.system, one.cell) == (engine, task) and one.rows_per_s_core and one.rows >= 1_000_000:
                    speed = one.rows_per_s_core / 1e6
                    aim = f"{NAMES[engine]}, {million(one.rows)}, {TASKS[task]}: ≥ {least:g} M rows/s/core"
                    yield Verdict(aim, f"{speed:.2f} M", speed >= least)


def _growth(lines: Sequence[Line]) -> Iterator[Verdict]:
    """From the second largest table to the largest, no more than n·log n."""
    sizes = sorted({one.rows for one in lines if one.system in ENGINES and one.rows >= 1_000_000})[-2:]
    if len(sizes) < 2:
        return
    small, large = sizes
    bound = large * math.log(large) / (small * math.log(small))
    for engine in ENGINES:
        for task in TASKS:
            first, second = (_at(lines, system=engine, cell=task, rows=rows) for rows in sizes)
            if first is not None and second is not None:
                assert first.seconds is not None
                assert second.seconds is not None
                times = second.seconds / first.seconds
                aim = f"{NAMES[engine]}, {TASKS[task]}, {million(small)} → {million(large)}: no worse than n·log n"
                yield Verdict(aim, f"× {times:.2f} for × {bound:.2f}", times <= SLACK * bound)


def _ours(lines: Sequence[Line]) -> Iterator[Sequence[str]]:
    sizes = sorted({one.rows for one in lines if one.system in ENGINES})
    for task, title in TASKS.items():
        for rows in sizes:
            both = [_at(lines, system=engine, cell=task, rows=rows) for engine in ENGINES]
            if any(one is not None for one in both):
                yield title, million(rows), *map(_cell, both)


def _cell(one: Line | None) -> str:
    if one is None:
        return "–"
    return f"{one.seconds:.2f}; {(one.rows_per_s_core or 0) / 1e6:.2f} M; {one.peak_mb or 0:.0f}"


def _peer_sizes(lines: Sequence[Line]) -> list[int]:
    return sorted({one.rows for one in lines if one.system not in ENGINES})


def _peers(lines: Sequence[Line]) -> Iterator[Sequence[str]]:
    systems = dict.fromkeys(one.system for one in lines if one.cell == "replace")
    for system in [*(s for s in systems if s in ENGINES), *(s for s in systems if s not in ENGINES)]:
        found = [_at(lines, system=system, cell="replace", rows=rows) for rows in _peer_sizes(lines)]
        texts = ["–" if one is None else f"{one.seconds:.2f}; {one.peak_mb or 0:.0f}" for one in found]
        yield _name(system), *texts


def _name(system: str) -> str:
    return NAMES.get(system, system)


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("benchmarks/matching.csv")
    write(Results.load(source), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/benchmarks-matching.md"))
