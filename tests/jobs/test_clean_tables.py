"""Clean tables of an unusual but right form are not refused, and no check complains."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.jobs.bad_input import (
    DAY,
    START,
    Columns,
    N,
    again,
    event_config,
    events,
    exposures,
    put,
    same,
    solved,
    stamped,
    unit_config,
    units,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every table on Sail and classic Spark; one in five on Spark Connect, which takes seconds for each."""
    step = 5 if metafunc.config.getoption("--engine") == "connect" else 1
    if "clean" in metafunc.fixturenames:
        metafunc.parametrize("clean", CLEAN[::step], ids=lambda case: case.name)


@dataclass(frozen=True)
class Clean:
    """Tables without a defect, of an unusual but right form."""

    name: str
    units: Callable[[Columns], Columns] | None = None
    exposures: Callable[[Columns], Columns] | None = None
    events: Callable[[Columns], Columns] | None = None
    method: Mapping[str, Any] | None = None
    metric: Mapping[str, Any] | None = None
    format: str = "parquet"
    on_events: bool = False
    warns: bool = False


def cast(column: str, kind: pa.DataType) -> Callable[[Columns], Columns]:
    return lambda c: {**c, column: pa.array(c[column]).cast(kind)}


def naive(columns: Columns) -> Columns:
    return {**columns, "ts": pa.array(columns["ts"], pa.timestamp("us"))}


def days(columns: Columns) -> Columns:
    """Dates: an event on the day of the exposure counts."""
    return {
        **columns,
        "ts": pa.array([(t - START) // DAY + START // DAY for t in columns["ts"]], pa.int32()).cast(pa.date32()),
    }


def arms(*labels: Any) -> Callable[[Columns], Columns]:
    return lambda c: {**c, "variant": [labels[i % len(labels)] for i in range(N)]}


CLEAN = [
    Clean("as it is"),
    Clean("shares not planned", method={"shares": None}),
    Clean("units are numbers", units=lambda c: {**c, "user_id": list(range(N))}),
    Clean("arms are numbers", units=arms(0, 1), method={"control": "0", "shares": {"0": 0.5, "1": 0.5}}),
    Clean("arms are truths", units=arms(False, True), method={"control": False, "shares": None}),
    Clean("three arms", units=arms("a", "b", "c"), method={"control": "b", "shares": None, "contrasts": "pairs"}),
    Clean("a holdout", units=arms("control", "treatment", "reserve"), method={"holdouts": ["reserve"]}),
    Clean("single precision", units=cast("revenue", pa.float32())),
    Clean(
        "decimals",
        units=lambda c: {**c, "revenue": pa.array([round(v, 2) for v in c["revenue"]]).cast(pa.decimal128(18, 2))},
    ),
    Clean("small integers", units=cast("clicks", pa.int8())),
    Clean("a truth as proportion", units=lambda c: {**c, "converted": [bool(v) for v in c["converted"]]}),
    Clean(
        "segments with NULL", units=put("country", *[None] * 120), method={"segments": ["country"], "min_segment": 20}
    ),
    Clean("winsorized", metric={"winsorize": 0.99}),
    Clean("negative means", units=lambda c: {**c, "revenue": [v - 16 for v in c["revenue"]]}, warns=True),
    Clean("large values", units=lambda c: {**c, "revenue": [v * 1e12 for v in c["revenue"]]}),
    Clean("clusters", method={"cluster": "shop"}),
    Clean("a filter", method={"where": [{"column": "country", "op": "in", "value": ["DE", "FR"]}]}),
    Clean("a filter on numbers", method={"where": [{"column": "views", "op": ">", "value": 9.5}]}),
    Clean("a filter on times", on_events=True, method={"where": [{"column": "ts", "op": ">", "value": "2026-01-01"}]}),
    Clean("csv", format="csv"),
    Clean("json", format="json"),
    Clean("events", on_events=True),
    Clean(
        "events in windows",
        on_events=True,
        method={"window_days": 7, "pre_days": 7, "by_day": 5, "segments": ["country"], "min_segment": 20},
    ),
    Clean("times without zone", on_events=True, exposures=naive, events=naive),
    Clean("days instead of times", on_events=True, exposures=days, events=days),
    Clean("several exposures of a unit", on_events=True, exposures=again(0, 50, ts=START + 5 * DAY)),
    Clean(
        "NULL amounts of other events",
        on_events=True,
        events=lambda c: {
            **c,
            "amount": [None if t == "view" else a for a, t in zip(c["amount"], c["type"], strict=True)],
        },
    ),
]


def test_clean_tables_are_not_refused(clean, spark, tmp_path):
    config = (event_config if clean.on_events else unit_config)(tmp_path)
    for role in config["input"]:
        build = {"units": units, "exposures": exposures, "events": events}[role]
        columns = (getattr(clean, role) or same)(build())
        _write_as(clean.format, columns, tmp_path / role)
        config["input"][role]["format"] = clean.format
    config["method"] |= clean.method or {}
    config["method"]["metrics"][0] |= clean.metric or {}
    config["method"] = {key: value for key, value in config["method"].items() if value is not None}
    result = solved(config)
    assert set(result.diagnostics["checks"]["verdict"]) <= ({"pass", "warn"} if clean.warns else {"pass"}), result.notes
    assert result.trusted
    overall = result.estimates[result.estimates["segment"] == "all"]
    assert np.isfinite(overall["estimate"]).all()
    assert overall["p_value"].between(0, 1).all()


def _write_as(kind: str, columns: Columns, folder: Path) -> None:
    folder.mkdir()
    table = pa.table(stamped(columns))
    if kind == "csv":
        pyarrow.csv.write_csv(table, folder / "part-0.csv")
    elif kind == "json":
        lines = [json.dumps(record) for record in table.to_pylist()]
        (folder / "part-0.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        pq.write_table(table, folder / "part-0.parquet")
