"""Families of tests whose p-values are corrected together: those over everyone, and those within segments.

Only success metrics are in a family; a lift shares the p of its difference. Under a plan of several looks the family
over everyone is that of the sequential rows, which are corrected elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from causal_spark.methods.experiment.adjusted import LABELS
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.plan import EVERYONE
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.results import Estimate
from causal_spark.solve.multiplicity import adjust

# Methods beside the main ones: each has families of its own.
BESIDE = ("quantile", "mann_whitney", "bootstrap", "jackknife")
Key = tuple[str, ...]


def corrected(method: Experiment, compressed: Compressed, rows: Sequence[Estimate]) -> list[Estimate]:
    """The rows of means with ``p_adjusted``; unadjusted twins are no tests of a family."""
    primary = {(r.outcome, r.segment, r.contrast): r.method for r in rows if r.method in LABELS}
    main = [r for r in rows if primary.get((r.outcome, r.segment, r.contrast), r.method) == r.method]
    found = _adjusted(method, compressed, [("means", r) for r in main])
    chosen = set(map(id, main))
    return [replace(r, p_adjusted=found.get(_key("means", r), math.nan)) if id(r) in chosen else r for r in rows]


def corrected_beside(method: Experiment, compressed: Compressed, rows: Sequence[Estimate]) -> list[Estimate]:
    """The rows of methods beside the main ones with ``p_adjusted``, each method for itself; others as they are."""
    found = _adjusted(method, compressed, [(_kind(r), r) for r in rows if r.method in BESIDE])
    return [replace(r, p_adjusted=found.get(_key(_kind(r), r), math.nan)) if r.method in BESIDE else r for r in rows]


def _kind(row: Estimate) -> str:
    """Quantiles by the bootstrap are another family than means by it."""
    return f"{row.method} {row.estimand}"


def _key(kind: str, row: Estimate) -> Key:
    """A difference and its lift have one key."""
    quantile, _, _ = row.term.rpartition(" ")
    return kind, row.outcome, row.segment, row.contrast, quantile


def _adjusted(method: Experiment, compressed: Compressed, rows: Sequence[tuple[str, Estimate]]) -> Mapping[Key, float]:
    success = {metric.name for metric in compressed.metrics if metric.role == "success"}
    families: dict[tuple[str, bool], list[tuple[Key, float]]] = {}
    for kind, row in rows:
        overall = row.segment == EVERYONE
        tested = row.outcome in success and not row.term.endswith("lift")
        if tested and not (overall and method.sequential is not None):
            families.setdefault((kind, overall), []).append((_key(kind, row), row.p_value))
    found: dict[Key, float] = {}
    for tests in families.values():
        values = adjust([p for _, p in tests], method.correction)
        found |= {key: float(p) for (key, _), p in zip(tests, values, strict=True)}
    return found
