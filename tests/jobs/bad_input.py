"""What tests of bad and of clean input share: clean tables, what is done to them, how refusals must speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from causal_spark import cli, job
from causal_spark.words import LANGUAGES, say

if TYPE_CHECKING:
    from causal_spark.results import Result

N = 400
DAY = 86_400_000_000
START = 1_767_571_200_000_000  # 2026-01-05 00:00 UTC in microseconds
LATER = START + 30 * DAY
TIME = pa.timestamp("us", tz="UTC")
STAGES = {say(f"stage_{stage}", language) for stage in cli.STAGES for language in LANGUAGES}
HAN = range(0x4E00, 0x9FFF + 1)

Config = dict[str, Any]
Columns = dict[str, Any]


def units() -> Columns:
    """A clean unit table: 200 units in each arm, no unit that carries much of a metric."""
    rng = np.random.default_rng(11)
    return {
        "user_id": [f"u{i:04d}" for i in range(N)],
        "variant": ["control", "treatment"] * (N // 2),
        "revenue": rng.gamma(8.0, 2.0, N).tolist(),
        "revenue_pre": rng.gamma(8.0, 2.0, N).tolist(),
        "converted": (np.arange(N) % 5 // 3).astype(int).tolist(),
        "clicks": rng.integers(0, 9, N).tolist(),
        "views": rng.integers(9, 30, N).tolist(),
        "country": [("DE", "FR")[i // 2 % 2] for i in range(N)],
        "shop": [f"s{i % 80:02d}" for i in range(N)],
    }


def exposures() -> Columns:
    return {
        "user_id": [f"u{i:04d}" for i in range(N)],
        "variant": ["control", "treatment"] * (N // 2),
        "ts": [START + i * 60_000_000 for i in range(N)],
        "country": [("DE", "FR")[i // 2 % 2] for i in range(N)],
    }


def events() -> Columns:
    """Three events of every unit, on days 0, 1 and 20 after its exposure; the second is a purchase in three of four."""
    rng = np.random.default_rng(12)
    unit = np.repeat(np.arange(N), 3)
    return {
        "user_id": [f"u{i:04d}" for i in unit],
        "ts": [START + int(i) * 60_000_000 + d * DAY + 1_000_000 for i, d in zip(unit, [0, 1, 20] * N, strict=True)],
        "type": [part for i in range(N) for part in ("view", "view" if i % 20 < 5 else "purchase", "view")],
        "amount": rng.gamma(8.0, 2.0, 3 * N).round(2).tolist(),
    }


def write(columns: Mapping[str, Any], folder: Path) -> str:
    """``columns`` as one parquet file in ``folder``; whole numbers called ``ts`` become times."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(stamped(columns)), folder / "part-0.parquet")
    return str(folder)


def stamped(columns: Mapping[str, Any]) -> Columns:
    return {name: pa.array(v, TIME) if name == "ts" and _whole(v) else v for name, v in columns.items()}


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(v is None or isinstance(v, int) for v in values)


def unit_config(folder: Path) -> Config:
    return {
        "job": "experiment",
        "input": {"units": {"table": str(folder / "units")}},
        "method": {
            "unit": "user_id",
            "arm": "variant",
            "control": "control",
            "shares": {"control": 0.5, "treatment": 0.5},
            "metrics": [
                {"name": "revenue", "kind": "mean", "value": "revenue", "covariates": ["revenue_pre"]},
                {"name": "converted", "kind": "proportion", "value": "converted"},
                {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views"},
            ],
        },
        "output": {"path": str(folder / "out")},
        "tracking": {"enabled": False},
    }


def event_config(folder: Path) -> Config:
    base = unit_config(folder)
    base["input"] = {role: {"table": str(folder / role)} for role in ("exposures", "events")}
    base["method"] |= {
        "time": "ts",
        "metrics": [
            {"name": "revenue", "kind": "revenue", "value": "amount"},
            {"name": "bought", "kind": "conversion", "where": [{"column": "type", "value": "purchase"}]},
        ],
    }
    return base


def saved(config: Config, folder: Path) -> str:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return str(path)


def message(err: str) -> list[str]:
    """The lines on stderr that are not the stages passed."""
    return [line for line in err.splitlines() if line.strip() and line.strip() not in STAGES]


def assert_speaks(err: str, words: Sequence[str], language: str) -> None:
    """At most two lines, no traceback, and every word that names the thing or its remedy."""
    lines = message(err)
    assert 1 <= len(lines) <= 2, err
    told = " ".join(lines)
    assert "Traceback" not in told
    assert "<class" not in told
    assert len(told) < 700, told
    assert any(ord(c) in HAN for c in told) == (language == "zh"), told
    missing = [word for word in words if word not in told]
    assert not missing, f"{missing} not in: {told}"


def put(column: str, *values: Any, at: int = 0) -> Callable[[Columns], Columns]:
    """The columns with ``values`` in some rows of one."""
    return lambda c: {**c, column: [*c[column][:at], *values, *c[column][at + len(values) :]]}


def all_of(column: str, value: Any) -> Callable[[Columns], Columns]:
    return lambda c: {**c, column: [value] * len(c[column])}


def without(column: str) -> Callable[[Columns], Columns]:
    return lambda c: {name: values for name, values in c.items() if name != column}


def rows(keep: Callable[[int], bool]) -> Callable[[Columns], Columns]:
    return lambda c: {name: [v for i, v in enumerate(values) if keep(i)] for name, values in c.items()}


def again(first: int, count: int, **changed: Any) -> Callable[[Columns], Columns]:
    """Some rows a second time, with other values in the columns named."""

    def repeat(c: Columns) -> Columns:
        more = {name: values[first : first + count] for name, values in c.items()}
        more |= {name: [value] * count for name, value in changed.items()}
        return {name: [*values, *more[name]] for name, values in c.items()}

    return repeat


def also_treated(count: int) -> Callable[[Columns], Columns]:
    """The first ``count`` control units a second time, in the other arm."""
    second = rows(lambda i: i % 2 == 0 and i < 2 * count)

    def repeat(c: Columns) -> Columns:
        more = {**second(c), "variant": ["treatment"] * count}
        return {name: [*values, *more[name]] for name, values in c.items()}

    return repeat


def same(columns: Columns) -> Columns:
    return columns


def only(column: str, value: Any) -> dict[str, Any]:
    """The setting that keeps the rows in which ``column`` is ``value``."""
    return {"where": [{"column": column, "value": value}]}


def solved(config: Config) -> Result:
    outcome = job.run(config, "experiment")
    assert outcome.result is not None
    return outcome.result
