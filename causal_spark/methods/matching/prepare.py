"""The gate of an observational table and its design: what may be compared, and in which columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.methods.findings import Findings
from causal_spark.methods.matching.vocabulary import MODELLED, Covariate, Observational
from causal_spark.solve import pair_ranks
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
# Values of a treatment: numbers, or texts.
Levels = tuple[float | str, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """The prepared frame: design x0 …, outcomes y0 …, treatments t0 …, with what the columns mean.

    ``cuts``: cut points of each main column for the distribution functions of the balance. ``levels``: of the
    treatments that are not 0/1 their values, the one they are compared with first, none for an amount; texts stand in
    the frame by their place. ``scales``: of the outcomes as fixed-point numbers. ``sample`` (n, p) and ``arms``: the
    design and the 0/1 treatments t0 … of a hash sample of units.
    """

    frame: Frame
    rows: int
    design: tuple[Scaled, ...]
    cuts: tuple[Array, ...]
    levels: Mapping[str, Levels]
    centres: tuple[float, ...]
    scales: tuple[float, ...] = ()
    sample: Array = field(default_factory=lambda: np.zeros((0, 0)))
    arms: Mapping[str, Array] = field(default_factory=dict)

    @property
    def x(self) -> tuple[str, ...]:
        return tuple(f"x{i}" for i in range(len(self.design)))

    @property
    def main(self) -> tuple[int, ...]:
        return tuple(i for i, item in enumerate(self.design) if item.term.main)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(item.term.label for item in self.design)

    def codes(self, treatment: str) -> tuple[float, ...]:
        """The levels of a treatment as they stand in the frame."""
        levels = self.levels.get(treatment, ())
        return tuple(float(i) if isinstance(level, str) else level for i, level in enumerate(levels))


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
    texts = _texts(method, frame)
    numeric = [
        *(name for name in method.treatments if name not in texts),
        *method.every_outcome,
        *extra,
        *([method.score] if method.score else []),
    ]
    numeric += [item.name for item in method.columns if item.kind == "numeric"]
    others = [method.unit, *texts, *(item.name for item in method.columns), *method.matching.exact]
    names = [*others, *numeric, *([method.cluster] if method.cluster else [])]
    require(frame, list(dict.fromkeys(names)), "units")
    require_filters(frame, method.where, "units")
    require_numbers(frame, list(dict.fromkeys(numeric)), "units")
    return list(dict.fromkeys(names))


def _texts(method: Observational, frame: Frame) -> list[str]:
    """The treatments whose levels are texts, which the AIPW of ATE compares."""
    if not _several(method):
        return []
    kinds = require(frame, method.treatments, "units")
    return [name for name, kind in kinds.items() if not design.is_number(kind)]


def _several(method: Observational) -> bool:
    """Whether the estimators compare several levels of a treatment."""
    return set(method.estimators) == {"aipw"} and method.estimand == "ATE"


def categorical(item: Covariate, kinds: dict[str, bool]) -> bool:
    """Whether a covariate is a factor; ``kinds``: which columns are numbers."""
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


def _treatments(method: Observational, frame: Frame, rows: int, found: Ranges, checks: Findings) -> dict[str, Levels]:
    """Treatments that are not 0/1 in all ``rows``: their levels for AIPW alone, none (an amount) for dml alone."""
    texts = _texts(method, frame)
    counts = design.binary_counts(frame, [name for name in method.treatments if name not in texts])
    levels: dict[str, Levels] = {name: _levels(frame, name, text=True) for name in texts}
    for name in texts:
        if len(levels[name]) < 2:
            checks.add("NO_CONTROL", "stop", "units", name)
    for name, (zeros, ones) in counts.items():
        if zeros + ones < rows:
            if set(method.estimators) == {"dml"}:
                levels[name] = ()
            elif _several(method):
                levels[name] = _levels(frame, name, text=False)
            else:
                checks.add("TREATMENT_NOT_BINARY", "stop", "units", name, low=found[name].low, high=found[name].high)
        elif not ones:
            checks.add("NO_TREATED", "stop", "units", name)
        elif not zeros:
            checks.add("NO_CONTROL", "stop", "units", name)
    if levels and method.trim is not None:
        raise ConfigError("trim_needs_binary", column=next(iter(levels)))
    return levels


def _levels(frame: Frame, name: str, text: bool) -> Levels:
    """Numbers in order; of texts the most frequent first, the others in order."""
    try:
        counts = count(frame, [name], MAX_ARMS)
    except StatisticError as error:
        raise ConfigError("too_many_levels", column=name, limit=MAX_ARMS) from error
    if not text:
        return tuple(sorted(float(str(key[0])) for key in counts.cells))
    rows = {str(key[0]): found[0] for key, found in counts.cells.items()}
    base = max(sorted(rows), key=lambda level: rows[level])
    return (base, *(level for level in sorted(rows) if level != base))


def _table(
    method: Observational,
    frame: Frame,
    rows: int,
    found: Ranges,
    kinds: dict[str, bool],
    levels: Mapping[str, Levels],
    checks: Findings,
) -> Table:
    factors = {item.name: _factors(item, frame, found, kinds, checks) for item in method.columns}
    every = terms(factors, method.propensity.squares, method.propensity.interactions)
    arms = {f"t{i}": name for i, name in enumerate(method.treatments) if name not in levels}
    looked = [*map(design.value, every), *(design.number(name) for name in arms.values())]
    sample = design.looked_at(frame, method.unit, rows, SAMPLE, "design", looked)
    values, sampled = sample[:, : len(every)], sample[:, len(every) :]
    columns = scaled(every, values)
    texts = {name: known for name, known in levels.items() if known and isinstance(known[0], str)}
    frame = design.coded(frame, texts)
    numbers = {f"t{i}": design.own(name) if name in texts else name for i, name in enumerate(method.treatments)}
    numbers |= {f"y{i}": name for i, name in enumerate(method.every_outcome)}
    distance = method.matching.distance
    kept = [*method.matching.exact, *([method.score] if method.score else [])]
    kept += [distance] if distance not in MODELLED else []
    kept += [method.matching.ties] if method.matching.ties else []
    kept = list(dict.fromkeys(kept))
    frame, kept = design.beside(frame, kept), [design.own(name) for name in kept]
    shaped = design.designed(frame, method.unit, columns, numbers, kept, method.cluster, method.folds, "folds")
    standard = (values - [item.centre for item in columns]) / [item.scale for item in columns]
    cuts = tuple(cut_points(standard[:, i], CUTS) for i, item in enumerate(columns) if item.term.main)
    centres = tuple(found[name].centre for name in method.every_outcome)
    scales = tuple(
        pair_ranks.scale((found[name].high or 0.0) - (found[name].low or 0.0)) for name in method.every_outcome
    )
    known = dict(zip(arms, sampled.T, strict=True))
    return Table(shaped, rows, columns, cuts, levels, centres, scales, standard, known)


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
