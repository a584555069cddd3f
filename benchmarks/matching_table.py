"""The table of the matching benchmark: ten covariates, a true score, an effect of 1, and a clump of treated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PART = 250_000
COVARIATES = 10


def make(folder: Path, rows: int) -> Path:
    """Parquet files in a folder of their own; one that is there is left as it is.

    ``treated`` follows the score (about one in five); ``clumped`` is 1 where the score is highest and nowhere else.
    """
    path = folder / f"matching-{rows}"
    if (path / "_SUCCESS").exists():
        return path
    path.mkdir(parents=True, exist_ok=True)
    for part, first in enumerate(range(0, rows, PART)):
        n = min(PART, rows - first)
        rng = np.random.default_rng([13, part])
        x = rng.standard_normal((n, COVARIATES))
        index = x @ np.linspace(0.5, 0.05, COVARIATES)
        score = 1 / (1 + np.exp(-(index - 1.6)))
        treated = (rng.random(n) < score).astype(np.int8)
        y = treated + 2 * index + rng.standard_normal(n)
        columns: dict[str, Any] = {f"x{i}": x[:, i] for i in range(COVARIATES)}
        columns |= {"unit": np.arange(first, first + n), "treated": treated, "y": y, "score": score,
                    "clumped": (score > 0.45).astype(np.int8)}  # fmt: skip
        pq.write_table(pa.table(columns), path / f"part-{part:05d}.parquet")
    (path / "_SUCCESS").touch()
    return path
