"""``docs/benchmarks-attribution.md``, from the results: ``python -m benchmarks.attribution_page``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.aims import ENGINES, NAMES, Verdict
from benchmarks.journey_lines import Line, read
from benchmarks.page import _table as table
from benchmarks.page import peers_wanted

SPEEDS = {"sail": 2.5, "spark": 0.6}  # million touches a second and core, from touches to counted paths
ADDED, MARKOV, GAME = 0.25, 2.0, 1.0
METHOD = """\
Touches (user_id, ts, channel) and conversions (user_id, ts, revenue), simulated; P(a person has more than n touches)
falls like n^−1.2 up to 2,000; parquet. Each system is a process of its own (on an engine `script`, `lists` and `moved`
have one, the job another); one that takes longer than the limit is ended and keeps what it found. Tasks of one process
take turns, every other round backwards, after one run on a small table; the best of up to three runs counts. Memory is
the peak of the process and its children.

- `journeys`: touches to counted paths and last touch, window 30 days: what the job does after its gate, one shuffle,
  sums to the driver, equal paths counted. `models`: the same with ten rules, Markov of order 1 and Shapley.
  Neither has intervals. `job`: everything, with 100 bootstrap replicates for intervals, gate, tables, report.
- `script`, on an engine: windows, an ordered list of structs for each journey, equal paths counted, as the public
  accelerators do it. In pandas: sort, number the journeys, join their channels, count.
- Two things that every form of the journeys must do, alone: `lists`, all touches into a sorted list of packed numbers
  for each person in the engine's own expressions, no journeys cut; `moved`, all touches into the job's buckets and over
  to Python, nothing done there.
- Packages start from the counted paths. Some compute other numbers than the exact ones (see the page on attribution);
  what is compared here is time.
- All who make journeys of the same events must find the same number of conversions with a touch, or the run fails.
"""

WHY = """\
- {name}, {size}: to bring the touches into the buckets and over to Python (`moved`) takes
  {moved:.0%} of the time of `journeys`. Sorted lists in the engine's own expressions, with no journey cut (`lists`),
  run at {lists} M touches a second and core.
"""


def write(lines: Sequence[Line], facts: dict[str, Any], path: Path) -> None:
    """The page at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_page(lines, facts)) + "\n", encoding="utf-8")


def _page(lines: Sequence[Line], facts: dict[str, Any]) -> Iterator[str]:
    found = verdicts(lines)
    missed = sum(not verdict.met for verdict in found)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield "# Benchmarks of attribution\n"
    yield f"{facts['date']}: {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']};"
    yield f"Python {facts['python']}, Java {facts['java'] or '–'}, {versions}."
    yield f"Repeat with `python -m benchmarks.attribution` ({facts['minutes']:.0f} minutes here; `--large` adds 100 M"
    yield "touches, `--resume` goes on after an interruption). All figures: `benchmarks/attribution.csv`."
    yield peers_wanted(facts, ("marketing-attribution-models",))
    yield f"\n## Aims: {len(found) - missed} met, {missed} missed\n"
    yield from table(("aim", "figure", ""), [(v.aim, v.figure, "met" if v.met else "**missed**") for v in found])
    yield "\n**Why the speeds are missed.**"
    yield from _why(lines)
    yield "\n## Touches to credits\n\nSeconds, in brackets million touches a second and core; then peak MB.\n"
    head = ("engine", "touches", "channels", "journeys", "models", "added", "whole job", "script", "lists", "moved",
            "MB", "MB script")  # fmt: skip
    yield from table(head, list(_raw_rows(lines)))
    yield "\n## Counted paths to credits\n\nSeconds; the paths are those of the touches named.\n"
    yield from table(("system", "touches", "channels", "task", "seconds", "MB"), list(_path_rows(lines)))
    notes = [line for line in lines if line.seconds is None or line.note]
    if notes:
        yield "\n## Left out\n"
        yield from (f"- {named(line.system)}, {_size(line)}, {line.task}: {line.note or 'not reached'}"
                    for line in notes)  # fmt: skip
    yield "\n## How it is measured\n"
    yield METHOD


def verdicts(lines: Sequence[Line]) -> list[Verdict]:
    """All aims on all that was measured."""
    return [*_speeds(lines), *_added(lines), *_solvers(lines)]


def _why(lines: Sequence[Line]) -> Iterator[str]:
    """What the parts of the way cost by themselves, at the largest size of each engine."""
    for engine in ENGINES:
        parts = [line for line in lines if (line.system, line.task) == (engine, "moved") and line.seconds]
        for moved in sorted(parts, key=lambda line: -line.touches)[:1]:
            whole, lists = (at(lines, moved, task) for task in ("journeys", "lists"))
            if moved.seconds and whole and whole.seconds and lists:
                share = moved.seconds / whole.seconds
                yield WHY.format(name=NAMES[engine], size=_size(moved), moved=share, lists=_speed(lists)).rstrip()


def _speeds(lines: Sequence[Line]) -> Iterator[Verdict]:
    for engine in ENGINES:
        for line in lines:
            if (line.system, line.task) == (engine, "journeys") and line.touches_per_s_core:
                speed, least = line.touches_per_s_core / 1e6, SPEEDS[engine]
                script = at(lines, line, "script")
                beside = f" ({_speed(script)} M by the script)" if script and script.seconds else ""
                aim = f"{NAMES[engine]}, {_size(line)}: touches → counted paths ≥ {least} M touches/s/core"
                yield Verdict(aim, f"{speed:.2f} M{beside}", speed >= least)


def _added(lines: Sequence[Line]) -> Iterator[Verdict]:
    for engine in ENGINES:
        for line in lines:
            plain = at(lines, line, "journeys")
            if (line.system, line.task) == (engine, "models") and line.seconds and plain and plain.seconds:
                share = line.seconds / plain.seconds - 1
                aim = f"{NAMES[engine]}, {_size(line)}: rules, Markov of order 1 and Shapley add < {ADDED:.0%}"
                yield Verdict(aim, f"{share:+.0%}", share < ADDED)


def _solvers(lines: Sequence[Line]) -> Iterator[Verdict]:
    aims = {"markov_3": ("Markov of order 3 on 1,000 states", MARKOV),
            "shapley_rate": ("rate-game Shapley with 20 channels", GAME)}  # fmt: skip
    for line in lines:
        if line.system == "numpy" and line.seconds:
            what, most = aims[line.task]
            yield Verdict(f"{what} < {most:g} s", f"{line.seconds:.2f} s", line.seconds < most)


def _raw_rows(lines: Sequence[Line]) -> Iterator[Sequence[str]]:
    for line in lines:
        if line.task == "journeys":
            models, job, script, lists, moved = (
                at(lines, line, task) for task in ("models", "job", "script", "lists", "moved"))  # fmt: skip
            share = "–"
            if line.seconds and models and models.seconds:
                share = f"{models.seconds / line.seconds - 1:+.0%}"
            yield (named(line.system), f"{line.touches:,}", str(line.channels), _both(line), _s(models), share, _s(job),
                   _both(script), _both(lists), _both(moved), _mb(line), _mb(script))  # fmt: skip
        elif line.system == "pandas":
            yield (named(line.system), f"{line.touches:,}", str(line.channels), *["–"] * 4, _both(line), *["–"] * 3,
                   _mb(line))  # fmt: skip


def _path_rows(lines: Sequence[Line]) -> Iterator[Sequence[str]]:
    for line in lines:
        if line.touches and line.task in ("paths", "rules", "markov_1", "shapley") and line.seconds:
            task = "ten rules, Markov of order 1, Shapley" if line.task == "paths" else line.task
            yield named(line.system), f"{line.touches:,}", str(line.channels), task, _s(line), _mb(line)


def at(lines: Sequence[Line], like: Line, task: str) -> Line | None:
    """Another task of the same system on the same journeys."""
    key = (like.system, like.touches, like.channels)
    return next((x for x in lines if x.task == task and (x.system, x.touches, x.channels) == key), None)


def named(system: str) -> str:
    return {**NAMES, "pandas": "pandas", "numpy": "numpy"}.get(system, system)


def _size(line: Line) -> str:
    return f"{line.touches / 1e6:.3g} M touches, {line.channels} channels" if line.touches else "solver alone"


def _s(line: Line | None) -> str:
    return "–" if line is None or line.seconds is None else f"{line.seconds:.2f}"


def _speed(line: Line) -> str:
    return "–" if not line.touches_per_s_core else f"{line.touches_per_s_core / 1e6:.2f}"


def _both(line: Line | None) -> str:
    return "–" if line is None or line.seconds is None else f"{line.seconds:.2f} ({_speed(line)})"


def _mb(line: Line | None) -> str:
    return "–" if line is None or line.peak_mb is None else f"{line.peak_mb:,.0f}"


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("benchmarks/attribution.csv")
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/benchmarks-attribution.md")
    write(read(source), json.loads(source.with_suffix(".json").read_text()), target)
