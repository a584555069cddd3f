"""Does another experiment on the same units change the effect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pandas as pd

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.trust import p_text
from causal_spark.results import Estimate
from causal_spark.solve.interactions import Cells, Interaction, interaction
from causal_spark.solve.means import evaluate
from causal_spark.solve.multiplicity import adjust
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK, MISSING
from causal_spark.words import say

Parts = Mapping[tuple[str, ...], Moments]


@dataclass(frozen=True)
class Joint:
    """One metric with the other experiments ``columns``: their arms (the reference first), and the interaction."""

    block: plan.Block
    columns: tuple[str, ...]
    arms: tuple[tuple[str, ...], ...]
    cells: Cells
    found: Interaction | None
    note: str = ""

    @property
    def experiments(self) -> str:
        return " × ".join(self.columns)


def interactions(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``interaction`` (differences of differences) of this experiment with every other, and with all of them at
    once if there are several; the table ``interactions`` with the joint tests.

    Raises StatisticError if another experiment has fewer than two arms among these units, or shares none with an arm.
    """
    data = solver.compressed.more.get("interactions")
    if data is None:
        return Found()
    cells, columns = Grouped.from_dict(data), solver.method.interactions
    others = {column: _arms(solver, cells, column) for column in columns}
    together: list[tuple[str, ...]] = [(column,) for column in columns]
    if len(columns) > 1:
        together.append(columns)
    found: list[Joint] = []
    for names in together:
        arms = (tuple(solver.compressed.facts["arms"]), *(others[name] for name in names))
        if len(names) == 1:
            _share(_parts(solver, cells, plan.ROWS, names), arms)
        found += [_joint(solver, block, names, arms, cells) for block in solver.blocks]
    tests = _tests(solver, found)
    return Found(tuple(_corrected(solver, found)), {"interactions": pd.DataFrame(tests)})


def _arms(solver: Solver, cells: Grouped, column: str) -> tuple[str, ...]:
    """The arms of another experiment that units of this one are in: one called as our control first, else by name."""
    arm, mine = solver.compressed.facts["arm"], solver.compressed.facts["arms"]
    labels = sorted({str(named[column]) for named, _ in cells.where() if named[arm] in mine} - {MISSING})
    if len(labels) < 2:
        raise StatisticError("no_other_arms", column=column, found=", ".join(labels) or "-")
    control = solver.method.control
    return tuple(sorted(labels, key=lambda label: label != control))


def _parts(solver: Solver, cells: Grouped, block: str, names: tuple[str, ...]) -> Parts:
    """Moments of a block by (arm, arm of each of ``names``), over the arms of the experiments that are not named."""
    arm = solver.compressed.facts["arm"]
    whole = cells.margin((arm, *names, BLOCK))
    return {
        (str(named[arm]), *(str(named[name]) for name in names)): part for named, part in whole.where(**{BLOCK: block})
    }


def _short(parts: Parts, arms: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return [place for place in product(*arms) if place not in parts or parts[place].n < 2]


def _share(parts: Parts, arms: Sequence[Sequence[str]]) -> None:
    missing = _short(parts, arms)
    if missing:
        raise StatisticError("no_shared_units", arms=" × ".join(missing[0]), count=len(missing))


def _joint(
    solver: Solver, block: plan.Block, names: tuple[str, ...], arms: tuple[tuple[str, ...], ...], cells: Grouped
) -> Joint:
    parts = _parts(solver, cells, block.metric.name, names)
    missing = _short(parts, arms)
    if missing:
        note = say("note_few_units", solver.language, arms=" × ".join(missing[0]))
        return Joint(block, names, arms, {}, None, note)
    form = block.forms(False)[:1]
    values = {place: evaluate(parts[place], form) for place in product(*arms)}
    return Joint(block, names, arms, values, interaction(values, arms, solver.method.alpha))


def _tests(solver: Solver, found: Sequence[Joint]) -> list[dict[str, Any]]:
    """The joint test of every metric and set of experiments, corrected over all of them."""
    rows: list[dict[str, Any]] = []
    for item in found:
        known = item.found
        rows.append({"outcome": item.block.metric.name, "experiments": item.experiments,
                     "statistic": known.statistic if known else math.nan, "dof": known.dof if known else 0,
                     "p_value": known.p_value if known else math.nan, "p_adjusted": math.nan,
                     "n": sum(value.n for value in item.cells.values()), "flagged": False,
                     "note": item.note})  # fmt: skip
    family = adjust([row["p_value"] for row in rows], solver.method.correction)
    for row, p in zip(rows, family, strict=True):
        row |= {"p_adjusted": float(p), "flagged": bool(p < solver.method.srm_alpha)}
        if row["flagged"]:
            solver.checks.add("INTERACTION", "warn", column=row["outcome"], threshold=solver.method.srm_alpha,
                              experiments=row["experiments"], p=p_text(row["p_adjusted"]))  # fmt: skip
    if not any(row["flagged"] for row in rows):
        solver.checks.add("INTERACTION", "pass", threshold=solver.method.srm_alpha, tests=len(rows))
    return rows


def _corrected(solver: Solver, found: Sequence[Joint]) -> list[Estimate]:
    """One row for each contrast of arms, p adjusted over all of them."""
    rows = [row for item in found for row in _rows(solver, item)]
    values = adjust([row.p_value for row in rows], solver.method.correction)
    return [replace(row, p_adjusted=float(p)) for row, p in zip(rows, values, strict=True)]


def _rows(solver: Solver, item: Joint) -> Iterable[Estimate]:
    """(effect with the other arm) - (effect with its reference), for every combination of arms that are no reference.

    Of a combination that has no estimate the row says why.
    """
    for place in product(*(arms[1:] for arms in item.arms)):
        test = item.found.contrasts[place] if item.found else None
        corners = product(*zip((arms[0] for arms in item.arms), place, strict=True))
        n = sum(item.cells[corner].n for corner in corners) if item.found else math.nan
        note = item.note
        if test is not None and math.isnan(test.p_value):
            note = say("note_no_spread", solver.language)
        pair = Contrast(place[0], item.arms[0][0])
        row = solver.row("interaction", "all", item.block, pair, "interaction", test, n, note)
        others = zip(item.columns, place[1:], item.arms[1:], strict=True)
        named = [f"{column}: {label} vs {arms[0]}" for column, label, arms in others]
        yield replace(row, contrast=" × ".join([str(pair), *named]))
