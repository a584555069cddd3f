"""Nearest neighbours in several dimensions within a caliper on a line, by a k-d tree; exact, ties included."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import spatial

from causal_spark.solve.nearest import Index, Mask
from causal_spark.statistics.moments import Array

# Distances that differ by less than this part of their size are ties.
ROUNDING = 1e-9
FIRST = 8


def whitening(scatter: Array, dof: float) -> Array:
    """A matrix A (p, p) such that |A·(x - y)| is the Mahalanobis distance for the covariance ``scatter`` / ``dof``.

    By the pseudo-inverse, so that redundant columns (every level of a category) do no harm.
    """
    values, vectors = np.linalg.eigh(scatter / dof)
    kept = values > values.max() * 1e-10
    return np.asarray((vectors[:, kept] / np.sqrt(values[kept])).T)


@dataclass(frozen=True, eq=False)
class Links:
    """Matches of m focal points among n candidates as pairs of indices ``focal`` and ``match`` (r,), by focal."""

    focal: Index
    match: Index
    points: int

    @property
    def size(self) -> Index:
        """Matches of each focal point, shape (m,)."""
        return np.bincount(self.focal, minlength=self.points)

    @property
    def matched(self) -> Mask:
        return self.size > 0

    def sums(self, values: Array) -> Array:
        """Σ of the matches' rows of ``values`` (n, q), shape (m, q)."""
        columns = [np.bincount(self.focal, column[self.match], self.points) for column in values.T]
        return np.column_stack([np.zeros((self.points, 0)), *columns])

    def uses(self, n: int, power: int = 1) -> Array:
        """Σ over the uses of each candidate of its share to this power, shape (n,)."""
        share = 1.0 / self.size[self.focal]
        return np.bincount(self.match, share**power, n).astype(float)


def nearest(focal: Array, candidates: Array, focal_point: Array, point: Array, ratio: int, caliper: float) -> Links:
    """The ``ratio`` nearest ``candidates`` (n, p) of each ``focal`` (m, p) with |point - focal_point| ≤ ``caliper``.

    Ties with the last match are matches too. The tree is asked for more neighbours until enough are within the caliper.
    """
    none = np.zeros(0, np.int64)
    if not len(focal) or not len(candidates):
        return Links(none, none, len(focal))
    tree = spatial.cKDTree(candidates)
    reach = np.full(len(focal), np.nan)
    open_, k = np.arange(len(focal)), min(max(FIRST, 2 * ratio), len(candidates))
    while len(open_):
        distance, index = tree.query(focal[open_], k=np.arange(1, k + 1))
        inside = np.abs(point[index] - focal_point[open_, None]) <= caliper
        enough = inside.sum(axis=1) >= ratio
        done = enough | (k == len(candidates))
        nearest = np.sort(np.where(inside, distance, math.inf), axis=1)
        last = np.maximum(np.minimum(ratio, inside.sum(axis=1)) - 1, 0)
        found = nearest[np.arange(len(open_)), last]
        reach[open_[done]] = np.where(inside.any(axis=1), found, math.nan)[done]
        open_, k = open_[~done], min(8 * k, len(candidates))
    return _within(tree, focal, reach, focal_point, point, caliper)


def _within(
    tree: spatial.cKDTree, focal: Array, reach: Array, focal_point: Array, point: Array, caliper: float
) -> Links:
    """All candidates no farther than ``reach`` (m,), NaN for none, that are within the caliper."""
    rows = np.flatnonzero(~np.isnan(reach))
    lists = tree.query_ball_point(focal[rows], reach[rows] * (1 + ROUNDING) + 1e-300, return_sorted=True)
    size = np.array([len(part) for part in lists], np.int64)
    who = np.repeat(rows, size)
    match = np.concatenate([np.zeros(0, np.int64), *(np.asarray(part, np.int64) for part in lists)])
    inside = np.abs(point[match] - focal_point[who]) <= caliper
    return Links(who[inside], match[inside], len(focal))
