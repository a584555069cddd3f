"""The comparison before any adjustment: naive difference, regression, and balance of the covariates as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from causal_spark.methods.matching.prepare import Table
from causal_spark.methods.matching.score import matrix
from causal_spark.solve import balance, logistic
from causal_spark.spark.blocks import Block, accumulate
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Baseline:
    """Balance sums of the unweighted rows; by outcome the naive difference and least squares with all columns.

    ``sizes``: treated, control. ``deviation`` (q,): SD of the controls' outcome, for standardised effects.
    ``within`` (p, p): scatter of the design about the means of its arm. ``likelihood``: of the propensity where its
    fit begins, if the pass was asked for it.
    """

    balance: Sums
    sizes: tuple[float, float]
    means: Array
    variances: Array
    ols: Array
    ols_error: Array
    dof: float
    within: Array
    likelihood: Sums | None = None

    @property
    def deviation(self) -> Array:
        return np.asarray(np.sqrt(self.variances[0]))


def look(table: Table, treatment: str, outcomes: int, start: Array | None = None) -> Baseline:
    """One pass, which takes along the likelihood of the propensity at ``start`` (p + 1,), if that is given."""
    x, main, cuts = table.x, np.array(table.main, int) + 1, table.cuts
    centres = np.array(table.centres)
    names = tuple(f"y{i}" for i in range(outcomes))

    def work(block: Block) -> Sums:
        every = matrix(block, (*x, treatment, *names))
        design, t, y = every[:, : len(x) + 1], every[:, len(x) + 1], every[:, len(x) + 2 :]
        y -= centres
        fit = {} if start is None else logistic.contribution(design, t, start).values
        found = balance.sums(design[:, main], t, np.ones(len(t)), cuts, np.zeros(len(main)))
        by_arm = np.stack([1 - t, t])
        return Sums(
            {
                **{f"balance {k}": v for k, v in found.values.items()},
                **{f"likelihood {k}": v for k, v in fit.items()},
                "gram": every.T @ every,
                "y": by_arm @ y,
                "yy": by_arm @ y**2,
            }
        )

    total = accumulate(table.frame, [*x, treatment, *names], work)
    sums, likelihood = _part(total, "balance "), _part(total, "likelihood ")
    n = sums["rows"][:, None]
    means = total["y"] / n
    variances = np.where(n > 1, np.maximum(total["yy"] - n * means**2, 0.0) / np.maximum(n - 1, 1), np.nan)
    slope, error, dof = _least_squares(total["gram"], len(x) + 2, float(n.sum()))
    within = _within(total["gram"], len(x) + 1, n[:, 0])
    sizes = float(n[1, 0]), float(n[0, 0])
    return Baseline(sums, sizes, means, variances, slope, error, dof, within, likelihood if likelihood.values else None)


def _part(total: Sums, prefix: str) -> Sums:
    return Sums({k.removeprefix(prefix): v for k, v in total.values.items() if k.startswith(prefix)})


def _least_squares(gram: Array, p: int, n: float) -> tuple[Array, Array, float]:
    """Coefficient of the last of ``p`` regressors for each outcome, with its classical standard error."""
    size = np.sqrt(np.diag(gram)[:p])
    size = np.where(size > 0, size, 1.0)  # a column that is 0 everywhere; the propensity names it
    scaled = gram[:p, :p] / np.outer(size, size)
    inverse = np.linalg.pinv(scaled, hermitian=True)
    beta = inverse @ (gram[:p, p:] / size[:, None])
    residual = np.diag(gram)[p:] - np.einsum("pq,pq->q", beta, gram[:p, p:] / size[:, None])
    dof = n - p
    error = np.sqrt(np.maximum(residual, 0) / dof * inverse[-1, -1]) / size[-1]
    return beta[-1] / size[-1], error, dof


def _within(gram: Array, p: int, sizes: Array) -> Array:
    """Scatter of the design within the arms, from the Gram of (1, x, t, …)."""
    every, treated = gram[0, 1:p], gram[p, 1:p]
    control = every - treated
    return np.asarray(gram[1:p, 1:p] - np.outer(treated, treated) / sizes[1] - np.outer(control, control) / sizes[0])


def report(found: Any, before: Baseline, table: Table) -> None:
    """The naive difference as an estimate to compare with, sizes, and the balance before."""
    effect = before.means[1] - before.means[0]
    treated, control = before.sizes
    error = np.sqrt(before.variances[1] / treated + before.variances[0] / control)
    found.add("unadjusted", "", effect, error, treated, treated, "welch")
    found.add("regression", "", before.ols, before.ols_error, treated, treated, "classical")
    found.sizes.append(
        {
            "treatment": found.treatment,
            "estimator": "unadjusted",
            "focal": treated,
            "matched": treated,
            "used": treated + control,
            "ess": control,
            "caliper": math.nan,
        }
    )
    for outcome, spread in zip(found.outcomes, before.deviation, strict=True):
        found.deviations[outcome] = float(spread)
    balanced(found, "unadjusted", before.balance, before, table)


def balanced(found: Any, estimator: str, sums: Sums, before: Baseline, table: Table) -> None:
    """Rows of the balance after an estimator, on the scale of the columns."""
    rows = balance.solve(sums, before.balance, table.cuts, np.zeros(len(table.main)))
    _add(found, estimator, rows, table)


def balanced_means(found: Any, estimator: str, means: Array, variances: Array, before: Baseline, table: Table) -> None:
    """The same where only means and variances are known, (2, p) each, controls first."""
    binary = np.array([len(points) == 1 for points in table.cuts], bool)
    scale = np.sqrt(balance.variances(before.balance, binary)[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        smd = np.where(scale > 0, (means[1] - means[0]) / scale, np.nan)
        ratio = np.where(binary | (variances[0] <= 0), np.nan, variances[1] / variances[0])
    rows = [
        balance.Balance(float(means[1, j]), float(means[0, j]), float(smd[j]), float(ratio[j]), math.nan, math.nan)
        for j in range(len(binary))
    ]
    _add(found, estimator, rows, table)


def _add(found: Any, estimator: str, rows: Sequence[balance.Balance], table: Table) -> None:
    for place, row in zip(table.main, rows, strict=True):
        item = table.design[place]
        means = {
            "mean_treated": item.centre + item.scale * row.mean_treated,
            "mean_control": item.centre + item.scale * row.mean_control,
        }
        found.balance.append(
            {"treatment": found.treatment, "estimator": estimator, "covariate": item.term.label}
            | asdict(row) | means | {"verdict": balance.verdict(row)}
        )  # fmt: skip
