"""Moments: count, mean and centred scatter of several columns; the sum is the pairwise merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ROUNDING = 1e-11


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of p columns over n complete rows.

    ``mean`` has shape (p,), ``scatter`` shape (p, p): the sum over rows of
    (x - mean)(x - mean)ᵀ, centred. ``a + b`` is the statistic of the union of disjoint rows
    (Chan, Golub & LeVeque 1983, eq. 2.1), so it is associative and commutative up to rounding,
    with ``Moments.empty(names)`` as its zero.
    """

    names: tuple[str, ...]
    n: float
    mean: Array
    scatter: Array

    def __post_init__(self) -> None:
        p = len(self.names)
        if self.mean.shape != (p,) or self.scatter.shape != (p, p):
            raise ValueError(
                f"Moments of {p} columns need shapes ({p},) and ({p}, {p}), "
                f"got {self.mean.shape} and {self.scatter.shape}"
            )

    @classmethod
    def empty(cls, names: Sequence[str]) -> Moments:
        p = len(names)
        return cls(tuple(names), 0.0, np.zeros(p), np.zeros((p, p)))

    @classmethod
    def constant(cls, names: Sequence[str], n: float, value: ArrayLike = 0.0) -> Moments:
        """``n`` rows that all hold ``value`` (units without any event, say)."""
        if n == 0:
            return cls.empty(names)
        p = len(names)
        return cls(tuple(names), float(n), np.broadcast_to(np.asarray(value, float), (p,)).copy(), np.zeros((p, p)))

    @classmethod
    def from_rows(cls, names: Sequence[str], rows: ArrayLike) -> Moments:
        """From an (n, p) array, two passes."""
        x = np.asarray(rows, dtype=float).reshape(-1, len(names))
        if len(x) == 0:
            return cls.empty(names)
        mean = x.mean(axis=0)
        mean = mean + (x - mean).mean(axis=0)
        d = x - mean
        return cls(tuple(names), float(len(x)), mean, d.T @ d)

    @classmethod
    def from_sums(
        cls, names: Sequence[str], n: float, centre: ArrayLike, first: ArrayLike, second: ArrayLike
    ) -> Moments:
        """From n, Σ(x - c) of shape (p,) and Σ(x - c)(x - c)ᵀ of shape (p, p) about a pilot centre c.

        What is left of a sum of squares below 1e-11 of it is rounding, not spread: that column is constant.
        """
        if n == 0:
            return cls.empty(names)
        s1, s2 = np.asarray(first, float), np.asarray(second, float)
        scatter = s2 - np.outer(s1, s1) / n
        constant = np.diag(scatter) <= ROUNDING * np.diag(s2)
        scatter[constant, :] = 0.0
        scatter[:, constant] = 0.0
        return cls(tuple(names), float(n), np.asarray(centre, float) + s1 / n, scatter)

    def __add__(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        if self.names != other.names:
            raise ValueError(f"Moments of different columns cannot merge: {self.names} and {other.names}")
        n = self.n + other.n
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        delta = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(delta, delta) * (self.n * other.n / n)
        return Moments(self.names, n, self.mean + delta * (other.n / n), scatter)

    def __radd__(self, other: object) -> Moments:
        """``sum(parts)`` starts from 0."""
        if other == 0:
            return self
        return NotImplemented

    def image(self, matrix: ArrayLike, names: Sequence[str]) -> Moments:
        """Moments of A·x: mean A·mean, scatter A·scatter·Aᵀ, for ``matrix`` A of shape (q, p)."""
        a = np.asarray(matrix, float)
        return Moments(tuple(names), self.n, a @ self.mean, a @ self.scatter @ a.T)

    def select(self, names: Sequence[str]) -> Moments:
        """Moments of some of the columns, in the given order."""
        index = [self.names.index(name) for name in names]
        return Moments(tuple(names), self.n, self.mean[index], self.scatter[np.ix_(index, index)])

    @property
    def covariance(self) -> Array:
        """Sample covariance, shape (p, p), ddof 1; NaN below two rows."""
        if self.n < 2:
            return np.full_like(self.scatter, np.nan)
        return self.scatter / (self.n - 1)

    def to_dict(self) -> dict[str, object]:
        return {"names": list(self.names), "n": self.n, "mean": self.mean.tolist(), "scatter": self.scatter.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, object]) -> Moments:
        names = tuple(str(name) for name in data["names"])  # type: ignore[attr-defined]
        p = len(names)
        return cls(
            names,
            float(data["n"]),  # type: ignore[arg-type]
            np.asarray(data["mean"], float).reshape(p),
            np.asarray(data["scatter"], float).reshape(p, p),
        )
