"""The cluster half of the portfolio job: the tables of many experiments to one row for each effect."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from causal_spark.config import Filter, nearest
from causal_spark.methods.findings import Findings
from causal_spark.methods.portfolio.compressed import Compressed, Effect, Touched
from causal_spark.methods.portfolio.vocabulary import Portfolio
from causal_spark.spark import gate
from causal_spark.spark.columns import where
from causal_spark.spark.compress import MAX_ROWS, count
from causal_spark.spark.effects import Group, groups
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, require, require_filters, require_numbers, require_times
from causal_spark.statistics.grouped import MISSING

Progress = Callable[[str], None]
TABLE, REACH = "estimates", "reach"
TEXTS = ("outcome", "segment", "term", "contrast", "method", "estimand")
NUMBERS = ("estimate", "std_error", "n")
EVERYONE = "all"


def compress(
    engine: Engine,
    method: Portfolio,
    frames: Mapping[str, Frame],
    scratch: Callable[[str], str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, then one group-by of each table.

    Raises GateError (codes of the findings), ConfigError (columns) or StatisticError (too many experiments).
    """
    found = Findings(language)
    progress("gate")
    require_filters(frames[TABLE], method.where, TABLE)
    require(frames[TABLE], [method.experiment, *TEXTS], TABLE)
    require_numbers(frames[TABLE], NUMBERS, TABLE)
    frame = where(frames[TABLE], method.where)
    rows = _keyed(frame, TABLE, method.experiment, found)
    found.refuse()
    progress("compress")
    wanted = {"outcome": method.outcome, "segment": EVERYONE, "term": method.term}
    chosen = [Filter(column, "==", value) for column, value in wanted.items()]
    require_filters(frame, chosen, TABLE)
    cells = groups(frame, method.experiment, ("contrast", "method", "estimand"), chosen, NUMBERS, MAX_ROWS)
    effects = _effects(method, frame, cells, found)
    touched = _touched(method, frames[REACH], found) if REACH in frames else None
    found.refuse()
    facts = {"rows": rows, "experiments": len({cell.keys[0] for cell in cells})}
    return Compressed(effects, touched, facts, tuple(found.found))


def _keyed(frame: Frame, table: str, key: str, found: Findings) -> int:
    """The rows of a table, each of which must have its key."""
    ranges = gate.ranges(frame, [key])
    found.empty(table, ranges[""].n)
    found.null_keys(table, ranges, key, None)
    return ranges[""].n


def _effects(method: Portfolio, frame: Frame, cells: Sequence[Group], found: Findings) -> tuple[Effect, ...]:
    """One effect for each experiment, contrast and method, of results that may be acted upon."""
    hits = [cell for cell in cells if cell.chosen]
    if not hits:
        names = sorted(str(key[0]) for key in count(frame, ["outcome"]).cells if key[0] != MISSING)
        hint = nearest(method.outcome, names)
        found.add("UNKNOWN_OUTCOME", "stop", TABLE, method.outcome, term=method.term, hint=hint)
        found.refuse()
    doubled = sorted({_name(cell) for cell in hits if cell.rows > 1})
    if doubled:
        found.add("DUPLICATE_EFFECT", "stop", TABLE, doubled[0], count=len(doubled))
        found.refuse()
    doubted = sorted({str(cell.keys[0]) for cell in hits if not cell.trusted})
    if doubted:
        found.add("UNTRUSTED", "warn", TABLE, ", ".join(doubted[:5]), count=len(doubted))
    lacking = sorted({str(cell.keys[0]) for cell in cells} - {str(cell.keys[0]) for cell in hits})
    if lacking:
        found.add("NO_OUTCOME", "warn", TABLE, ", ".join(lacking[:5]), count=len(lacking), outcome=method.outcome)
    return tuple(_effect(cell) for cell in hits if cell.trusted)


def _effect(cell: Group) -> Effect:
    experiment, contrast, by, estimand = (part or "" for part in cell.keys)
    estimate, std_error, n = cell.values
    return Effect(experiment, contrast, by, estimand, estimate, std_error, n)


def _name(cell: Group) -> str:
    return ", ".join(part for part in cell.keys if part)


def _touched(method: Portfolio, frame: Frame, found: Findings) -> tuple[Touched, ...]:
    """What each action reached; every action stands once."""
    reach = method.reach
    others = [name for name in (reach.contrast, reach.launched) if name]
    require(frame, [reach.experiment, *others], REACH)
    require_numbers(frame, [reach.reached], REACH)
    if reach.launched:
        require_times(frame, reach.launched, REACH)
    _keyed(frame, REACH, reach.experiment, found)
    ranges = gate.ranges(frame, [reach.reached], nan=[reach.reached])[reach.reached]
    low, high = ranges.low or 0.0, ranges.high or 0.0
    most = math.inf if method.term == "difference" else 1.0
    if ranges.nans or math.isinf(low) or math.isinf(high):
        found.add("NAN_INF", "stop", REACH, reach.reached)
    elif low < 0 or high > most:
        expected = "≥ 0" if method.term == "difference" else "0 … 1"
        found.add("REACH_RANGE", "stop", REACH, reach.reached, low=low, high=high, expected=expected)
    found.refuse()
    rows = [_row(method, cell) for cell in groups(frame, reach.experiment, others, (), [reach.reached], MAX_ROWS)]
    seen = Counter((touched.experiment, touched.contrast) for touched, n in rows for _ in range(min(n, 2)))
    doubled = sorted(action for action, times in seen.items() if times > 1)
    if doubled:
        found.add("DUPLICATE_REACH", "stop", REACH, ", ".join(filter(None, doubled[0])), count=len(doubled))
    return tuple(touched for touched, _ in rows)


def _row(method: Portfolio, cell: Group) -> tuple[Touched, int]:
    """An action of the reach table, and how many rows it has."""
    parts = list(cell.keys)
    contrast = parts[1] if method.reach.contrast else ""
    day = parts[-1] if method.reach.launched else ""
    launched = day is not None
    return Touched(str(parts[0]), contrast or "", cell.values[0], launched, (day or "")[:10]), cell.rows
