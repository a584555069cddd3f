"""The gate of an observational table and its design: what may be compared, and in which columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.methods.findings import Findings
from causal_spark.methods.matching.vocabulary import MODELLED, Covariate, Observational
from causal_spark.solve.balance import cut_points
from causal_spark.spark import design, gate
from causal_spark.spark.columns import where
from causal_spark.spark.compress import count
from causal_spark.spark.design import Factor, Scaled, scaled, terms
from causal_spark.spark.tables import Frame, require, require_filters, require_numbers
from causal_spark.statistics import Ranges
from causal_spark.statistics.grouped import MISSING
from causal_spark.statistics.moments import Array

SAMPLE = 100_000  # rows on the driver: scales, cut points, the start of a fit
MAX_LEVELS = 200
MAX_ARMS = 20
CUTS = 64


@dataclass(frozen=True, eq=False)
class Table:
    """The prepared frame: design x0 …, outcomes y0 …, treatments t0 …, with what the columns mean.

    ``cuts``: cut points of each main column for the distribution functions of the balance. ``levels``: of the
    treatments that are not 0/1 their values in order, none for an amount.
    """

    frame: Frame
    rows: int
    design: tuple[Scaled, ...]
    cuts: tuple[Array, ...]
    levels: Mapping[str, tuple[float, ...]]
    centres: tuple[float, ...]

    @property
    def x(self) -> tuple[str, ...]:
        return tuple(f"x{i}" for i in range(len(self.design)))

    @property
    def main(self) -> tuple[int, ...]:
        return tuple(i for i, item in enumerate(self.design) if item.term.main)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(item.term.label for item in self.design)


def check(method: Observational, frame: Frame, checks: Findings) -> Table:
    """Columns and types, then ranges, keys, treatments and levels; then the design. Refuses or gives the table."""
    names = _require(method, frame)
    frame = where(frame, method.where)
    kinds = {name: design.is_number(kind) for name, kind in require(frame, names, "units").items()}
    numbers = [name for name in names if kinds[name] and name != method.unit]
    found = gate.ranges(frame, names, nan=numbers)
    rows = found[""].n
    checks.empty("units", rows)
    checks.null_keys("units", found, method.unit, None, method.cluster)
    _values(method, found, kinds, checks)
    checks.refuse()
    frame, rows = _dropped(method, frame, found, rows, checks)
    keys = gate.keys(frame, method.unit, method.unit, rows)
    duplicates = "stop" if keys.repeated else "pass"
    checks.add(
        "DUPLICATE_UNIT",
        duplicates,
        "units",
        method.unit,
        count=keys.repeated,
        share=keys.repeated / max(keys.keys, 1),
        looked=f"{keys.keys:,}",
        part=f"{keys.share:.1%}",
    )
    levels = _treatments(method, frame, rows, found, checks)
    checks.refuse()
    return _table(method, frame, rows, found, kinds, levels, checks)


def _require(method: Observational, frame: Frame) -> list[str]:
    """All columns that take part, after checking that they are there and of the right type."""
    distance = method.matching.distance
    extra = [distance] if distance not in MODELLED else []
    extra += [method.matching.ties] if method.matching.ties else []
    numeric = [*method.treatments, *method.every_outcome, *extra, *([method.score] if method.score else [])]
    numeric += [item.name for item in method.columns if item.kind == "numeric"]
    others = [method.unit, *(item.name for item in method.columns), *method.matching.exact]
    names = [*others, *numeric, *([method.cluster] if method.cluster else [])]
    require(frame, list(dict.fromkeys(names)), "units")
    require_filters(frame, method.where, "units")
    require_numbers(frame, list(dict.fromkeys(numeric)), "units")
    return list(dict.fromkeys(names))


def categorical(item: Covariate, kinds: dict[str, bool]) -> bool:
    return item.kind == "categorical" or (item.kind == "auto" and not kinds[item.name])


def _values(method: Observational, found: Ranges, kinds: dict[str, bool], checks: Findings) -> None:
    """NULLs, NaN, infinities, constant covariates and impossible propensities."""
    distance = method.matching.distance
    outcomes = [
        *method.every_outcome,
        *([method.score] if method.score else []),
        *([distance] if distance in found else []),
    ]
    for name in dict.fromkeys([*method.treatments, *outcomes]):
        if found[name].nulls:
            code = "NULL_TREATMENT" if name in method.treatments else "NULL_OUTCOME"
            checks.add(code, "stop", "units", name, count=found[name].nulls, share=found[name].nulls / found[name].n)
    for name, known in found.items():
        if known.nans or math.inf in (abs(known.low or 0), abs(known.high or 0)):
            checks.add("NAN_INF", "stop", "units", name, count=known.nans or math.nan)
    for item in method.columns:
        known = found[item.name]
        if known.nulls and item.nulls == "refuse":
            checks.add("NULL_COVARIATE", "stop", "units", item.name, count=known.nulls, share=known.nulls / known.n)
        if kinds[item.name] and known.low == known.high and not categorical(item, kinds) and not known.nulls:
            checks.add("CONSTANT_COVARIATE", "stop", "units", item.name, value=known.low)
        if known.nulls == known.n and item.nulls == "indicator":
            checks.add("CONSTANT_COVARIATE", "stop", "units", item.name, value="NULL")
    if method.score is not None:
        low, high = found[method.score].low, found[method.score].high
        if low is not None and high is not None and not (low > 0 and high < 1):
            checks.add("SCORE_RANGE", "stop", "units", method.score, low=low, high=high)


def _dropped(method: Observational, frame: Frame, found: Ranges, rows: int, checks: Findings) -> tuple[Frame, int]:
    """Leave out the rows whose covariates are missing, where that was declared, and count them."""
    names = [item.name for item in method.columns if item.nulls == "drop" and found[item.name].nulls]
    if not names:
        return frame, rows
    frame = design.complete(frame, names)
    left = int(frame.count())
    checks.add("DROPPED_ROWS", "warn", "units", ", ".join(names), count=rows - left, share=(rows - left) / rows)
    checks.empty("units", left)
    return frame, left


def _treatments(
    method: Observational, frame: Frame, rows: int, found: Ranges, checks: Findings
) -> dict[str, tuple[float, ...]]:
    """Treatments that are not 0/1 in all ``rows``: their values for AIPW alone, none (an amount) for dml alone."""
    counts = design.binary_counts(frame, method.treatments)
    levels: dict[str, tuple[float, ...]] = {}
    for name, (zeros, ones) in counts.items():
        if zeros + ones < rows:
            if set(method.estimators) == {"dml"}:
                levels[name] = ()
            elif set(method.estimators) == {"aipw"} and method.estimand == "ATE":
                levels[name] = _levels(frame, name)
            else:
                checks.add("TREATMENT_NOT_BINARY", "stop", "units", name, low=found[name].low, high=found[name].high)
        elif not ones:
            checks.add("NO_TREATED", "stop", "units", name)
        elif not zeros:
            checks.add("NO_CONTROL", "stop", "units", name)
    return levels


def _levels(frame: Frame, name: str) -> tuple[float, ...]:
    try:
        counts = count(frame, [name], MAX_ARMS)
    except StatisticError as error:
        raise ConfigError("too_many_levels", column=name, limit=MAX_ARMS) from error
    return tuple(sorted(float(str(key[0])) for key in counts.cells))


def _table(
    method: Observational,
    frame: Frame,
    rows: int,
    found: Ranges,
    kinds: dict[str, bool],
    levels: Mapping[str, tuple[float, ...]],
    checks: Findings,
) -> Table:
    factors = {item.name: _factors(item, frame, found, kinds, checks) for item in method.columns}
    every = terms(factors, method.propensity.squares, method.propensity.interactions)
    values = design.looked_at(frame, method.unit, rows, SAMPLE, "design", [design.value(term) for term in every])
    columns = scaled(every, values)
    numbers = {f"t{i}": name for i, name in enumerate(method.treatments)}
    numbers |= {f"y{i}": name for i, name in enumerate(method.every_outcome)}
    distance = method.matching.distance
    kept = [*method.matching.exact, *([method.score] if method.score else [])]
    kept += [distance] if distance not in MODELLED else []
    kept += [method.matching.ties] if method.matching.ties else []
    frame, kept = design.beside(frame, list(dict.fromkeys(kept))), [design.own(name) for name in kept]
    shaped = design.designed(frame, method.unit, columns, numbers, kept, method.cluster, method.folds, "folds")
    standard = (values - [item.centre for item in columns]) / [item.scale for item in columns]
    cuts = tuple(cut_points(standard[:, i], CUTS) for i, item in enumerate(columns) if item.term.main)
    centres = tuple(found[name].centre for name in method.every_outcome)
    return Table(shaped, rows, columns, cuts, levels, centres)


def _factors(
    item: Covariate, frame: Frame, found: Ranges, kinds: dict[str, bool], checks: Findings
) -> Sequence[Factor]:
    """One number, or an indicator for each category but the base; one more where a number may be missing."""
    known = found[item.name]
    if not categorical(item, kinds):
        number = Factor(item.name, fill=known.centre)
        missing = Factor(item.name, missing=True)
        return (number, missing) if known.nulls and item.nulls == "indicator" else (number,)
    try:
        counts = count(frame, [item.name], MAX_LEVELS)
    except StatisticError as error:
        raise ConfigError("too_many_levels", column=item.name, limit=MAX_LEVELS) from error
    levels = {str(key[0]): rows[0] for key, rows in counts.cells.items()}
    base = item.base if item.base is not None else max(sorted(levels), key=lambda name: levels[name])
    if base not in levels:
        raise ConfigError("base_unknown", column=item.name, base=base, levels=", ".join(sorted(levels)[:20]))
    if len(levels) < 2:
        checks.add("CONSTANT_COVARIATE", "stop", "units", item.name, value=base)
        checks.refuse()
    return tuple(Factor(item.name, level=name) for name in sorted(levels) if name != base and name != MISSING) + (
        (Factor(item.name, level=MISSING),) if MISSING in levels and base != MISSING else ()
    )
