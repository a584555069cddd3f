"""What an analysis gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from causal_spark.results import Estimate


@dataclass(frozen=True)
class Found:
    """Rows for ``estimates`` (in no family of the means) and tables for the diagnostics."""

    rows: tuple[Estimate, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
