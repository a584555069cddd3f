"""What an analyst says of an attribution: the fields are the YAML keys and the MLflow parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from causal_spark.config import Filter, utc_micros
from causal_spark.errors import ConfigError, Phrase

Model = Literal[
    "first", "last", "last_non_direct", "linear", "u_shape", "w_shape", "j_shape", "inverse_j", "custom",
    "time_decay", "participation", "markov_1", "markov_2", "markov_3", "markov_4", "markov_auto",
    "shapley", "shapley_ordered", "shapley_rate", "logistic", "additive_hazard",
]  # fmt: skip
# Models whose shares are a rule for each journey; their credit sums to the conversions, but for participation.
RULES = ("first", "last", "last_non_direct", "linear", "u_shape", "w_shape", "j_shape", "inverse_j", "custom",
         "time_decay", "participation", "shapley")  # fmt: skip
# The rule by which the credit of models that are no rule is spread over the touches of a channel.
SPREAD = "linear"
# Models that look at sets of channels, kept as the bits of one integer.
PRESENCE = ("shapley_rate", "logistic")
HAZARD = "additive_hazard"
SETS = (*PRESENCE, HAZARD)
MAX_SET = 62
MAX_ORDER = 4
LONGEST = 3_660
LARGEST_UNITS = 1e12
CONVERSIONS = "conversions"


@dataclass(frozen=True)
class Paths:
    """Columns of a table of ready paths: the channels with ``separator`` between, conversions, nulls, value."""

    path: str = "path"
    separator: str = " > "
    conversions: str = "total_conversions"
    nulls: str | None = None
    value: str | None = None

    def __post_init__(self) -> None:
        if not self.separator:
            raise ConfigError("bad_number", where="method.paths.separator", got="''", expected=Phrase("expected_text"))


@dataclass(frozen=True)
class Identity:
    """Columns of the identity table: ``alias`` (what touches and conversions carry) belongs to ``person``."""

    alias: str = "alias"
    person: str = "person"


@dataclass(frozen=True)
class Spend:
    """Columns of the spend table: one channel's ``cost``, in one row or in several. ``time``: when it was spent, which
    puts it beside the credit of its ``period``."""

    channel: str = "channel"
    cost: str = "cost"
    time: str | None = None


@dataclass(frozen=True)
class Calibration:
    """Where a channel's lift stands among the estimates of another run, which is the table ``input.lift``.

    ``channel`` and ``outcome``: whose credit is scaled. ``metric``, ``segment`` and, if given, ``contrast`` and
    ``method`` are the outcome, segment, contrast and method of the one row meant, whose term is difference.
    ``units``: how many units the channel reached in the time of the attribution; the row tells what it did to one.
    """

    channel: str
    metric: str
    units: float
    outcome: str = CONVERSIONS
    segment: str = "all"
    contrast: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.units <= LARGEST_UNITS:
            where = f"method.calibration[{self.channel}].units"
            raise ConfigError("bad_number", where=where, got=self.units, expected=f"0 < units ≤ {LARGEST_UNITS:.0e}")


@dataclass(frozen=True)
class Attribution:
    """Credit of conversions and value to channels, by any list of models on the same journeys.

    ``person``, ``time``, ``channel``: columns of the touches (person and time of the conversions too); ``value`` and
    ``values``: columns of the conversions. ``by``: further columns of the touches that with the channel make what gets
    credit. ``segments``: columns of the touches, read at a journey's first touch. ``period``: credit again for each
    day, week (from Monday) or month in which journeys ended, in UTC. ``event_id``, ``conversion_id``: of the touches,
    or conversions, of one id the earliest counts. ``type`` and ``view``: the column that tells views from clicks, and
    its label; views count for ``view_days``, other touches for ``window_days``. ``max_touches``: the last so many of a
    journey. ``session``: a column of the touches; those of one session are one, the first or the last
    (``session_touch``). ``session_minutes``: touches of one channel that follow one another within it are one.
    ``exclude``: channels that leave all journeys. ``drop_last``: channels that leave the end of a journey. ``direct``:
    passed over by last_non_direct. ``reuse_touches``: a touch may serve several conversions. ``transform``: a path as
    it is, without repeats in a row, the first touch of each channel, or each channel with its frequency. ``censoring``:
    journeys younger than the window at ``as_of`` are no nulls (exclude), or count by the share of conversions that come
    within their age (weight), or are nulls (count). ``nulls``: Markov chains hold the journeys without conversion.
    ``decay_step_days``: time decay in steps. ``positions``: weights of the custom model from first to last.
    ``max_order`` of markov_auto. ``calibration``: lifts of channels in the estimates of another run. ``replicates``:
    bootstrap replicates of persons for the intervals. ``touch_credit``: write the credit of every touch as a table.
    """

    models: tuple[Model, ...] = ("last", "linear", "markov_1", "shapley")
    person: str | None = None
    time: str | None = None
    channel: str | None = None
    value: str | None = None
    values: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    period: Literal["day", "week", "month"] | None = None
    where: tuple[Filter, ...] = ()
    channels: tuple[str, ...] = ()
    event_id: str | None = None
    conversion_id: str | None = None
    type: str | None = None
    view: str = "view"
    window_days: float = 30
    view_days: float | None = None
    max_touches: int | None = None
    session: str | None = None
    session_touch: Literal["first", "last"] = "first"
    session_minutes: float | None = None
    exclude: tuple[str, ...] = ()
    drop_last: tuple[str, ...] = ()
    direct: str = "direct"
    reuse_touches: bool = False
    transform: Literal["none", "collapse", "first", "frequency"] = "none"
    collapse_repeats: bool = False
    as_of: str | None = None
    censoring: Literal["exclude", "weight", "count"] = "exclude"
    nulls: bool = True
    half_life_days: float = 7
    decay_step_days: float | None = None
    positions: tuple[float, ...] = ()
    max_order: int = 3
    paths: Paths | None = None
    identity: Identity | None = None
    spend: Spend | None = None
    calibration: tuple[Calibration, ...] = ()
    alpha: float = 0.05
    replicates: int = 100
    permutations: int = 1000
    top_paths: int = 20
    touch_credit: bool = False

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError("attribution_models", got=", ".join(self.models) or Phrase("got_nothing"))
        positive = ("window_days", "view_days", "session_minutes", "half_life_days", "decay_step_days")
        for key in positive:
            number = getattr(self, key)
            if number is not None and not 0 < number <= LONGEST:
                raise ConfigError("bad_number", where=f"method.{key}", got=number, expected=f"0 < {key} ≤ {LONGEST}")
        whole = {"max_touches": (1, 10**6), "max_order": (1, MAX_ORDER), "replicates": (0, 1000),
                 "permutations": (2, 10**6), "top_paths": (0, 1000)}  # fmt: skip
        for key, (least, most) in whole.items():
            number = getattr(self, key)
            if number is not None and not least <= number <= most:
                expected = Phrase("expected_whole_between", low=least, high=most)
                raise ConfigError("bad_number", where=f"method.{key}", got=number, expected=expected)
        if not 0 < self.alpha < 1:
            raise ConfigError(
                "bad_number", where="method.alpha", got=self.alpha, expected=Phrase("expected_between", low=0, high=1)
            )
        self._check_positions()
        self._check_tables()
        self.as_of_micros()

    def _check_positions(self) -> None:
        if "custom" in self.models and not (len(self.positions) > 1 and min(self.positions) >= 0
                                            and sum(self.positions) > 0):  # fmt: skip
            expected = Phrase("expected_weights")
            raise ConfigError("bad_number", where="method.positions", got=list(self.positions), expected=expected)
        if self.collapse_repeats and self.transform not in ("none", "collapse"):
            raise ConfigError("bad_number", where="method.collapse_repeats", got=True, expected="transform: collapse")

    def _check_tables(self) -> None:
        if self.view_days is not None and self.type is None:
            raise ConfigError("missing_key", where="method", key="type")
        if self.period is not None and "period" in self.segments:
            choices = Phrase("expected_no_period")
            raise ConfigError("bad_choice", where="method.segments", got="'period'", choices=choices)
        if self.spend is not None and self.spend.time is not None and self.period is None:
            raise ConfigError("attribution_spend_time")
        named = [(item.channel, item.outcome) for item in self.calibration]
        for channel, outcome in named:
            if named.count((channel, outcome)) > 1:
                raise ConfigError("repeated_channel", where="method.calibration", name=channel)
            if outcome not in self.outcomes:
                where = f"method.calibration[{channel}].outcome"
                raise ConfigError("bad_choice", where=where, got=outcome, choices=", ".join(self.outcomes))

    def as_of_micros(self) -> int | None:
        """``as_of`` in microseconds since 1970; a time without zone is UTC."""
        return utc_micros(self.as_of, "method.as_of")

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What is credited: conversions, then ``value``, then each further column by its name."""
        value = self.paths.value if self.paths is not None else self.value
        return (CONVERSIONS, *(("value",) if value else ()), *self.values)

    @property
    def amounts(self) -> tuple[str, ...]:
        """The columns of the outcomes after conversions."""
        value = self.paths.value if self.paths is not None else self.value
        return (*((value,) if value else ()), *self.values)

    @property
    def reach_days(self) -> float:
        """The longest window of any touch."""
        return max(self.window_days, self.view_days or 0.0)

    @property
    def change(self) -> str:
        """The path transform, ``collapse_repeats`` being short for one."""
        return "collapse" if self.collapse_repeats else self.transform

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules whose sums are needed: those asked for, and the one that spreads other models over touches."""
        named = tuple(model for model in self.models if model in RULES)
        spread = self.touch_credit and any(model not in RULES for model in self.models)
        return (*named, SPREAD) if spread and SPREAD not in named else named

    @property
    def writes_large_tables(self) -> bool:
        """Whether tables are written by the cluster: the credit of touches is."""
        return self.touch_credit

    @property
    def orders(self) -> tuple[int, ...]:
        """The Markov orders that are needed."""
        named = {int(model[-1]) for model in self.models if model.startswith("markov_") and model[-1].isdigit()}
        auto = set(range(1, self.max_order + 1)) if "markov_auto" in self.models else set()
        return tuple(sorted(named | auto | {1}))
