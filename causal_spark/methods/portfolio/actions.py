"""From the effects of experiments to actions: one effect for each, what it reached, and what to doubt."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causal_spark.methods.findings import Findings
from causal_spark.methods.portfolio.compressed import Compressed, Effect, Touched
from causal_spark.methods.portfolio.vocabulary import Portfolio
from causal_spark.solve.intervals import critical
from causal_spark.solve.shrinkage import LEAST

TABLE, REACH = "estimates", "reach"
# Below so many effects their spread is known badly, and with it how far to shrink.
FEW = 10
NAMED = 5


@dataclass(frozen=True)
class Action:
    """One comparison of one experiment by one estimate. ``reached``: NaN if unknown.

    ``launched`` is None where nothing says what was launched; ``date`` is empty if unknown.
    """

    name: str
    effect: Effect
    reached: float
    launched: bool | None
    date: str

    @property
    def usable(self) -> bool:
        error = self.effect.std_error
        return math.isfinite(self.effect.estimate) and math.isfinite(error) and error > 0


def actions(method: Portfolio, compressed: Compressed, found: Findings) -> list[Action]:
    """One action for each comparison of each experiment, in the order of their names.

    Adds what is to be said of them to ``found``, and raises GateError if it cannot be told which effect is meant, or
    if fewer than three can be used.
    """
    by: dict[tuple[str, str], list[Effect]] = {}
    for effect in compressed.effects:
        by.setdefault((effect.experiment, effect.contrast), []).append(effect)
    several = sorted(name for name, n in Counter(experiment for experiment, _ in by).items() if n > 1)
    if several:
        doubt = compressed.touched is not None and method.reach.contrast is None
        code, verdict = ("SEVERAL_CONTRASTS", "stop") if doubt else ("SHARED_CONTROL", "warn")
        found.add(code, verdict, TABLE, _some(several), count=len(several))
    one = {key: _one(method, key, effects, found) for key, effects in by.items()}
    found.refuse()
    known = None if compressed.touched is None else _known(method, compressed.touched, set(by), found)
    made = [
        _action(key, effect, f"{key[0]}: {key[1]}" if key[0] in several else key[0], method, known)
        for key, effect in sorted(one.items())
    ]
    _check(method, made, found)
    found.refuse()
    return made


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED])


def _one(method: Portfolio, key: tuple[str, str], effects: Sequence[Effect], found: Findings) -> Effect:
    """The estimate by the first of the methods asked for that is there, else the only one there is."""
    named = ([effect for effect in effects if effect.method == name] for name in method.methods)
    candidates = next((some for some in named if some), list(effects))
    if len(candidates) > 1:
        methods = ", ".join(f"{effect.method} ({effect.estimand})" for effect in candidates)
        found.add("SEVERAL_ESTIMATES", "stop", TABLE, ", ".join(filter(None, key)), methods=methods)
    return candidates[0]


Known = Mapping[tuple[str, str], Touched]


def _known(method: Portfolio, touched: Sequence[Touched], keys: set[tuple[str, str]], found: Findings) -> Known:
    known = {(row.experiment, row.contrast): row for row in touched}
    asked = keys if method.reach.contrast else {(experiment, "") for experiment, _ in keys}
    strange = sorted(", ".join(filter(None, key)) for key in known.keys() - asked)
    if strange:
        found.add("REACH_UNKNOWN", "warn", REACH, _some(strange), count=len(strange))
    missing = sorted(", ".join(filter(None, key)) for key in asked - known.keys())
    missing += [", ".join(filter(None, key)) for key in sorted(asked & known.keys()) if math.isnan(known[key].reached)]
    if missing:
        found.add("REACH_MISSING", "warn", REACH, _some(missing), count=len(missing))
    return known


def _action(key: tuple[str, str], effect: Effect, name: str, method: Portfolio, known: Known | None) -> Action:
    if known is None:
        return Action(name, effect, math.nan, None, "")
    row = known.get(key if method.reach.contrast else (key[0], ""))
    if row is None:
        return Action(name, effect, math.nan, False, "")
    return Action(name, effect, row.reached, row.launched, row.date)


def _check(method: Portfolio, made: Sequence[Action], found: Findings) -> None:
    """What to doubt: effects that cannot be used, a selection of experiments, unlike or overlapping ones."""
    usable = [action for action in made if action.usable]
    lost = [action.name for action in made if not action.usable]
    if lost:
        found.add("NOT_ESTIMATED", "warn", TABLE, _some(lost), count=len(lost))
    if len(usable) < LEAST:
        found.add("TOO_FEW_ACTIONS", "stop", TABLE, count=len(usable), least=LEAST)
        return
    if len(usable) < FEW:
        found.add("FEW_ACTIONS", "warn", TABLE, count=len(usable), least=FEW)
    estimands = sorted({action.effect.estimand for action in usable})
    if len(estimands) > 1:
        found.add("MIXED_ESTIMANDS", "warn", TABLE, ", ".join(estimands), count=len(estimands))
    if all(action.launched for action in usable):
        found.add("ONLY_LAUNCHED", "warn", REACH, count=len(usable))
    if all(is_winner(method, action) for action in usable):
        found.add("ONLY_WINNERS", "warn", TABLE, count=len(usable))
    share = sum(action.reached for action in usable if action.launched and math.isfinite(action.reached))
    if method.term == "lift" and share > 1:
        found.add("SHARES_OVERLAP", "warn", REACH, method.reach.reached, share=share)


def is_winner(method: Portfolio, action: Action) -> bool:
    """Whether an experiment by itself is significant for the better."""
    sign = 1 if method.better == "higher" else -1
    return sign * action.effect.estimate > critical(method.alpha) * action.effect.std_error
