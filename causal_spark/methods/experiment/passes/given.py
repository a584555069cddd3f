"""What a further pass is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.tables import UnitTable, centre, prepared
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.spark.columns import labelled
from causal_spark.spark.tables import Frame
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK


@dataclass(frozen=True)
class Given:
    """The unit table as the gate left it, its ranges, the caps of winsorized columns, and the moments found.

    The moments are those over everyone and of the segments that are large enough to be kept.
    """

    method: Experiment
    table: UnitTable
    caps: Mapping[plan.Column, float]
    moments: Grouped

    def prepared(self, columns: Sequence[plan.Column], *keys: str) -> Frame:
        """The ``keys``, segments as their labels, and the columns under their NULL policies and caps, named
        ``column.name``.
        """
        return labelled(prepared(self.table, columns, self.caps, keys), [k for k in keys if k in self.method.segments])

    def nullable(self, columns: Sequence[plan.Column]) -> frozenset[str]:
        """Names of the prepared columns that still hold NULL."""
        return frozenset(c.name for c in columns if c.nulls == "drop" and self.table.ranges[c.source].nulls > 0)

    def centres(self, columns: Sequence[plan.Column]) -> dict[str, float]:
        """A number near the values of each prepared column."""
        return {column.name: centre(self.table, column, self.caps) for column in columns}

    def levels(self, block: str, column: str | None = None) -> Mapping[str, Mapping[str, Moments]]:
        """The moments of a block by value of a segment column and arm; without a column those of everyone."""
        return self._levels.get((block, column), {})

    @cached_property
    def _levels(self) -> dict[tuple[str, str | None], dict[str, dict[str, Moments]]]:
        found: dict[tuple[str, str | None], dict[str, dict[str, Moments]]] = {}
        for named, part in self.moments.where():
            split = [name for name, v in named.items() if name not in (self.table.arm, BLOCK) and v is not None]
            column = split[0] if split else None
            level = plan.EVERYONE if column is None else str(named[column])
            found.setdefault((str(named[BLOCK]), column), {}).setdefault(level, {})[str(named[self.table.arm])] = part
        return found

    def tested(self, arms: Mapping[str, Moments]) -> dict[str, Moments]:
        """Those of the ``arms`` that are in the test, in order."""
        return {arm: arms[arm] for arm in self.table.arms if arm in arms}
