"""Settings of an experiment that have keys of their own: priors, and resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from causal_spark.errors import ConfigError, Phrase


@dataclass(frozen=True)
class Bayes:
    """Priors: the lift is normal with ``prior_mean`` and ``prior_sd`` (omitted: flat), a proportion Beta(``beta``)."""

    prior_mean: float = 0.0
    prior_sd: float | None = None
    beta: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        where = "method.bayes"
        if self.prior_sd is not None and not 0 < self.prior_sd < math.inf:
            raise ConfigError(
                "bad_number", where=f"{where}.prior_sd", got=self.prior_sd, expected=Phrase("expected_above_0")
            )
        if not math.isfinite(self.prior_mean):
            raise ConfigError(
                "bad_number", where=f"{where}.prior_mean", got=self.prior_mean, expected=Phrase("expected_number")
            )
        if len(self.beta) != 2 or not all(0 < part < math.inf for part in self.beta):
            expected = Phrase("expected_two_above_0")
            raise ConfigError("bad_number", where=f"{where}.beta", got=list(self.beta), expected=expected)


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of whole ``buckets`` of units (or clusters), by hash: ``replicates`` with Poisson weights, or each
    bucket left out once (jackknife). ``metrics``: names; omitted means all.
    """

    method: Literal["poisson", "jackknife"] = "poisson"
    replicates: int = 1000
    buckets: int = 1000
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, most in (("replicates", 100_000), ("buckets", 20_000)):
            number = getattr(self, key)
            if not 50 <= number <= most:
                expected = Phrase("expected_whole_between", low=50, high=most)
                raise ConfigError("bad_number", where=f"method.bootstrap.{key}", got=number, expected=expected)
