"""What an analyst says of an experiment: the fields are the YAML keys and the MLflow parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from causal_spark.config import Filter, nearest, utc_micros
from causal_spark.errors import ConfigError, Phrase
from causal_spark.methods.experiment.rules import DecisionRule, Margin, Sequential, check_levels, planned
from causal_spark.methods.experiment.settings import Bayes, Bootstrap
from causal_spark.solve.sequential import Plan

Kind = Literal["mean", "proportion", "ratio", "count", "revenue", "conversion", "retention"]
BINARY = ("proportion", "conversion", "retention")
POSITIVE = "a whole number of 1 or more"
LONGEST, FINEST = 3_660, 10**12  # days of a window; units of a fixed-point integer
CELL = "(region and period)"  # the column of a switchback's cells
NON_NEGATIVE = ("count", "revenue", "proportion", "conversion", "retention")
VALUED = ("mean", "revenue", "count")  # every unit has a value of its own


@dataclass(frozen=True)
class RatioOf:
    """A covariate of a ratio metric: Σ numerator / Σ denominator."""

    numerator: str
    denominator: str


@dataclass(frozen=True)
class Metric:
    """One outcome.

    ``value`` (or ``numerator`` and ``denominator`` of a ratio) is a column of the unit table, or of the events,
    whose values are summed for each unit; ``"*"`` counts events. ``covariates`` are columns of the unit table from
    before exposure. ``winsorize``: values above this pooled percentile of the non-zero values are set to it.
    ``nulls``: NULL means 0 (zero), or the unit leaves this metric (drop), or the job refuses (refuse).
    ``scale``: units of the fixed-point integers in which events and clusters are summed (1000000 = six decimals).
    ``days``: only events of days [from, to) since exposure, for units exposed at least that long.
    ``role``: only success metrics are corrected for multiplicity. ``quantiles``: effects on these quantiles too.
    ``ranks``: the Mann–Whitney test too. ``cupac``: columns from before exposure; their cross-fitted prediction of the
    metric is its covariate. ``cupac_model``: by least squares (linear) or trees (boosted). ``good``: the direction that
    is better. ``test``: against no effect (superiority), or against the ``margin`` in the bad direction
    (non-inferiority) or in both (equivalence).
    """

    name: str
    kind: Kind
    value: str | None = None
    numerator: str | None = None
    denominator: str | None = None
    covariates: tuple[str | RatioOf, ...] = ()
    winsorize: float | None = None
    nulls: Literal["zero", "drop", "refuse"] = "refuse"
    scale: int = 1_000_000
    negative: bool = False
    where: tuple[Filter, ...] = ()
    numerator_where: tuple[Filter, ...] = ()
    denominator_where: tuple[Filter, ...] = ()
    days: tuple[int, ...] | None = None
    role: Literal["success", "guardrail", "diagnostic"] = "success"
    quantiles: tuple[float, ...] = ()
    ranks: bool = False
    cupac: tuple[str, ...] = ()
    cupac_model: Literal["linear", "boosted"] = "linear"
    good: Literal["increase", "decrease"] = "increase"
    test: Literal["superiority", "non-inferiority", "equivalence"] = "superiority"
    margin: Margin | None = None

    def __post_init__(self) -> None:
        where = f"method.metrics[{self.name}]"
        if self.kind == "ratio":
            if not self.numerator or not self.denominator or self.value:
                raise ConfigError("ratio_needs", where=where)
        elif self.numerator or self.denominator:
            raise ConfigError("not_a_ratio", where=where, kind=self.kind)
        if self.winsorize is not None and (not 0 < self.winsorize < 1 or self.kind in BINARY):
            raise ConfigError("bad_winsorize", where=where, got=self.winsorize)
        if not 1 <= self.scale <= FINEST:
            expected = Phrase("expected_whole_most", least=1, most=FINEST)
            raise ConfigError("bad_number", where=f"{where}.scale", got=self.scale, expected=expected)
        if self.days is not None and not (len(self.days) == 2 and 0 <= self.days[0] < self.days[1] <= LONGEST):
            raise ConfigError("bad_days", where=where, got=list(self.days))
        if self.kind == "retention" and self.days is None:
            raise ConfigError("bad_days", where=where, got=Phrase("got_nothing"))
        if (self.test == "superiority") != (self.margin is None):
            raise ConfigError("test_and_margin", where=where, test=self.test)
        if self.cupac_model != "linear" and not self.cupac:
            raise ConfigError("cupac_model_alone", where=where)
        self._check_values(where)

    def _check_values(self, where: str) -> None:
        """Quantiles and ranks are of the values of units, which 0/1 metrics and ratios do not have."""
        for q in self.quantiles:
            if not 0 < q < 1:
                raise ConfigError("bad_quantile", where=f"{where}.quantiles", got=q)
        if (self.quantiles or self.ranks) and self.kind not in VALUED:
            key = "quantiles" if self.quantiles else "ranks"
            raise ConfigError("no_values", where=f"{where}.{key}", kind=self.kind, kinds=", ".join(VALUED))

    @property
    def binary(self) -> bool:
        return self.kind in BINARY

    @property
    def sources(self) -> tuple[str, ...]:
        """The outcome's own columns of the unit table."""
        names = (self.numerator, self.denominator) if self.kind == "ratio" else (self.value,)
        return tuple(name for name in names if name)

    @property
    def non_negative(self) -> bool:
        return self.kind in NON_NEGATIVE and not self.negative


@dataclass(frozen=True)
class Switchback:
    """Arms were switched over time in every region: what was randomised are the cells of ``region`` and period.

    ``period``: its column; or else ``hours``: the length of the periods into which ``method.time`` is cut, from
    ``origin`` on (ISO time, UTC; default: 1970-01-01, so that 24 hours are the days). ``burn_in``: rows of the first so
    many minutes of every period are left out.
    """

    region: str
    period: str | None = None
    hours: float | None = None
    origin: str | None = None
    burn_in: float = 0.0

    def __post_init__(self) -> None:
        if (self.period is None) == (self.hours is None) or (self.origin is not None and self.hours is None):
            raise ConfigError("switchback_period")
        where = "method.switchback"
        if self.hours is not None and not 1 / 60 <= self.hours <= 24 * LONGEST:
            raise ConfigError("bad_number", where=f"{where}.hours", got=self.hours, expected=Phrase("expected_hours"))
        if not 0 <= self.burn_in < 60 * (self.hours or math.inf) or (self.burn_in and self.hours is None):
            expected = Phrase("expected_burn_in")
            raise ConfigError("bad_number", where=f"{where}.burn_in", got=self.burn_in, expected=expected)
        self.origin_micros()

    def origin_micros(self) -> int:
        """``origin`` in microseconds since 1970."""
        return utc_micros(self.origin, "method.switchback.origin") or 0


@dataclass(frozen=True)
class Experiment:
    """An A/B test with any number of arms; units or clusters of units were randomised.

    ``shares``: planned share of each arm (omitted: every arm found, equal). ``holdouts``: arms that leave the test;
    ``holdout_effect``: all tested arms together are compared with each of them. ``cluster``: the column that was
    randomised, if it is not the unit. ``switchback``: cells of region and period were randomised, and are the cluster.
    ``triggered``: the 0/1 column of the units that could have met the change, known in every arm. ``interactions``: the
    arm columns of other experiments on the same units. ``time``: the time column of exposures and events, or of a
    switchback. ``window_days``: events count for this long after first exposure; ``pre_days``: the same metrics over
    this long before it become covariates. ``by_day``: effects for each of so many days since exposure, their trend.
    ``as_of``: the end of the data (ISO time, UTC; default: the latest event). ``min_segment``: a segment with fewer
    units (clusters, where they are set) in an arm is suppressed. ``max_split``: share of units in several arms above
    which the job refuses.
    ``exact_values``: histograms of at most so many possible values are exact; others keep ``histogram_bits`` binary
    digits of a value after the first. ``bayes``: priors, for P(win), expected losses and credible intervals.
    ``bootstrap``: standard errors by resampling beside the others.
    ``adjustment``: by covariates with slopes shared by all arms (cuped), or with slopes of each arm and the standard
    error ``hc`` (lin). ``strata``: a column from before exposure, to whose sizes all arms are reweighted.
    ``margin_alpha``: one-sided level of the tests against a margin. ``decision``: when to ship. ``sequential``: the
    plan of several looks.
    """

    unit: str
    arm: str
    control: str
    metrics: tuple[Metric, ...]
    shares: Mapping[str, float] | None = None
    holdouts: tuple[str, ...] = ()
    holdout_effect: bool = False
    cluster: str | None = None
    switchback: Switchback | None = None
    triggered: str | None = None
    interactions: tuple[str, ...] = ()
    time: str | None = None
    where: tuple[Filter, ...] = ()
    segments: tuple[str, ...] = ()
    alpha: float = 0.05
    margin_alpha: float = 0.05
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    correction: Literal["none", "bonferroni", "holm", "hochberg", "bh", "by"] = "holm"
    contrasts: Literal["control", "pairs"] = "control"
    lift: Literal["fieller", "log", "delta"] = "fieller"
    theta: Literal["within", "all"] = "within"
    cluster_correction: Literal["arm", "CR1"] = "arm"
    window_days: int | None = None
    pre_days: int | None = None
    by_day: int | None = None
    as_of: str | None = None
    min_segment: int = 50
    max_split: float = 0.01
    srm_alpha: float = 0.001
    srm_min_deviation: float = 0.01
    every_key: bool = False
    event_id: str | None = None
    exact_values: int = 100_000
    histogram_bits: int = 10
    bayes: Bayes | None = None
    bootstrap: Bootstrap | None = None
    adjustment: Literal["cuped", "lin"] = "cuped"
    hc: Literal["HC2", "HC3"] = "HC2"
    strata: str | None = None
    decision: DecisionRule | None = None
    sequential: Sequential | None = None

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ConfigError("no_metrics")
        names = [metric.name.casefold() for metric in self.metrics]  # columns of these names differ in no case
        for name in (metric.name for metric in self.metrics):
            if names.count(name.casefold()) > 1 or not name.strip():
                raise ConfigError("repeated_metric", name=name)
        for key, value in (("alpha", self.alpha), ("srm_alpha", self.srm_alpha)):
            if not 0 < value < 1:
                raise ConfigError(
                    "bad_number", where=f"method.{key}", got=value, expected=Phrase("expected_between", low=0, high=1)
                )
        for key in ("window_days", "pre_days", "by_day", "min_segment"):
            number, most = getattr(self, key), math.inf if key == "min_segment" else LONGEST
            if number is not None and not 1 <= number <= most:
                whole = "expected_whole_least" if math.isinf(most) else "expected_whole_most"
                expected = Phrase(whole, least=1, most=most)
                raise ConfigError("bad_number", where=f"method.{key}", got=number, expected=expected)
        for key, least, most in (("exact_values", 1, 1_000_000), ("histogram_bits", 4, 20)):
            number = getattr(self, key)
            if not least <= number <= most:
                expected = Phrase("expected_whole_between", low=least, high=most)
                raise ConfigError("bad_number", where=f"method.{key}", got=number, expected=expected)
        self._check_design()
        if self.cluster is not None and any(metric.ranks for metric in self.metrics):
            raise ConfigError("ranks_of_clusters")
        for name in self.bootstrap.metrics if self.bootstrap is not None else ():
            if name not in (metric.name for metric in self.metrics):
                hint = nearest(name, [metric.name for metric in self.metrics])
                raise ConfigError("unknown_metric", where="method.bootstrap.metrics", name=name, hint=hint)
        self._check_adjustment()
        if self.control in self.holdouts:
            raise ConfigError("control_is_holdout", control=self.control)
        if self.holdout_effect and not self.holdouts:
            raise ConfigError("holdout_effect_needs_holdouts")
        if self.shares is not None:
            self._check_shares(self.shares)
        self._check_rules()
        self.as_of_micros()

    def _check_adjustment(self) -> None:
        """Which adjustments go together."""
        if self.adjustment == "lin" and (self.cluster or self.strata):
            raise ConfigError("lin_alone", other="cluster" if self.cluster else "strata")
        if self.strata is not None and self.cluster is not None:
            raise ConfigError("strata_of_clusters")
        for metric in self.metrics:
            other = "covariates" if metric.covariates else Phrase("other_ratio") if metric.kind == "ratio" else None
            other = other or next((f"method.{key}" for key in ("cluster", "strata") if getattr(self, key)), None)
            if metric.cupac and other is not None:
                raise ConfigError("cupac_alone", name=metric.name, other=other)

    def _check_shares(self, shares: Mapping[str, float]) -> None:
        if self.control not in shares:
            raise ConfigError("control_not_in_shares", control=self.control, arms=", ".join(shares))
        if any(share < 0 or not math.isfinite(share) for share in shares.values()):
            raise ConfigError(
                "bad_number", where="method.shares", got=dict(shares), expected=Phrase("expected_shares_not_negative")
            )
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ConfigError("shares_sum", total=round(sum(shares.values()), 6))
        if len([arm for arm in shares if arm not in self.holdouts]) < 2:
            raise ConfigError("one_arm", arms=", ".join(shares))

    def _check_design(self) -> None:
        """What was randomised, and the columns that further split the arms."""
        if self.switchback is not None and self.switchback.hours is not None and self.time is None:
            raise ConfigError("missing_key", where="method", key="time")
        if self.switchback is not None:
            if self.cluster not in (None, CELL):
                raise ConfigError("switchback_and_cluster")
            # who asks for clusters, from whichever room, finds the cells
            object.__setattr__(self, "cluster", CELL)
        for key in ("triggered", "interactions"):
            if getattr(self, key) and self.cluster is not None:
                raise ConfigError("not_with_clusters", key=key)
        taken = [self.unit, self.arm]
        for name in self.splits:
            if name in taken:
                raise ConfigError("repeated_role", column=name)
            taken.append(name)

    @property
    def randomised(self) -> tuple[str, ...]:
        """The columns of the table that ``cluster`` is made of."""
        if self.switchback is None:
            return (self.cluster,) if self.cluster else ()
        return (self.switchback.region, self.switchback.period or str(self.time))

    @property
    def splits(self) -> tuple[str, ...]:
        """The columns beside segments by which the arms are split: the trigger and other experiments."""
        return (*((self.triggered,) if self.triggered else ()), *self.interactions)

    @property
    def carried(self) -> tuple[str, ...]:
        """What is known of a unit beside its arm."""
        return (*self.segments, *filter(None, [self.strata]), *self.splits)

    def _check_rules(self) -> None:
        check_levels(self.margin_alpha, self.decision)
        if self.decision is not None and not any(metric.role == "success" for metric in self.metrics):
            raise ConfigError("no_success_metric")
        if self.decision is not None and self.decision.units is not None and self.sequential is not None:
            raise ConfigError("units_twice")
        if self.sequential is not None:
            planned(self.sequential, self.alpha, self.alternative)

    @property
    def plan(self) -> Plan | None:
        """The plan of several looks, if one was declared."""
        return None if self.sequential is None else planned(self.sequential, self.alpha, self.alternative)

    @property
    def experiment_key(self) -> str | None:
        """The name under which the looks at this experiment are tracked."""
        return None if self.sequential is None else self.sequential.key

    def as_of_micros(self) -> int | None:
        """``as_of`` in microseconds since 1970; a time without zone is UTC."""
        return utc_micros(self.as_of, "method.as_of")

    def arms(self, found: tuple[str, ...]) -> dict[str, float]:
        """The tested arms, control first, with planned shares that sum to 1; ``found``: labels in the data."""
        shares = dict(self.shares) if self.shares is not None else dict.fromkeys(sorted(found), 1.0)
        kept = {arm: share for arm, share in shares.items() if arm not in self.holdouts}
        if self.control not in kept:
            raise ConfigError("control_not_found", control=self.control, arms=", ".join(kept) or Phrase("got_nothing"))
        if len(kept) < 2:
            raise ConfigError("one_arm", arms=", ".join(kept))
        total = sum(kept.values())
        order = [self.control, *(arm for arm in kept if arm != self.control)]
        return {arm: kept[arm] / total for arm in order}
