"""The one tidy result of every method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import pandas as pd

from causal_spark.statistics import Counts, Grouped

ESTIMATE_COLUMNS = (
    "method", "estimand", "outcome", "segment", "contrast", "term", "estimate", "std_error",
    "statistic", "dof", "p_value", "p_adjusted", "conf_low", "conf_high", "conf_level", "n", "note",
)  # fmt: skip
TEXT_COLUMNS = ("method", "estimand", "outcome", "segment", "contrast", "term", "note")


@dataclass(frozen=True)
class Estimate:
    """One row of ``estimates``. What could not be estimated is NaN, with the reason in ``note``."""

    method: str
    estimand: str
    outcome: str
    segment: str
    contrast: str
    term: str
    estimate: float = math.nan
    std_error: float = math.nan
    statistic: float = math.nan
    dof: float = math.nan
    p_value: float = math.nan
    p_adjusted: float = math.nan
    conf_low: float = math.nan
    conf_high: float = math.nan
    conf_level: float = math.nan
    n: float = math.nan
    note: str = ""


def estimates_frame(rows: Iterable[Estimate]) -> pd.DataFrame:
    """Rows to the tidy table: always all columns, in order, numbers as float64, texts as str."""
    frame = pd.DataFrame([asdict(row) for row in rows], columns=list(ESTIMATE_COLUMNS))
    numbers = [name for name in ESTIMATE_COLUMNS if name not in TEXT_COLUMNS]
    return frame.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(TEXT_COLUMNS, "object"))


@dataclass(frozen=True)
class Check:
    """One finding of the trust gate. ``verdict``: pass, warn, invalid (do not act on the result) or stop."""

    code: str
    verdict: str
    message: str
    table: str = ""
    column: str = ""
    count: float = math.nan
    share: float = math.nan
    threshold: float = math.nan


def checks_frame(checks: Iterable[Check]) -> pd.DataFrame:
    """Checks as a table, one row each."""
    return pd.DataFrame([asdict(check) for check in checks], columns=list(Check.__dataclass_fields__))


@dataclass(frozen=True)
class Result:
    """``estimates`` (tidy), ``diagnostics`` (named tidy tables), ``statistics`` (the compressed input), ``notes``.

    ``trusted`` is False when a check of the gate says the estimates must not be acted upon.
    """

    estimates: pd.DataFrame
    diagnostics: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    statistics: Mapping[str, Grouped | Counts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trusted: bool = True
