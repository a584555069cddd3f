"""``docs/benchmarks.md`` and its plot, from the results: ``python -m benchmarks.page``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.aims import ENGINES, NAMES, Sheet, counted, million, seconds, stages, verdicts

if TYPE_CHECKING:
    from benchmarks.results import Line, Results

METHOD = """\
One row for each unit: a text arm (two), a text segment (ten), up to twenty doubles; generated, parquet with snappy,
files of 250,000 rows. The t-test's table: a TINYINT arm and a FLOAT, files of 5 M rows. Everybody reads the same files
from the page cache and only the columns that are needed.

- Each kind of cell runs in a process of its own: `floor`, the queries by hand and the naive script in one, `compress`
  in another, the job in a third, each peer in its own. Those of an engine are open side by side with DuckDB's and
  take turns, every other round backwards, so that a drift of the machine hits all of them; ratios are taken inside
  such a lane. Starting a session is not in the seconds (`session_s` in the CSV); nor is the first run
  (`first_s`).
- Everything is warmed up on 1 M and on 5 M rows (25 M and 50 M for the t-test), then the best of three counts, of two
  from 50 M rows on or where it takes longer than 20 s, of one beyond 40 s; the median is in the CSV.
- Memory is the peak resident memory of the process and its children while the task runs, from `/proc`; the JVM of a
  local Spark is a child. Processes that are measured one task after the other keep what they have grown to.
- `floor`: the engine's own `sum` of the same columns. `DuckDB`: its best of `avg`/`var_samp` and of centred sums by
  the same keys, all cores, the same files. `by hand`: the best of several forms of a DataFrame query for the same
  statistics. Above 5 M rows, forms
  that are 25 % behind on 5 M rows (50 M of the t-test) are left out.
- The peers do the whole analysis, all units and each segment: pandas reads the columns with pyarrow, labels as
  categories, and tests with scipy; tea-tasting runs on DuckDB through Ibis, the better of its guide's way and of
  one scan of its aggregates by arm and segment; the naive script runs two jobs a metric on the same engine.
- `job` is the whole experiment job on the unit table, gate, tables and report included, in an open session and into a
  new folder each time; with tracking it also logs to a new SQLite store, measured with one number of metrics below
  50 M rows. The naive script is left out where it would take minutes: its time grows with rows × metrics.
- All who compute the same thing must agree to 1e-9, or the run fails.
"""

WHY = """\
- *compress against the query by hand, one metric*: the query by hand trusts that a text arm has two labels; compress
  compares every row with each label, so that a third one cannot pass unseen. With ten metrics it weighs little.
- *the whole job*: its seconds hold the trust gate (a scan for ranges, NULLs and NaN, a group-by of the keys), the
  tables and the report, which no peer makes; the fewer the metrics, the more of the job they are. Local Spark
  pays a tenth of a second and more for each of its stages.
- *tea-tasting* runs on DuckDB: the comparison at 50 M rows is one of Sail with DuckDB.
- *t-test, local Spark*: the sum of the column alone takes Spark about the time of DuckDB's whole group-by.
- *memory on Sail*: the engine runs inside the process, so its read buffers count; at 50 M rows half a gigabyte.
- *growth on Sail*: one metric in two arms and ten segments is the case beyond the aim; why is not known.
"""


def write(results: Results, path: Path) -> None:
    """The page at ``path`` and the plot beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plot = path.with_suffix(".svg")
    sheet = Sheet(results.figures)
    draw(sheet, plot)
    path.write_text("\n".join(_page(results, sheet, plot.name)) + "\n")


def _page(results: Results, sheet: Sheet, plot: str) -> Iterator[str]:
    found = verdicts(results.figures)
    missed = [verdict for verdict in found if not verdict.met]
    yield "# Benchmarks\n"
    yield from _facts(results.facts)
    yield f"\n![rows per second and core]({plot})\n"
    yield f"## Aims: {len(found) - len(missed)} met, {len(missed)} missed\n"
    yield from _table(("aim", "figure", ""), [(v.aim, v.figure, "met" if v.met else "**missed**") for v in found])
    yield "\nWhy those are missed:\n"
    yield WHY
    yield "## Compress\n\nSeconds; then million rows a second and core, and the ratios to the floors.\n"
    yield from _table(COMPRESS, list(_compress_rows(sheet)))
    yield "\n## The whole analysis\n\nSeconds, two arms and ten segments. `–`: not measured, see below.\n"
    yield from _table(("rows", "metrics", *(title for title, _ in _columns(sheet))), list(_analysis_rows(sheet)))
    t_test = list(_t_test_rows(sheet))
    if t_test:
        yield "\n## t-test of one FLOAT column by a TINYINT arm\n"
        yield from _table(("", "query", "seconds", "M rows/s/core", "÷ floor", "÷ DuckDB", "MB"), t_test)
    yield "\n## Queries by hand\n\nSeconds of the forms that were timed.\n"
    yield from _table(("rows", "metrics", "layout", *(NAMES[engine] for engine in ENGINES)), list(_form_rows(sheet)))
    notes = [one for one in results.figures if one.seconds is None and one.note]
    if notes:
        yield "\n## Left out\n"
        yield from (f"- {_where(one)}: {one.note}" for one in notes)
    yield "\n## How it is measured\n"
    yield METHOD


def _facts(facts: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield f"{facts['date']}: {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']};"
    yield f"Python {facts['python']}, Java {facts['java'] or '–'}, {versions}."
    yield f"Repeat with `make bench` ({facts['minutes']:.0f} minutes here, 11 GB of disk; `python -m benchmarks.run"
    yield "--quick` for a first look, `--resume` after an interruption). All figures: `benchmarks/results.csv`."
    if facts.get("caveat"):
        yield f"\n**{facts['caveat']}**"


def peers_wanted(facts: Mapping[str, Any], names: Sequence[str]) -> str:
    """How to install the peers that the lock files do not hold, in the versions that were measured."""
    pinned = (f"{name}=={facts['versions'][name]}" for name in names)
    return f"The peers that `make test` does not install: `pip install {' '.join(pinned)}`."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


COMPRESS = ("engine", "rows", "metrics", "layout", "floor", "compress", "M rows/s/core", "÷ floor", "÷ DuckDB",
            "÷ by hand", "best by hand", "MB")  # fmt: skip


def _compress_rows(sheet: Sheet) -> Iterator[Sequence[str]]:
    for one in sheet.find(table="units", cell="compress"):
        same = {"system": one.system, "table": "units", "rows": one.rows, "metrics": one.metrics}
        floor, hand = (
            sheet.best(cell="floor", lane=one.lane, **same),
            sheet.best(cell="hand", layout=one.layout, **same),
        )
        yield (
            NAMES[one.system], million(one.rows), str(one.metrics), one.layout, _s(floor), _s(one), _speed(one),
            _x(one.to_floor), _x(one.to_duckdb), _x(one.to_hand), hand.form if hand else "–", f"{one.peak_mb:.0f}",
        )  # fmt: skip


def _columns(sheet: Sheet) -> list[tuple[str, Any]]:
    """Title and content of the columns of the comparison with the peers."""
    columns: list[tuple[str, Any]] = []
    for engine in ENGINES:
        name = NAMES[engine]
        columns.append((f"{name}: compress, solve", lambda r, m, e=engine: _like(sheet.job(e, r, m))))
        columns.append((f"{name}: job", lambda r, m, e=engine: _s(sheet.job(e, r, m))))
        columns.append((f"{name}: job, tracked", lambda r, m, e=engine: _s(_tracked(sheet, e, r, m))))
        columns.append((f"{name}: naive", lambda r, m, e=engine: _s(sheet.peer(e, r, m))))
    for peer in ("tea-tasting", "pandas"):
        columns.append((NAMES[peer], lambda r, m, p=peer: _s(sheet.peer(p, r, m))))
    return columns


def _tracked(sheet: Sheet, engine: str, rows: int, metrics: int) -> Line | None:
    return sheet.best(cell="job", form="tracked", system=engine, rows=rows, metrics=metrics)


def _like(job: Line | None) -> str:
    if job is None:
        return "–"
    part = stages(job)
    return f"{part['compress'] + part['solve']:.2f}"


def _analysis_rows(sheet: Sheet) -> Iterator[Sequence[str]]:
    for rows in sheet.sizes:
        for metrics in sheet.metrics:
            yield million(rows), str(metrics), *(content(rows, metrics) for _, content in _columns(sheet))


def _t_test_rows(sheet: Sheet) -> Iterator[Sequence[str]]:
    for one in sorted(sheet.find(table="t_test"), key=lambda line: (line.lane, line.system, seconds(line))):
        name = NAMES[one.system] + (f" (beside {NAMES[one.lane]})" if one.system == "duckdb" else "")
        query = f"{one.cell}: {one.form}" if one.form else one.cell
        yield name, query, _s(one), _speed(one), _x(one.to_floor), _x(one.to_duckdb), f"{one.peak_mb:.0f}"


def _form_rows(sheet: Sheet) -> Iterator[Sequence[str]]:
    for rows in sheet.sizes:
        for metrics in sheet.metrics:
            for layout in ("all", "segments"):
                texts = []
                for engine in ENGINES:
                    same = {"table": "units", "cell": "hand", "system": engine}
                    found = sheet.find(**same, rows=rows, metrics=metrics, layout=layout)
                    texts.append(", ".join(f"{one.form} {_s(one)}" for one in sorted(found, key=seconds)) or "–")
                yield million(rows), str(metrics), layout, *texts


def _where(one: Line) -> str:
    what = " ".join(part for part in (one.cell, one.layout, one.form) if part)
    return f"{NAMES.get(one.system, one.system)}, {million(one.rows)} × {one.metrics}, {what}"


def _s(one: Line | None) -> str:
    return "–" if one is None else (f"{seconds(one):.2f}" if seconds(one) >= 0.1 else f"{seconds(one):.3f}")


def _speed(one: Line) -> str:
    return "–" if one.rows_per_s_core is None else f"{one.rows_per_s_core / 1e6:.1f}"


def _x(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"


def line(one: Any) -> str:
    """A figure for the terminal."""
    name = f"{one.system:11} {one.cell:10} {one.layout:8} {one.form:27}"
    if one.seconds is None:
        return f"{name} {one.note}"
    memory = f"{one.peak_mb:5.0f} MB, read {one.read_mb:6.0f} MB"
    return (
        f"{name} {one.seconds:8.3f} s (median {one.median_s:.3f}, cpu {one.cpu_s:.2f}) {memory} {one.note}{one.stages}"
    )


SERIES = (
    ("Sail: compress, solve", "sail", "#1b6ca8"),
    ("local Spark: compress, solve", "spark", "#6aa9d8"),
    ("tea-tasting", "tea-tasting", "#d08c2f"),
    ("pandas + scipy", "pandas", "#8a8a8a"),
    ("Sail: naive", "naive sail", "#a34a4a"),
    ("local Spark: naive", "naive spark", "#d79a9a"),
)


def draw(sheet: Sheet, path: Path) -> None:
    """Rows per second and core by size, of the whole analysis: a panel for each number of metrics."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "causal_spark", "font.size": 9, "svg.fonttype": "none"})
    panels = sheet.metrics or [1]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6), sharey=True, squeeze=False)
    for axis, metrics in zip(axes[0], panels, strict=True):
        for title, system, colour in SERIES:
            points = [(rows, speed) for rows in sheet.sizes if (speed := _analysis_speed(sheet, system, rows, metrics))]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", color=colour, label=title)
        axis.set(xscale="log", yscale="log", xlabel="units", title=counted(metrics))
        axis.set_xticks(sheet.sizes, [million(rows) for rows in sheet.sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("rows per second and core")
    handles, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _analysis_speed(sheet: Sheet, system: str, rows: int, metrics: int) -> float | None:
    if system in ENGINES:
        job = sheet.job(system, rows, metrics)
        if job is None or job.rows_per_s_core is None:
            return None
        part = stages(job)
        return job.rows_per_s_core * seconds(job) / (part["compress"] + part["solve"])
    peer = sheet.peer(system.removeprefix("naive "), rows, metrics)
    return None if peer is None else peer.rows_per_s_core


if __name__ == "__main__":
    from benchmarks.results import Results

    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("benchmarks/results.csv")
    write(Results.load(source), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/benchmarks.md"))
