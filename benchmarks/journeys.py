"""The journeys that are measured: simulated part by part, each part from its own seed and with its own persons."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from causal_spark.simulate_journeys import JourneyDesign, journeys

PERSONS = 100_000  # of a part; they have about 450,000 touches, P(more than n) ~ n^-1.2
VERSION = "1"  # of what is written; another version is generated again


def make(root: Path, touches: int, channels: int) -> Path:
    """The folder of ``touches`` (user_id, ts, channel) and ``conversions`` (user_id, ts, revenue), made if need be.

    Persons are whole, so that up to 2,000 touches may be missing from the number asked for.
    """
    folder = root / f"journeys-{touches}-{channels}"
    ready = folder.with_name(f"{folder.name}.ready-{VERSION}")
    if ready.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("touches", "conversions"):
        (folder / name).mkdir(parents=True)
    design, done, part = JourneyDesign(channels=channels), 0, 0
    many = os.cpu_count() or 1
    with ThreadPoolExecutor(many) as pool:
        while done < touches:
            for number, tables in enumerate(pool.map(lambda p: _part(p, design), range(part, part + many)), part):
                if done < touches:
                    done += _write(folder, number, *tables, most=touches - done)
            part += many
    os.sync()  # so that no write is left to disturb the first figures
    ready.touch()
    return folder


def _part(part: int, design: JourneyDesign) -> tuple[pa.Table, pa.Table]:
    log = journeys(PERSONS, part, design)
    return log.touches.select(["user_id", "ts", "channel"]), log.conversions


def _write(folder: Path, part: int, touches: pa.Table, conversions: pa.Table, most: int) -> int:
    """Write the first persons of a part who together have at most ``most`` touches; the touches that are done."""
    who = touches["user_id"].to_numpy()
    first = int(who.min())
    fit = int((np.cumsum(np.bincount(who - first)) <= most).sum())
    for name, table in (("touches", touches), ("conversions", conversions)):
        mine = table.filter(pc.less(table["user_id"], first + fit))
        owner = pc.add(mine["user_id"], pa.scalar(part * PERSONS, pa.int64()))
        mine = mine.set_column(mine.schema.get_field_index("user_id"), "user_id", owner)
        pq.write_table(mine, folder / name / f"part-{part:05d}.parquet")
    return most if fit < PERSONS else touches.num_rows


def rows(folder: Path) -> int:
    """Rows of a table, from the files' footers."""
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
