"""Adjusted p-values of a family of tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from causal_spark.statistics.moments import Array

CorrectionName = Literal["none", "bonferroni", "holm", "hochberg", "bh", "by"]


def adjust(p_values: Sequence[float], method: CorrectionName = "holm") -> Array:
    """Adjusted p-values in the order given; NaN stays NaN and does not count as a test.

    bonferroni; holm (1979); hochberg (1988); bh: Benjamini & Hochberg (1995); by: Benjamini & Yekutieli (2001).
    """
    p = np.asarray(p_values, float)
    adjusted = np.full_like(p, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    if method == "none" or len(known) == 0:
        return p.copy()
    order = known[np.argsort(p[known], kind="stable")]
    adjusted[order] = _sorted(p[order], method)
    return adjusted


def _sorted(p: Array, method: CorrectionName) -> Array:
    """Adjusted values of ascending p-values."""
    m = len(p)
    rank = np.arange(1, m + 1)
    if method == "bonferroni":
        return np.minimum(p * m, 1.0)
    if method == "holm":
        return np.minimum(np.maximum.accumulate(p * (m - rank + 1)), 1.0)
    factor = {
        "hochberg": m - rank + 1.0,
        "bh": m / rank,
        "by": m / rank * np.sum(1.0 / rank),
    }[method]
    return np.minimum(np.minimum.accumulate((p * factor)[::-1])[::-1], 1.0)
