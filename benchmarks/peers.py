"""The peers, each at its best setting: DuckDB on all cores, pandas on the columns needed, tea-tasting on DuckDB."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.data import Table
from benchmarks.effects import ALL, Cells, Effects, effects
from benchmarks.machine import cores

PANDAS_BYTES = 2.0  # peak memory of pandas in sizes of the columns it reads …
PANDAS_ROW = 64  # … and bytes a row besides, for the two labels and the groups


def pandas_peak(rows: int, metrics: int) -> float:
    """Bytes that the analysis in pandas is expected to need."""
    return rows * (metrics * 8 * PANDAS_BYTES + PANDAS_ROW)


def duckdb_connection() -> Any:
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {cores()}")
    return connection


def duckdb_floor(connection: Any, folder: Path, table: Table) -> dict[str, float]:
    asked = ", ".join(f"sum({name})" for name in table.columns)
    row = connection.execute(f"SELECT {asked} FROM {_parquet(folder)}").fetchone()
    return dict(zip(table.columns, row, strict=True))


def duckdb_group_by(connection: Any, folder: Path, table: Table, segments: bool) -> Cells:
    """count, avg, var_samp of each metric by arm, or by arm and segment."""
    asked = ", ".join(f"avg({name}), var_samp({name})" for name in table.columns)
    cells: Cells = {}
    for *key, n, row in _duckdb_rows(connection, folder, table, segments, asked):
        cells[str(key[0]), str(key[1])] = (n, row[::2], row[1::2])
    return cells


def duckdb_centred(connection: Any, folder: Path, table: Table, segments: bool) -> Cells:
    """The same by sums about a known centre."""
    pairs = list(zip(table.columns, table.centres, strict=True))
    asked = ", ".join(
        f"sum({name}::DOUBLE - {c}::DOUBLE), sum(({name}::DOUBLE - {c}::DOUBLE) * ({name}::DOUBLE - {c}::DOUBLE))"
        for name, c in pairs
    )
    cells: Cells = {}
    for *key, n, row in _duckdb_rows(connection, folder, table, segments, asked):
        means = [c + s / n for (_, c), s in zip(pairs, row[::2], strict=True)]
        variances = [(q - s * s / n) / (n - 1) for s, q in zip(row[::2], row[1::2], strict=True)]
        cells[str(key[0]), str(key[1])] = (n, means, variances)
    return cells


def _duckdb_rows(connection: Any, folder: Path, table: Table, segments: bool, asked: str) -> list[tuple[Any, ...]]:
    """(arm, segment, n, numbers) of each group."""
    keys = [table.arm, str(table.segment)] if segments else [table.arm]
    query = f"SELECT {', '.join(keys)}, count(*), {asked} FROM {_parquet(folder)} GROUP BY {', '.join(keys)}"
    width = len(keys)
    return [
        (row[0], row[1] if segments else ALL, row[width], row[width + 1 :])
        for row in connection.execute(query).fetchall()
    ]


def _parquet(folder: Path) -> str:
    return f"read_parquet('{folder}/*.parquet')"


def pandas_analysis(folder: Path, table: Table) -> Effects:
    """Read the needed columns (labels as categories), group, and Welch's test of scipy for each segment and metric."""
    import pyarrow.parquet as pq
    from scipy import stats

    columns = list(table.columns)
    labels = [table.arm, str(table.segment)]
    read = pq.read_table(folder, columns=[*labels, *columns], read_dictionary=labels)
    read = read.unify_dictionaries()
    frame = read.to_pandas(split_blocks=True, self_destruct=True)
    del read
    cells: Cells = {}
    for keys in ([table.arm], labels):
        grouped = frame.groupby(keys, observed=True, sort=False)
        sizes, means, variances = grouped.size(), grouped[columns].mean(), grouped[columns].var()
        for key, n in sizes.items():
            arm, segment = (str(key[0]), str(key[1])) if isinstance(key, tuple) else (str(key), ALL)
            cells[arm, segment] = (int(n), means.loc[key].tolist(), variances.loc[key].tolist())
    found = effects(cells, table.levels)
    for segment in found:
        (n0, mean0, var0), (n1, mean1, var1) = (cells[level, segment] for level in table.levels)
        for a, b, v, w in zip(mean0, mean1, var0, var1, strict=True):
            stats.ttest_ind_from_stats(b, w**0.5, n1, a, v**0.5, n0, equal_var=False)
    del frame
    gc.collect()
    return found


def tea_experiment(table: Table) -> Any:
    import tea_tasting as tt  # type: ignore[import-untyped]

    metrics = {name: tt.Mean(name) for name in table.columns}
    return tt.Experiment(metrics, variant=table.arm)


def tea_connection() -> Any:
    """DuckDB through Ibis.

    Ibis imports ``pyarrow_hotfix``, which comes with its extra ``[duckdb]`` and does nothing on pyarrow ≥ 14.0.1,
    where the fix is built in; where the extra is not installed, an empty module takes its place.
    """
    if importlib.util.find_spec("pyarrow_hotfix") is None:
        sys.modules["pyarrow_hotfix"] = ModuleType("pyarrow_hotfix")
    import ibis  # type: ignore[import-untyped]

    return ibis.duckdb.connect(threads=cores())


def tea_by_segment(connection: Any, folder: Path, table: Table) -> Effects:
    """As its guide shows: ``analyze`` on the table, then on each segment of it."""
    import ibis

    data = connection.read_parquet(f"{folder}/*.parquet")
    experiment = tea_experiment(table)
    segment = str(table.segment)
    found = {ALL: _tea(experiment.analyze(data, control=table.levels[0]))}
    values = data.select(segment).distinct().to_pyarrow()[segment].to_pylist()
    for value in values:
        part = data.filter(data[segment] == ibis.literal(value))
        found[value] = _tea(experiment.analyze(part, control=table.levels[0]))
    return found


def tea_one_scan(connection: Any, folder: Path, table: Table) -> Effects:
    """Its aggregates by arm and segment in one query, merged for all rows; then ``analyze`` on aggregates."""
    import tea_tasting as tt

    data = connection.read_parquet(f"{folder}/*.parquet")
    data = data.mutate(cell=data[table.arm] + "|" + data[str(table.segment)])
    columns = table.columns
    cells = tt.aggr.read_aggregates(data, "cell", has_count=True, mean_cols=columns, var_cols=columns, cov_cols=())
    by_segment: dict[str, dict[object, Any]] = {}
    for key, aggregates in cells.items():
        arm, segment = str(key).split("|")
        by_segment.setdefault(segment, {})[arm] = aggregates
        whole = by_segment.setdefault(ALL, {})
        whole[arm] = whole[arm] + aggregates if arm in whole else aggregates
    experiment = tea_experiment(table)
    return {segment: _tea(experiment.analyze(parts, control=table.levels[0])) for segment, parts in by_segment.items()}


def _tea(result: Any) -> list[list[float]]:
    return [[item.effect_size, item.effect_size / item.statistic] for item in result.values()]


TEA_FORMS: dict[str, Callable[[Any, Path, Table], Effects]] = {
    "analyze for each segment": tea_by_segment,
    "aggregates in one scan": tea_one_scan,
}
DUCKDB_FORMS: dict[str, Callable[[Any, Path, Table, bool], Cells]] = {
    "group-by": duckdb_group_by,
    "centred": duckdb_centred,
}
