"""What an analyst says of an experiment to come: the fields are the YAML keys and the MLflow parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from causal_spark.config import Filter, utc_micros
from causal_spark.errors import ConfigError, Phrase
from causal_spark.methods.experiment import Metric
from causal_spark.solve.assignment import Layer

KINDS = ("mean", "proportion", "ratio", "count", "revenue", "conversion")
MOST_SPLITS, MOST_DRAWS, LONGEST = 100_000, 5_000, 3_660


def quantile_label(metric: str, q: float) -> str:
    """What a quantile of a metric is called in the tables and in ``effects``: "revenue p90"."""
    return f"{metric} p{100 * q:.10g}"


def _number(where: str, got: object, good: bool, expected: Phrase | str) -> None:
    if not good:
        raise ConfigError("bad_number", where=f"method.{where}", got=got, expected=expected)


@dataclass(frozen=True)
class Splits:
    """A/A validation: ``splits`` salted splits of the historic units, evaluated in one scan."""

    splits: int = 1000

    def __post_init__(self) -> None:
        good = 200 <= self.splits <= MOST_SPLITS
        _number("aa.splits", self.splits, good, Phrase("expected_whole_between", low=200, high=MOST_SPLITS))


@dataclass(frozen=True)
class Layers:
    """Experiments that exclude each other: each owns a range [low, high) of the layer, as shares of its units.

    ``salt``: of the layer, the same for all its experiments. ``experiment``: the one that is designed here.
    """

    salt: str
    experiment: str
    ranges: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        for name, ends in self.ranges.items():
            _number(f"assign.layer.ranges.{name}", list(ends), len(ends) == 2, "[low, high]")
        if self.experiment not in self.ranges:
            raise ConfigError("design_layer", experiment=self.experiment, known=", ".join(self.ranges))
        Layer(self.salt, {name: (ends[0], ends[1]) for name, ends in self.ranges.items()})


@dataclass(frozen=True)
class Rerandomize:
    """Choose among ``draws`` salts the first whose arms are balanced in the ``covariates``.

    ``accepted``: this share of all salts is balanced enough. ``strata``: a column within whose values it is judged.
    """

    covariates: tuple[str, ...]
    draws: int = 500
    accepted: float = 0.02
    strata: str | None = None

    def __post_init__(self) -> None:
        names = self.covariates
        where = "method.assign.rerandomize.covariates"
        if not names:
            raise ConfigError("matching_empty", key=where)
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("design_twice", where=where, name=name)
        good = 2 <= self.draws <= MOST_DRAWS
        whole = Phrase("expected_whole_between", low=2, high=MOST_DRAWS)
        _number("assign.rerandomize.draws", self.draws, good, whole)
        share = Phrase("expected_between", low=0, high=1)
        _number("assign.rerandomize.accepted", self.accepted, 0 < self.accepted < 1, share)


@dataclass(frozen=True)
class Assign:
    """Write a table of units and their arms, by a salted hash of the canonical key.

    ``salt``: the name of this assignment; the same salt gives the same arms, another one independent arms.
    """

    salt: str
    layer: Layers | None = None
    rerandomize: Rerandomize | None = None

    def __post_init__(self) -> None:
        if not self.salt.strip():
            raise ConfigError("bad_choice", where="method.assign.salt", got="''", choices=Phrase("expected_any_text"))
        again = self.rerandomize
        salts = [self.salt] if again is None else [f"{self.salt}/{draw}" for draw in range(again.draws)]
        if self.layer is not None and self.layer.salt in salts:
            raise ConfigError("design_same_salt", salt=self.layer.salt)


@dataclass(frozen=True)
class Design:
    """An experiment to be planned from a historic table; units or clusters of units will be randomised.

    ``shares``: planned share of each arm; several treatments are each compared with ``control`` (Bonferroni).
    ``cluster``: the column that will be randomised, if it is not the unit; sizes then count clusters.
    ``time``: when a unit was first seen (unit tables), or the day of a row (unit and day). ``since``: rows of unit
    and day from this day on are outcomes, earlier ones become covariates. ``lifts``: relative effects to be found;
    ``effects``: absolute ones by metric, instead. ``sizes``: units in all arms, ``days``: durations, for which MDE
    and power are given. ``traffic``: share of the arriving units that enters the experiment. ``recent_days``:
    arrivals by weekday are means over so many last days. ``margin_alpha``: one-sided level of the tests against a
    margin. ``power``: wanted. ``proportions``: the formula of 0/1 metrics. ``aa``: A/A validation. ``assign``: write
    who gets what.
    """

    unit: str
    metrics: tuple[Metric, ...]
    control: str = "control"
    shares: Mapping[str, float] = field(default_factory=lambda: {"control": 0.5, "treatment": 0.5})
    cluster: str | None = None
    time: str | None = None
    since: str | None = None
    where: tuple[Filter, ...] = ()
    lifts: tuple[float, ...] = (0.01, 0.02, 0.05)
    effects: Mapping[str, float] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    days: tuple[int, ...] = (7, 14, 28)
    traffic: float = 1.0
    recent_days: int = 28
    alpha: float = 0.05
    margin_alpha: float = 0.05
    power: float = 0.8
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    proportions: Literal["pooled", "unpooled", "control"] = "pooled"
    aa: Splits | None = None
    assign: Assign | None = None

    def __post_init__(self) -> None:
        self._check_metrics()
        self._check_shares()
        _number("alpha", self.alpha, 0 < self.alpha < 1, Phrase("expected_between", low=0, high=1))
        good = 0 < self.margin_alpha < 0.5
        _number("margin_alpha", self.margin_alpha, good, Phrase("expected_between", low=0, high=0.5))
        level = max(self.alpha, self.margin_alpha if any(metric.margin for metric in self.metrics) else 0.0)
        _number("power", self.power, level < self.power < 1, Phrase("expected_above_level", level=level))
        sizes = Phrase("expected_effects")
        _number("lifts", list(self.lifts), all(0 < lift < math.inf for lift in self.lifts), sizes)
        for name, effect in self.effects.items():
            self._check_effect(name)
            _number(f"effects.{name}", effect, 0 < effect < math.inf, sizes)
        good = all(size >= 4 for size in self.sizes)
        _number("sizes", list(self.sizes), good, Phrase("expected_wholes_least", least=4))
        good = all(1 <= day <= LONGEST for day in self.days)
        _number("days", list(self.days), good, Phrase("expected_wholes_between", low=1, high=LONGEST))
        _number("traffic", self.traffic, 0 < self.traffic <= 1, Phrase("expected_share"))
        days = Phrase("expected_days_between", low=7, high=LONGEST)
        _number("recent_days", self.recent_days, 7 <= self.recent_days <= LONGEST, days)
        self.since_micros()

    def _check_metrics(self) -> None:
        if not self.metrics:
            raise ConfigError("no_metrics")
        names = [*(metric.name for metric in self.metrics), *self._labels()]
        lower = [name.casefold() for name in names]
        for name in names:
            if lower.count(name.casefold()) > 1 or not name.strip():
                raise ConfigError("repeated_metric", name=name)
        for metric in self.metrics:
            if metric.kind not in KINDS:
                where = f"method.metrics[{metric.name}].kind"
                raise ConfigError("bad_choice", where=where, got=metric.kind, choices=", ".join(KINDS))
            if not metric.sources:
                raise ConfigError("metric_needs_value", name=metric.name)
            if metric.ranks or metric.cupac:
                raise ConfigError("design_means_only", name=metric.name)
            filters = (*metric.where, *metric.numerator_where, *metric.denominator_where)
            if filters or metric.days or "*" in metric.sources:
                raise ConfigError("design_needs_columns", name=metric.name)

    def _labels(self) -> list[str]:
        return [quantile_label(metric.name, q) for metric in self.metrics for q in metric.quantiles]

    def _check_effect(self, name: str) -> None:
        """An effect belongs to a metric or to a quantile of one; with a margin, the margin is what is planned for."""
        known = {metric.name: metric for metric in self.metrics}
        if name not in known and name not in self._labels():
            raise ConfigError("design_effect_metric", name=name, known=", ".join(sorted([*known, *self._labels()])))
        if name in known and known[name].margin is not None:
            raise ConfigError("design_effect_margin", name=name)

    def _check_shares(self) -> None:
        if self.control not in self.shares:
            raise ConfigError("control_not_in_shares", control=self.control, arms=", ".join(self.shares))
        good = all(0 < share < 1 for share in self.shares.values())
        if len(self.shares) < 2:
            raise ConfigError("one_arm", arms=", ".join(self.shares))
        _number("shares", dict(self.shares), good, Phrase("expected_shares_inside"))
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ConfigError("shares_sum", total=round(sum(self.shares.values()), 6))

    def since_micros(self) -> int | None:
        """``since`` in microseconds since 1970; a time without zone is UTC."""
        return utc_micros(self.since, "method.since")

    @property
    def writes_large_tables(self) -> bool:
        """The assignment has as many rows as there are units."""
        return self.assign is not None

    @property
    def key(self) -> str:
        """The column that is randomised."""
        return self.cluster or self.unit

    @property
    def treatments(self) -> tuple[str, ...]:
        return tuple(arm for arm in self.shares if arm != self.control)

    @property
    def neediest(self) -> str:
        """The treatment with the smallest share: its contrast with the control needs the most units."""
        return min(self.treatments, key=lambda arm: self.shares[arm])

    @property
    def level(self) -> float:
        """The significance level of one contrast."""
        return self.alpha / len(self.treatments)
