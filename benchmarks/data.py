"""The tables that are measured: written by numpy and pyarrow, part by part, each part from its own seed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP = 1_000_000  # rows in a row group at most
EFFECT = 0.02
SEGMENTS = "abcdefghij"
VERSION = "1"  # of what is written; another version is generated again


@dataclass(frozen=True)
class Table:
    """What a table holds.

    ``centres`` are the columns' true means, which a query written by hand may know. ``part``: rows in one file.
    ``warm``: the sizes on which everything is run once before a larger or equal size is timed.
    """

    name: str
    arm: str
    levels: tuple[str, str]
    segment: str | None
    columns: tuple[str, ...]
    centres: tuple[float, ...]
    part: int
    warm: tuple[int, ...]

    def warm_sizes(self, rows: int) -> tuple[int, ...]:
        return tuple(size for size in self.warm if size <= rows) or (rows,)

    def take(self, metrics: int) -> Table:
        """The same table of which only the first columns are read."""
        return replace(self, columns=self.columns[:metrics], centres=self.centres[:metrics])

    @property
    def literals(self) -> tuple[str, str] | tuple[int, int]:
        """The labels of the arms as values of their column."""
        return (int(self.levels[0]), int(self.levels[1])) if self.levels[0].isdigit() else self.levels

    def folder(self, root: Path, rows: int) -> Path:
        return root / f"{self.name}-{rows}"


WIDEST = 20
UNITS = Table(
    name="units",
    arm="variant",
    levels=("control", "treatment"),
    segment="segment",
    columns=tuple(f"metric_{k}" for k in range(WIDEST)),
    centres=tuple(k + 1.0 for k in range(WIDEST)),
    part=250_000,
    warm=(1_000_000, 5_000_000),
)
T_TEST = Table(
    name="t_test",
    arm="arm",
    levels=("0", "1"),
    segment=None,
    columns=("y",),
    centres=(10.0,),
    part=5_000_000,
    warm=(25_000_000, 50_000_000),
)
TABLES = {table.name: table for table in (UNITS, T_TEST)}


def make(root: Path, table: Table, sizes: Sequence[int]) -> None:
    """The table in its largest size, and folders of links to its first files for the smaller ones and the warm-up.

    units: unit_id BIGINT, variant and segment text, metric_k double, exponential with mean (k + 1), 2 % more when
    treated. t_test: arm TINYINT, y FLOAT, normal around 10 with deviation 3, 0.01 more when treated.
    """
    if any(size % table.part or size < 1 for size in sizes):
        raise SystemExit(f"benchmarks: a size of the table {table.name} must be a multiple of {table.part:,} rows")
    wanted = sorted({warm for size in sizes for warm in (size, *table.warm_sizes(size))})
    largest = table.folder(root, wanted.pop())
    _write(largest, max(sizes) // table.part, _units_part if table.name == "units" else _t_test_part)
    for size in wanted:
        folder = table.folder(root, size)
        if _ready(folder).exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for part in range(size // table.part):
            os.link(largest / _file(part), folder / _file(part))
        _ready(folder).touch()


def _write(folder: Path, parts: int, write: Callable[[Path, int], None]) -> None:
    """All parts on all cores, unless the folder is there and whole."""
    if _ready(folder).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda part: write(folder / _file(part), part), range(parts)))
    os.sync()  # so that no write is left to disturb the first figures
    _ready(folder).touch()


def _units_part(path: Path, part: int) -> None:
    rng = np.random.default_rng([7, part])
    treated = rng.integers(0, 2, UNITS.part, dtype=np.int8)
    shares = (2.0 / 3.0) ** np.arange(len(SEGMENTS))
    segment = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], rng.random(UNITS.part)).astype(np.int8)
    factor = np.where(treated == 1, 1.0 + EFFECT, 1.0)
    columns: dict[str, object] = {
        "unit_id": np.arange(part * UNITS.part, (part + 1) * UNITS.part, dtype=np.int64),
        UNITS.arm: pa.DictionaryArray.from_arrays(pa.array(treated), list(UNITS.levels)).dictionary_decode(),
        "segment": pa.DictionaryArray.from_arrays(pa.array(segment), list(SEGMENTS)).dictionary_decode(),
    }
    for name, mean in zip(UNITS.columns, UNITS.centres, strict=True):
        columns[name] = rng.standard_exponential(UNITS.part) * (factor * mean)
    pq.write_table(pa.table(columns), path, use_dictionary=[UNITS.arm, "segment"])


def _t_test_part(path: Path, part: int) -> None:
    rng = np.random.default_rng([11, part])
    arm = rng.integers(0, 2, T_TEST.part, dtype=np.int8)
    y = rng.standard_normal(T_TEST.part, dtype=np.float32) * np.float32(3) + np.float32(10)
    y += arm * np.float32(0.01)
    pq.write_table(pa.table({"arm": arm, "y": y}), path, use_dictionary=["arm"], row_group_size=GROUP)


def _file(part: int) -> str:
    return f"part-{part:05d}.parquet"


def _ready(folder: Path) -> Path:
    """The mark that the folder is whole. It stands beside it, since engines read all that is in it."""
    return folder.with_name(f"{folder.name}.ready-{VERSION}")
