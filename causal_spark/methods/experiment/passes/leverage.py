"""The sums that robust standard errors of Lin's regression need once the slopes are known: one scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.adjusted import linear, linear_columns
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.passes.segments import nested
from causal_spark.solve.lin import ArmFit, fit_arms, leverage_by_fit
from causal_spark.spark.blocks import Block, Work, accumulate
from causal_spark.spark.columns import as_label
from causal_spark.statistics import Moments, Sums
from causal_spark.statistics.histogram import Integers
from causal_spark.statistics.moments import Array

# Regressions of all metrics, arms and segments together whose sums the driver takes.
MAX_FITS = 5_000


@dataclass(frozen=True, eq=False)
class Margin:
    """The regressions of a metric's columns ``names`` by arm and value of ``segment`` (everyone without one).

    ``keys``: (arm, value) of each of the ``fits``.
    """

    metric: str
    names: tuple[str, ...]
    segment: str | None
    keys: tuple[tuple[str, str], ...]
    fits: tuple[ArmFit, ...]


def leverage(given: Given) -> dict[str, Any] | None:
    """Metric → ``arms`` → ``HC0``, ``HC2``, ``HC3`` of the metrics that a regression adjusts, over everyone; the same
    of each of the ``segments``, as far as they come to ``MAX_FITS`` regressions. One scan for all of them.
    """
    chosen = [block for block in plan.blocks(given.table.metrics) if linear(block)]
    if given.method.adjustment != "lin" or not chosen:
        return None
    arm = given.table.arm
    taken = _segments(given, chosen)
    asked = [_margin(given, block, segment) for block in chosen for segment in (None, *taken)]
    every = [margin for margin in asked if margin.fits]
    columns = list(dict.fromkeys(column for block in chosen for column in block.columns))
    frame = given.prepared(columns, arm, *taken)
    for name in (arm, *taken):
        frame = as_label(frame, name)
    known = {arm: list(given.table.arms), **{name: list(given.levels(plan.ROWS, name)) for name in taken}}
    found = accumulate(frame, [*known, *(c.name for c in columns)], _work(arm, known, every))
    data: dict[str, dict[str, dict[str, dict[str, float]]]] = {
        block.metric.name: {plan.EVERYONE: {}} for block in chosen
    }
    for i, margin in enumerate(every):
        for j, (name, level) in enumerate(margin.keys):
            label = level if margin.segment is None else plan.segment(margin.segment, level)
            sums = {kind: float(found[f"{i}/{kind}"][j]) for kind in ("HC0", "HC2", "HC3")}
            data[margin.metric].setdefault(label, {})[name] = sums
    return {name: nested(of) for name, of in data.items()}


def _segments(given: Given, chosen: Sequence[plan.Block]) -> list[str]:
    """The segment columns, in the order declared, that together ask for no more than ``MAX_FITS`` regressions."""
    taken: list[str] = []
    total = 0
    for column in given.method.segments:
        more = len(given.levels(plan.ROWS, column)) * len(given.table.arms) * len(chosen)
        if total + more <= MAX_FITS:
            taken.append(column)
            total += more
    return taken


def _margin(given: Given, block: plan.Block, segment: str | None) -> Margin:
    names = linear_columns(block)
    fits: dict[tuple[str, str], ArmFit] = {}
    for level, found in given.levels(block.metric.name, segment).items():
        arms: Mapping[str, Moments] = {arm: part.select(names) for arm, part in given.tested(found).items()}
        fits |= {(arm, level): fit for arm, fit in (fit_arms(arms) if arms else {}).items()}
    return Margin(block.metric.name, names, segment, tuple(fits), tuple(fits.values()))


def _work(arm: str, known: Mapping[str, Sequence[str]], every: Sequence[Margin]) -> Work:
    """What is done to a block of rows: a row counts in its arm and segment if all columns of the metric are there.

    ``known``: the labels of the arm and of each segment column.
    """
    tables = [_table(known[arm], known[margin.segment] if margin.segment else [plan.EVERYONE], margin)
              for margin in every]  # fmt: skip

    def work(block: Block) -> Sums:
        codes = {name: _codes(block[name], labels) for name, labels in known.items()}
        sums: dict[str, Array] = {}
        for i, (margin, table) in enumerate(zip(every, tables, strict=True)):
            rows = np.column_stack([np.asarray(block[name], float) for name in margin.names])
            of = table[codes[arm], codes[margin.segment] if margin.segment else 0]
            whole = (of >= 0) & ~np.isnan(rows).any(axis=1)
            found = leverage_by_fit(margin.fits, of[whole], rows[whole, 0], rows[whole, 1:])
            sums |= {f"{i}/{kind}": value for kind, value in found.values.items()}
        return Sums(sums)

    return work


def _table(arms: Sequence[str], levels: Sequence[str], margin: Margin) -> Integers:
    """The place of the fit of each arm and level; -1 where there is none, and for labels that are not known."""
    table = np.full((len(arms) + 1, len(levels) + 1), -1, np.int64)
    for place, (arm, level) in enumerate(margin.keys):
        table[arms.index(arm), levels.index(level)] = place
    return table


def _codes(labels: Array, known: Sequence[str]) -> Integers:
    """The place of each label among the ``known``; after the last for any other."""
    places = {label: place for place, label in enumerate(known)}
    return np.fromiter((places.get(label, len(known)) for label in labels), np.int64, len(labels))
