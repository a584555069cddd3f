"""Who gets what: a salted hash of the canonical key; of many salts, if asked, the first whose arms are balanced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from causal_spark.methods.design.compressed import Drawn
from causal_spark.methods.design.prepare import covariate_scale
from causal_spark.methods.design.vocabulary import Design, Rerandomize
from causal_spark.methods.experiment.tables import UnitTable
from causal_spark.solve.assignment import SLOTS, arm_edges
from causal_spark.solve.hashes import slots
from causal_spark.solve.splits import acceptance, imbalance, rerandomise
from causal_spark.spark import assignment
from causal_spark.spark.assignment import Rule
from causal_spark.spark.columns import as_text
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.spark.draws import draw_sums
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, stage
from causal_spark.spark.units import ClusterSum, clusters
from causal_spark.statistics import Moments
from causal_spark.statistics.moments import Array

TABLE = "assignment"
SIZE, COVARIATES = "(units)", "covariates"


def assign(engine: Engine, method: Design, table: UnitTable, scratch: Callable[..., str]) -> Drawn:
    """Write the table ``assignment`` and count its arms. Raises StatisticError if no salt is balanced enough."""
    assert method.assign is not None
    drawn = Drawn(method.assign.salt, {})
    if method.assign.rerandomize is not None:
        drawn = balanced(method, table, method.assign.rerandomize)
    made = assignment.assigned(table.frame, method.key, _rule(method, drawn.salt), method.cluster is not None)
    written = stage(engine, made, scratch(TABLE, kept=True))
    counts = assignment.counts(written, assignment.ARM)
    return replace(drawn, counts={arm: counts.get(arm, 0) for arm in method.shares})


def _rule(method: Design, salt: str) -> Rule:
    """The arms and their slots under a salt, within the layer if there is one."""
    assert method.assign is not None
    layer = method.assign.layer
    if layer is None:
        return Rule(salt, SLOTS, arm_edges(method.shares))
    low, high = layer.ranges[layer.experiment]
    return Rule(salt, SLOTS, arm_edges(method.shares), (layer.salt, round(low * SLOTS), round(high * SLOTS)))


def balanced(method: Design, table: UnitTable, asked: Rerandomize) -> Drawn:
    """The first balanced salt, with the differences that are left. Two scans: moments, and the sums of all salts."""
    assert method.assign is not None
    rule, names = _rule(method, method.assign.salt), list(asked.covariates)
    frame = table.frame
    if method.cluster is not None:
        frame, names = _clusters(method, table, asked), [SIZE, *names]
    by = () if asked.strata is None else (asked.strata,)
    for name in by:
        frame = as_text(frame, name)
    grouped = compress(rule.inside(frame, method.key), MomentsSpec({COVARIATES: tuple(names)}, by=by))
    parts = {str(key[0]) if by else "": part for key, part in grouped.cells.items() if key[-1] == COVARIATES}
    whole = sum(parts.values(), Moments.empty(names))
    spread = np.sqrt(np.diag(whole.covariance))
    scale = np.where(spread > 0, spread, 1.0)
    columns = {name: (float(whole.mean[i]), float(scale[i])) for i, name in enumerate(names)}
    sums = draw_sums(frame, method.key, rule, asked.draws, columns, slots, asked.strata)
    distance, dof = _distances(sums, parts, asked.draws, whole.mean, scale)
    draw = rerandomise(distance.tolist(), dof, asked.accepted)
    left = sum(part[draw] for part in sums.values())
    return Drawn(
        f"{method.assign.salt}/{draw}", {}, draw, asked.draws, float(distance[draw]), acceptance(dof, asked.accepted),
        tuple(_left(np.asarray(left), list(method.shares), names)),
    )  # fmt: skip


def _clusters(method: Design, table: UnitTable, asked: Rerandomize) -> Frame:
    """One row for each cluster: its size and its totals of the covariates."""
    assert method.cluster is not None
    totals = [ClusterSum(name, name, (), covariate_scale(table.ranges[name], name)) for name in asked.covariates]
    wanted = [ClusterSum(SIZE, None, ()), *totals]
    return clusters(table.frame, method.cluster, (asked.strata,) if asked.strata else (), wanted, keep=True)


def _distances(
    sums: Mapping[str, Array], parts: Mapping[str, Moments], draws: int, centre: Array, scale: Array
) -> tuple[Array, int]:
    """Σ over strata of the imbalance of every draw, and its degrees of freedom; strata below 3 units take no part."""
    total, dof = np.zeros(draws), 0
    for stratum, whole in parts.items():
        if whole.n < 3:
            continue
        n, scaled = sums[stratum][..., 0], sums[stratum][..., 1:]
        means = centre + scale * scaled / np.maximum(n, 1)[..., None]
        found, free = imbalance(n, means, whole)
        total, dof = total + found, dof + free
    return total, dof


def _left(sums: Array, arms: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """Standardised difference of each arm's covariate means from those of all units; ``sums`` (arms, 1 + names)."""
    return [{"covariate": name, "arm": arm, "smd": float(sums[a, 1 + i] / sums[a, 0])}
            for a, arm in enumerate(arms) for i, name in enumerate(names)]  # fmt: skip
