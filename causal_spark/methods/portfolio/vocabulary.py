"""What an analyst says of a portfolio: the fields are the YAML keys and the MLflow parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from causal_spark.config import Filter
from causal_spark.errors import ConfigError, Phrase


@dataclass(frozen=True)
class Reach:
    """The columns of the table ``reach``: one row for each ``experiment``, or for each of its ``contrast``s.

    ``reached``: with term difference the units that the action touched, with lift the share of the metric, 0 to 1.
    ``launched``: a date, NULL of what was never launched; null: everything in the table was launched.
    """

    experiment: str = "experiment"
    contrast: str | None = None
    reached: str = "reached"
    launched: str | None = "launched"


@dataclass(frozen=True)
class Portfolio:
    """Effects of many experiments on one metric, shrunk towards what such actions do on average.

    ``outcome``: the target metric, as the experiments call it. ``experiment``: column that names the experiment.
    ``term``: difference adds up over the units reached, lift multiplies. ``methods``: where an experiment has several
    estimates of one effect, the first of these is taken. ``better``: which way is for the better. ``centre``: mean of
    the prior; omitted, the mean of all effects is estimated.
    """

    outcome: str
    experiment: str = "experiment"
    term: Literal["difference", "lift"] = "difference"
    methods: tuple[str, ...] = ("cuped", "lin", "cuped_strata", "cupac", "strata", "welch", "z", "delta", "cluster")
    where: tuple[Filter, ...] = ()
    reach: Reach = field(default_factory=Reach)
    better: Literal["higher", "lower"] = "higher"
    centre: float | None = None
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError(
                "bad_number", where="method.alpha", got=self.alpha, expected=Phrase("expected_between", low=0, high=1)
            )
        if self.centre is not None and not math.isfinite(self.centre):
            raise ConfigError("bad_number", where="method.centre", got=self.centre, expected=Phrase("expected_finite"))
        for name in self.methods:
            if self.methods.count(name) > 1:
                raise ConfigError("portfolio_methods", name=name)
