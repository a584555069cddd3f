"""``docs/benchmarks-platform.md`` from the lines of ``benchmarks.platform``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.aims import ENGINES, NAMES, Verdict
from benchmarks.page import _table as table
from benchmarks.page import peers_wanted
from benchmarks.platform_tasks import DRAWS, REPLICATES, SPLITS

COLUMNS = ("system", "task", "rows", "seconds", "rows_per_s_core", "peak_mb", "python_mb", "estimate", "std_error",
           "note")  # fmt: skip
PUBLISHED = 118_000  # rows a second and core: the best published figure of a bootstrap with 200 replicates
TIMES = 3.0  # the engine's own percentile of the same column
TITLES = {
    "bootstrap": f"Difference of means, bootstrap with {REPLICATES} replicates",
    "quantiles": "Effects on p50 and p90 with standard errors",
    "percentile": "The engine's own exact percentiles, no standard error",
    "percentile_approx": "The engine's own approximate percentiles, no standard error",
    "splits": f"{SPLITS:,} A/A splits judged",
    "draws": f"The balanced one of {DRAWS} salts (re-randomisation)",
}
METHOD = """
- A table of (unit, arm, value), parquet, files of a million rows; value lognormal, 2 % more when treated.
- Best of two after a warm-up, once from 50 M rows on; what takes 20 seconds is not repeated. Every line is a process
  of its own; memory is the peak of the process with its children, and of Python in it.
- Engines read the files in the time measured; peers hold the table in memory before the clock starts.
- scipy and tea-tasting draw their replicates in batches of 10; ambrosia all at once, which limits what it can hold.
  hypex judges every split by a t-test and by a Kolmogorov–Smirnov test. tea-tasting's quantiles are bootstraps with
  the same number of replicates.
- In lines of splits `estimate` is the rejection rate and `std_error` the standard deviation of z;
  in lines of salts, the number of the first balanced salt and its Mahalanobis distance.
"""

Line = Mapping[str, str]


def write(lines: Sequence[Line], facts: Mapping[str, Any], path: Path) -> None:
    """Make the page anew."""
    path.write_text("\n".join(_page(lines, facts)) + "\n", encoding="utf-8")


def _page(lines: Sequence[Line], facts: Mapping[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    found = [*_bootstraps(lines), *_quantiles(lines)]
    met = sum(verdict.met for verdict in found)
    yield "# Benchmarks: beyond means\n"
    yield f"{facts['date']}: {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']};"
    yield f"Python {facts['python']}, Java {facts['java'] or '–'}, {versions}."
    yield "Repeat with `python -m benchmarks.platform` (`--resume` goes on after an interruption)."
    yield "All figures: `benchmarks/platform.csv`."
    yield peers_wanted(facts, ("ambrosia", "hypex"))
    yield f"\n## Aims: {met} met, {len(found) - met} missed\n"
    yield from table(("aim", "figure", ""), [(v.aim, v.figure, "met" if v.met else "**missed**") for v in found])
    for task in dict.fromkeys(line["task"] for line in lines):
        mine = sorted((line for line in lines if line["task"] == task), key=lambda line: int(line["rows"]))
        yield f"\n## {TITLES.get(task, task)}\n"
        heads = ("rows", "system", "seconds", "rows/s/core", "peak MB", "Python MB", "estimate", "standard error", "")
        yield from table(heads, [_row(line) for line in mine])
    yield "\n## How it is measured"
    yield METHOD


def _row(line: Line) -> Sequence[str]:
    whole = (f"{int(line[name]):,}" if line[name] else "–" for name in ("rows_per_s_core", "peak_mb", "python_mb"))
    numbers = ("–" if not line[name] or math.isnan(float(line[name])) else f"{float(line[name]):.5g}"
               for name in ("estimate", "std_error"))  # fmt: skip
    name = NAMES.get(line["system"], line["system"])
    return f"{int(line['rows']):,}", name, line["seconds"] or "–", *whole, *numbers, line["note"]


def _seconds(lines: Sequence[Line], system: str, task: str, rows: str) -> float | None:
    same = (line for line in lines if (line["system"], line["task"], line["rows"]) == (system, task, rows))
    return next((float(line["seconds"]) for line in same if line["seconds"]), None)


def _bootstraps(lines: Sequence[Line]) -> Iterator[Verdict]:
    for line in lines:
        if line["system"] in ENGINES and line["task"] == "bootstrap" and line["rows_per_s_core"]:
            speed, rows = int(line["rows_per_s_core"]), int(line["rows"])
            aim = f"{NAMES[line['system']]}, {rows:,} rows, bootstrap: ≥ {PUBLISHED:,} rows/s/core"
            yield Verdict(aim, f"{speed:,}", speed >= PUBLISHED)


def _quantiles(lines: Sequence[Line]) -> Iterator[Verdict]:
    """Against the faster of the engine's own percentiles: more than was asked, of those that came to an end."""
    for engine in ENGINES:
        for rows in sorted({line["rows"] for line in lines}, key=int):
            ours = _seconds(lines, engine, "quantiles", rows)
            own = [_seconds(lines, engine, task, rows) for task in ("percentile", "percentile_approx")]
            ended = [seconds for seconds in own if seconds is not None]
            if ours is not None and ended:
                aim = f"{NAMES[engine]}, {int(rows):,} rows, quantile effects: ≤ {TIMES:g} × its own percentiles"
                yield Verdict(aim, f"{ours / min(ended):.2f} ×", ours <= TIMES * min(ended))
