"""Two runs of a job gave the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from causal_spark import storage


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return found


def same_tables(first: Path, second: Path, tolerance: float, least: float = 1e-12) -> list[str]:
    """Every table of two runs is equal to ``tolerance``, numbers near 0 to ``least``; their names."""
    tables: list[str] = manifest(first)["tables"]
    assert manifest(second)["tables"] == tables
    for table in tables:
        frames = [storage.read_frame(str(run / table)) for run in (first, second)]
        pd.testing.assert_frame_equal(*frames, rtol=tolerance, atol=least)
    return tables


def same_rows(first: Path, second: Path, table: str, keys: Sequence[str], tolerance: float) -> None:
    """A table that the cluster wrote holds the same rows, in any order; ``keys`` and texts are identical."""
    frames = [
        pq.read_table(run / table).to_pandas().sort_values(list(keys), ignore_index=True) for run in (first, second)
    ]
    assert len(frames[0]) > 0
    pd.testing.assert_frame_equal(*frames, rtol=tolerance, atol=0)
    for key in keys:
        assert (frames[0][key] == frames[1][key]).all()
