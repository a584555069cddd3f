"""What the tests of the matching job share: configurations, tables, rows of results, simulated confounding."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Config = dict[str, Any]

# Engines sum doubles in different orders; the contract is 1e-9.
RTOL = 1e-9
LALONDE = ["age", "educ", "black", "hispan", "married", "nodegree", "re74", "re75"]


def config(table: Path, out: Path, **method: Any) -> Config:
    return {
        "job": "matching",
        "input": {"units": {"table": str(table)}},
        "method": {"unit": "id", "treatments": ["treat"], **method},
        "output": {"path": str(out)},
        "tracking": {"enabled": False},
    }


def written(frame: pd.DataFrame, folder: Path, files: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        pq.write_table(pa.Table.from_pandas(frame.iloc[i::files], preserve_index=False), folder / f"{i}.parquet")
    return folder


def only_on_sail(engine: str) -> None:
    if engine != "sail":
        pytest.skip("a run of its own, where each stage costs a second; other runs are compared on every engine")


def row(result: Any, method: str, term: str = "difference", **where: str) -> Any:
    rows = result.estimates
    for name, value in {"method": method, "term": term, **where}.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def balance(result: Any, estimator: str) -> pd.DataFrame:
    rows = result.diagnostics["balance"]
    return rows[rows["estimator"] == estimator].set_index("covariate")


def size(result: Any, estimator: str) -> Any:
    return result.diagnostics["sizes"].set_index("estimator").loc[estimator]


def kept(path: Path, name: str) -> pd.DataFrame:
    return pq.read_table(path / name).to_pandas()


LARGEST = {"distance": "propensity", "order": "largest", "ties": "number"}


def by_logit(frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    import statsmodels.api as sm

    x = sm.add_constant(frame[names].astype(float))
    return np.asarray(sm.Logit(frame["treat"], x).fit(disp=0, tol=1e-14, maxiter=100).predict(x))


def pairs_of(out: Path) -> list[tuple[str, str]]:
    pairs = kept(out, "pairs")
    return sorted(zip(pairs["treated_id"], pairs["control_id"], strict=True))


def real(name: str) -> pd.DataFrame:
    module = importlib.import_module(f"causaldata.{name}")
    frame: pd.DataFrame = module.load_pandas().data
    return frame.reset_index(drop=True)


def numbers(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return frame[names].astype(float)


EFFECT = 1.0
UNITS = 20_000


def confounded(discrete: bool, n: int = UNITS) -> pd.DataFrame:
    """The same effect for all; what raises the chance of treatment lowers the outcome by more than the effect."""
    rng = np.random.default_rng(12)
    if discrete:
        a, b = rng.integers(0, 5, n) / 2 - 1.0, rng.integers(0, 4, n) - 1.5
    else:
        a, b = rng.normal(size=n), rng.normal(size=n) ** 3 / 4
    c = (rng.random(n) < 0.4).astype(int)
    city = rng.choice(["x", "y", "z"], n, p=[0.5, 0.3, 0.2])
    logit = -1.2 + 0.8 * a + 0.5 * b - 0.6 * c + 0.5 * (city == "y")
    treat = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    y = EFFECT * treat - 2.5 * a - 1.5 * b + c - 0.7 * (city == "y") + rng.normal(size=n)
    return pd.DataFrame({"id": [f"u{i}" for i in rng.permutation(n)], "treat": treat, "a": a, "b": b, "c": c,
                         "city": city, "y": y, "quiet": a + rng.normal(size=n)})  # fmt: skip
