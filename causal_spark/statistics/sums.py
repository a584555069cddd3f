"""Sums: named arrays that add; what a pass over blocks of rows leaves of each block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Sums:
    """Additive arrays by name. ``a + b`` adds arrays of equal name; the names and shapes must agree.

    ``vector`` lays them out as one row of doubles, ``like`` reads such a row again.
    """

    values: Mapping[str, Array]

    @classmethod
    def of(cls, **values: ArrayLike) -> Sums:
        return cls({name: np.asarray(value, float) for name, value in values.items()})

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def number(self, name: str) -> float:
        """The sum ``name`` that is a single number."""
        return float(self.values[name])

    def __add__(self, other: Sums) -> Sums:
        if not isinstance(other, Sums):
            return NotImplemented
        if self.shapes != other.shapes:
            raise ValueError(f"Sums of different shape cannot merge: {self.shapes} and {other.shapes}")
        return Sums({name: value + other.values[name] for name, value in self.values.items()})

    def __radd__(self, other: object) -> Sums:
        """``sum(parts)`` starts from 0."""
        if other == 0:
            return self
        return NotImplemented

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: value.shape for name, value in self.values.items()}

    @property
    def vector(self) -> Array:
        """All values in order of name, each array row by row; shape (size,)."""
        return np.concatenate([np.zeros(0), *(self.values[name].ravel() for name in sorted(self.values))])

    def like(self, vector: ArrayLike) -> Sums:
        """``vector`` as Sums of the names and shapes of this one."""
        flat, found, start = np.asarray(vector, float), {}, 0
        for name in sorted(self.values):
            size = self.values[name].size
            found[name] = flat[start : start + size].reshape(self.values[name].shape)
            start += size
        if start != flat.size:
            raise ValueError(f"a row of {flat.size} numbers is none of {start}")
        return Sums(found)

    def to_dict(self) -> dict[str, object]:
        return {name: value.tolist() for name, value in self.values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Sums:
        return cls({name: np.asarray(value, float) for name, value in data.items()})
