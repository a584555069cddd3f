"""What is left of the historic table: enough to plan again with other effects, sizes, alpha or power."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from causal_spark.config import convert
from causal_spark.methods import saved
from causal_spark.methods.experiment import Metric
from causal_spark.results import Check
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK

FORMAT = 2


@dataclass(frozen=True)
class Drawn:
    """The assignment: units by arm, the salt that gave it, and if it was chosen, from how many.

    ``distance`` of the chosen salt, its ``limit``, and the standardised difference of each covariate's mean from that
    of all units, by arm, as ``balance`` rows (covariate, arm, smd).
    """

    salt: str
    counts: Mapping[str, int]
    draw: int = 0
    draws: int = 1
    distance: float = math.nan
    limit: float = math.nan
    balance: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Spread:
    """The quantile ``q`` of a metric: its ``value``, and the ``variance`` of a unit (cluster), so that se² = v/n.

    NaN where the history does not tell: too few units, or many equal values around the quantile. ``n``: units or
    clusters of the history.
    """

    metric: str
    q: float
    value: float
    variance: float
    n: float


@dataclass(frozen=True)
class Compressed:
    """Moments by metric over what is randomised (``moments``) and, if that is clusters, over ``units``.

    ``arrivals``: (day since 1970, new units). ``splits``: outcome, estimator and the z of every A/A split.
    ``quantiles``: those that the metrics ask for.
    """

    moments: Grouped
    metrics: tuple[Metric, ...]
    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()
    units: Grouped | None = None
    arrivals: tuple[tuple[int, int], ...] = ()
    splits: tuple[tuple[str, str, tuple[float, ...]], ...] = ()
    drawn: Drawn | None = None
    quantiles: tuple[Spread, ...] = ()

    def of(self, metric: str) -> Moments:
        """The moments of a metric's columns over what is randomised."""
        return _only(self.moments, metric)

    def of_units(self, metric: str) -> Moments:
        """The moments of a metric's columns over units."""
        return _only(self.units or self.moments, metric)

    def to_json(self) -> str:
        """JSON text; NaN as null, numbers at full precision."""
        data = {
            "moments": self.moments.to_dict(),
            "units": None if self.units is None else self.units.to_dict(),
            "metrics": [asdict(metric) for metric in self.metrics],
            "facts": dict(self.facts),
            "checks": [asdict(check) for check in self.checks],
            "arrivals": self.arrivals,
            "splits": self.splits,
            "drawn": None if self.drawn is None else asdict(self.drawn),
            "quantiles": [asdict(item) for item in self.quantiles],
        }
        return saved.to_text(data, FORMAT)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = saved.from_text(text, FORMAT, "moments", "arrivals")
        drawn = data["drawn"]
        if drawn is not None:
            rows = tuple(saved.with_nan(row) for row in drawn["balance"])
            drawn = Drawn(**{**saved.with_nan(drawn), "balance": rows})
        return cls(
            moments=Grouped.from_dict(data["moments"]),
            metrics=convert(tuple[Metric, ...], data["metrics"], "statistics.metrics"),
            facts=data["facts"],
            checks=tuple(Check(**saved.with_nan(check)) for check in data["checks"]),
            units=None if data["units"] is None else Grouped.from_dict(data["units"]),
            arrivals=tuple((int(day), int(n)) for day, n in data["arrivals"]),
            splits=tuple((name, kind, tuple(math.nan if z is None else z for z in values))
                         for name, kind, values in data["splits"]),
            drawn=drawn,
            quantiles=tuple(Spread(**saved.with_nan(item)) for item in data["quantiles"]),
        )  # fmt: skip


def _only(grouped: Grouped, metric: str) -> Moments:
    return next(part for _, part in grouped.where(**{BLOCK: metric}))
