"""What an analyst says of an observational comparison: the fields are the YAML keys and the MLflow parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from causal_spark.config import Filter
from causal_spark.errors import ConfigError, Phrase

Estimand = Literal["ATT", "ATC", "ATE", "ATO"]
Estimator = Literal["matching", "grid", "cem", "subclass", "ipw", "overlap", "entropy", "aipw", "dml"]
STRATIFIED = ("grid", "cem", "subclass")
WEIGHTED = ("ipw", "overlap", "entropy")
NEED_SCORE = ("matching", "grid", "subclass", "ipw", "overlap", "aipw")
NEED_IT_TO_TRIM = ("cem", "entropy", "dml")
MODELLED = ("logit", "propensity", "mahalanobis")  # distances that are no column


@dataclass(frozen=True)
class Covariate:
    """A column from before treatment.

    ``kind``: auto takes numbers and booleans as numeric, texts as categorical. ``nulls``: the job refuses (refuse),
    adds a 0/1 column that says where it is missing (indicator; of a category it is a level of its own), or leaves the
    rows out (drop). ``base``: the category the others are compared with (default: the most frequent).
    ``bins``: of coarsened exact matching, how many cells of equal width.
    """

    name: str
    kind: Literal["auto", "numeric", "categorical"] = "auto"
    nulls: Literal["refuse", "indicator", "drop"] = "refuse"
    base: str | None = None
    bins: int = 8


@dataclass(frozen=True)
class Propensity:
    """The model of the treatment: logistic in the covariates, their ``squares`` and ``interactions`` (pairs)."""

    model: Literal["logistic", "boosted"] = "logistic"
    squares: tuple[str, ...] = ()
    interactions: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Matching:
    """Nearest-neighbour matching, in the words of MatchIt.

    ``distance``: logit or propensity (of the model, or of ``score``), mahalanobis (of the covariates, the caliper then
    being on the logit), or a column. ``caliper``: the largest distance of
    a match, in SDs of the distance over all rows (``sd``) or as it is (``raw``). ``ratio``: matches per unit.
    ``replace``: a unit may be used again; ties are then averaged. ``order`` without replacement: the closest
    pairs first, or the largest distances first. ``exact``: columns that must agree. ``tolerance``: squared distances
    (in SDs) that differ by less are ties. ``variance``: SE for the population, or for the effect in this very sample.
    ``neighbours``: units of the same arm behind a conditional variance. ``pairs``: write tables of pairs and weights.
    ``seed``: of the hash that puts units at the same distance in order, unless the whole-number column ``ties`` does.
    """

    distance: str = "logit"
    caliper: float | None = None
    caliper_scale: Literal["sd", "raw"] = "sd"
    ratio: int = 1
    replace: bool = False
    order: Literal["closest", "largest"] = "closest"
    exact: tuple[str, ...] = ()
    tolerance: float = 0.0
    variance: Literal["population", "sample"] = "population"
    homoskedastic: bool = False
    neighbours: int = 2
    pairs: bool = True
    seed: int = 7
    ties: str | None = None

    def __post_init__(self) -> None:
        if self.caliper is not None and not (self.caliper > 0 and math.isfinite(self.caliper)):
            raise ConfigError(
                "bad_number", where="method.matching.caliper", got=self.caliper, expected=Phrase("expected_above_0")
            )
        if not 1 <= self.ratio <= 100:
            raise ConfigError(
                "bad_number",
                where="method.matching.ratio",
                got=self.ratio,
                expected=Phrase("expected_whole_between", low=1, high=100),
            )
        if not 1 <= self.neighbours <= 100:
            raise ConfigError(
                "bad_number",
                where="method.matching.neighbours",
                got=self.neighbours,
                expected=Phrase("expected_whole_between", low=1, high=100),
            )
        if not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise ConfigError(
                "bad_number",
                where="method.matching.tolerance",
                got=self.tolerance,
                expected=Phrase("expected_not_negative"),
            )


@dataclass(frozen=True)
class Observational:
    """An effect without an experiment: treated units compared with similar untreated ones.

    ``treatments``: 0/1 columns, each a comparison of its own among all rows. ``covariates``: columns from before
    treatment. ``score``: a column that holds the propensity already. ``trim``: keep propensities inside [low, high], or
    by the rule of Crump et al. (2009), or inside the range that both arms share. ``spend`` (treatment → amount spent on
    it in total) and ``value`` (outcome in money) give the return of each treatment. ``folds``: cross-fitting by
    a hash of the unit (1: none). ``cells``: of the grid mode; ``subclasses``: of subclassification.
    ``placebo_outcomes``: outcomes that the treatment cannot have moved. ``post_treatment``: columns
    known to come after treatment, refused among the covariates. ``smd``: imbalance above it is a warning.
    ``unit_weights``: write a table of every unit's weight under the weighting estimators. ``stabilized``: there weights
    of `ipw` for ATE are times the share of the unit's own group, so that their mean is near 1.
    """

    unit: str
    treatments: tuple[str, ...]
    outcomes: tuple[str, ...]
    covariates: tuple[str | Covariate, ...]
    estimand: Estimand = "ATT"
    estimators: tuple[Estimator, ...] = ("matching",)
    propensity: Propensity = field(default_factory=Propensity)
    score: str | None = None
    matching: Matching = field(default_factory=Matching)
    trim: Literal["crump", "minmax"] | tuple[float, ...] | None = None
    subclasses: int = 5
    cells: int = 1000
    folds: int = 5
    unit_weights: bool = True
    stabilized: bool = False
    cluster: str | None = None
    spend: dict[str, float] | None = None
    value: str | None = None
    placebo_outcomes: tuple[str, ...] = ()
    post_treatment: tuple[str, ...] = ()
    where: tuple[Filter, ...] = ()
    alpha: float = 0.05
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    smd: float = 0.1

    def __post_init__(self) -> None:
        for key in ("treatments", "outcomes", "covariates", "estimators"):
            if not getattr(self, key):
                raise ConfigError("matching_empty", key=f"method.{key}")
        if not 0 < self.alpha < 1:
            raise ConfigError(
                "bad_number", where="method.alpha", got=self.alpha, expected=Phrase("expected_between", low=0, high=1)
            )
        for key, low, high in (("subclasses", 2, 1000), ("cells", 2, 100_000), ("folds", 1, 100)):
            if not low <= getattr(self, key) <= high:
                raise ConfigError(
                    "bad_number",
                    where=f"method.{key}",
                    got=getattr(self, key),
                    expected=Phrase("expected_whole_between", low=low, high=high),
                )
        self._check_roles()
        self._check_combinations()

    def _check_roles(self) -> None:
        listed = (("treatments", self.treatments), ("estimators", self.estimators), ("outcomes", self.every_outcome))
        for key, values in listed:
            for value in values:
                if values.count(value) > 1:
                    raise ConfigError("named_twice", where=f"method.{key}", name=value)
        names = [item.name for item in self.columns]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("covariate_twice", column=name)
        for name in (*names, *self._compared):
            for role, others in (
                ("outcomes", self.every_outcome),
                ("treatments", self.treatments),
                ("post_treatment", self.post_treatment),
                ("unit", (self.unit,)),
            ):
                if name in others:
                    raise ConfigError("covariate_has_role", column=name, role=role)
        overlap = set(self.treatments) & set(self.every_outcome)
        if overlap:
            raise ConfigError(
                "covariate_has_role", column=sorted(overlap)[0], role=Phrase("role_treatments_and_outcomes")
            )
        for name in (*self.propensity.squares, *(part for pair in self.propensity.interactions for part in pair)):
            if name not in names:
                raise ConfigError("term_unknown", column=name, covariates=", ".join(names))
        if any(len(pair) != 2 for pair in self.propensity.interactions):
            raise ConfigError(
                "bad_number",
                where="method.propensity.interactions",
                got=Phrase("got_other_length"),
                expected=Phrase("expected_pairs"),
            )

    def _check_combinations(self) -> None:
        matched = "matching" in self.estimators
        if matched and self.estimand == "ATO":
            raise ConfigError("estimand_refused", estimator="matching", estimand="ATO", choices="ATT, ATC, ATE")
        if matched and self.estimand == "ATE" and not self.matching.replace:
            raise ConfigError("ate_needs_replace")
        if matched and self.matching.distance == "mahalanobis" and not self.matching.replace:
            raise ConfigError("mahalanobis_needs_replace")
        if matched and self.cluster and self.matching.replace:
            raise ConfigError("cluster_refused")
        if self.cluster and (stratified := [name for name in self.estimators if name in STRATIFIED]):
            raise ConfigError("cluster_in_strata", estimator=stratified[0])
        if self.stabilized and not ("ipw" in self.estimators and self.estimand == "ATE" and self.unit_weights):
            raise ConfigError("stabilized_refused")
        if isinstance(self.trim, tuple) and not (len(self.trim) == 2 and 0 <= self.trim[0] < self.trim[1] <= 1):
            raise ConfigError(
                "bad_number", where="method.trim", got=list(self.trim), expected=Phrase("expected_ends_within")
            )
        if self.value is not None and self.value not in self.outcomes:
            raise ConfigError("value_unknown", value=self.value, outcomes=", ".join(self.outcomes))
        for name, amount in (self.spend or {}).items():
            if name not in self.treatments:
                raise ConfigError("spend_unknown", treatment=name, treatments=", ".join(self.treatments))
            if not (amount > 0 and math.isfinite(amount)):
                raise ConfigError(
                    "bad_number", where=f"method.spend.{name}", got=amount, expected=Phrase("expected_above_0")
                )

    @property
    def columns(self) -> tuple[Covariate, ...]:
        """The covariates with their defaults spelled out."""
        return tuple(Covariate(item) if isinstance(item, str) else item for item in self.covariates)

    @property
    def needs_score(self) -> bool:
        """Whether an estimator, or the trimming, takes the propensity."""
        asked = set(self.estimators)
        return bool(asked & set(NEED_SCORE)) or (self.trim is not None and bool(asked & set(NEED_IT_TO_TRIM)))

    @property
    def _compared(self) -> tuple[str, ...]:
        """Columns beside the covariates that say who is alike."""
        distance = () if self.matching.distance in MODELLED else (self.matching.distance,)
        return (*self.matching.exact, *distance, *((self.score,) if self.score else ()))

    @property
    def writes_large_tables(self) -> bool:
        """Whether tables of a row per unit are staged or kept."""
        weighted = self.unit_weights and set(WEIGHTED) & set(self.estimators)
        matched = "matching" in self.estimators and self.matching.pairs
        return self.propensity.model == "boosted" or matched or bool(weighted)

    @property
    def every_outcome(self) -> tuple[str, ...]:
        return (*self.outcomes, *self.placebo_outcomes)
