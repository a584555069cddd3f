"""What a further pass is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.tables import UnitTable, prepared
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.spark.tables import Frame


@dataclass(frozen=True)
class Given:
    """The unit table as the gate left it, its ranges, and the caps of winsorized columns."""

    method: Experiment
    table: UnitTable
    caps: Mapping[plan.Column, float]

    def prepared(self, columns: Sequence[plan.Column], *keys: str) -> Frame:
        """The ``keys`` and the columns under their NULL policies and caps, named ``column.name``."""
        return prepared(self.table, columns, self.caps, keys)
