"""What a further pass is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.tables import UnitTable, centre, prepared
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.spark.tables import Frame
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK


@dataclass(frozen=True)
class Given:
    """The unit table as the gate left it, its ranges, the caps of winsorized columns, and the moments found."""

    method: Experiment
    table: UnitTable
    caps: Mapping[plan.Column, float]
    moments: Grouped

    def prepared(self, columns: Sequence[plan.Column], *keys: str) -> Frame:
        """The ``keys`` and the columns under their NULL policies and caps, named ``column.name``."""
        return prepared(self.table, columns, self.caps, keys)

    def nullable(self, columns: Sequence[plan.Column]) -> frozenset[str]:
        """Names of the prepared columns that still hold NULL."""
        return frozenset(c.name for c in columns if c.nulls == "drop" and self.table.ranges[c.source].nulls > 0)

    def centres(self, columns: Sequence[plan.Column]) -> dict[str, float]:
        """A number near the values of each prepared column."""
        return {column.name: centre(self.table, column, self.caps) for column in columns}

    def arms(self, block: str) -> dict[str, Moments]:
        """The moments of a metric over everyone by arm of the test."""
        found = {
            str(named[self.table.arm]): part
            for named, part in self.moments.where(**{BLOCK: block})
            if all(value is None for name, value in named.items() if name not in (self.table.arm, BLOCK))
        }
        return {arm: found[arm] for arm in self.table.arms if arm in found}
