"""What is kept of each look at a running experiment, and what the next look is told of those before it.

A look is a tracked run with the experiment key of the plan; ``look.json`` beside it holds the plan and what was seen.
What a run was told is kept in its ``statistics.json``, so that it can be solved again as it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from causal_spark.config import build, parse_json
from causal_spark.errors import ConfigError
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.solve.sequential import Plan, require_same_plan

NAME = "looks"  # in Compressed.more, and the table


@dataclass(frozen=True)
class Seen:
    """What one look saw of one metric of one contrast.

    ``p_value``: over all looks until then. ``tau``: variance of the mixture of an always-valid test, fixed by the
    first look.
    """

    outcome: str
    contrast: str
    n: float
    statistic: float
    std_error: float
    p_value: float
    tau: float | None = None


@dataclass(frozen=True)
class Look:
    """One look: the run that took it, when, under which plan, and what it saw."""

    run_key: str
    date: str
    kind: str
    plan: Plan
    seen: tuple[Seen, ...] = ()


def told(method: Experiment, texts: Sequence[str], run_key: str, date: str) -> dict[str, Any]:
    """Plain data of the looks before this run, from the texts of ``look.json``, the oldest first.

    A run that was tracked already is not a look before itself, and what came after it is not before it. Raises
    ConfigError if a plan is missing (a text that is no look) or another than the method's.
    """
    before = [_read(text) for text in texts]
    keys = [look.run_key if look is not None else "" for look in before]
    before = before[: keys.index(run_key)] if run_key in keys else before
    for look in before:
        _require_same(look, method, len(before))
    earlier = [asdict(look) for look in before if look is not None]
    return {"now": asdict(_now(method, run_key, date)), "earlier": earlier}


def text(method: Experiment, table: pd.DataFrame, run_key: str, date: str) -> str:
    """``look.json`` of the run that made the table ``looks``."""
    columns = ["outcome", "contrast", "n", "statistic", "std_error", "p_value", "tau"]
    rows = [] if table.empty else table[table["run_key"] == run_key][columns].to_dict("records")
    seen = tuple(Seen(**{str(name): _plain(value) for name, value in row.items()}) for row in rows)
    look = _now(method, run_key, date)
    return json.dumps(asdict(Look(look.run_key, look.date, look.kind, look.plan, seen)), ensure_ascii=False, indent=1)


def restored(method: Experiment, given: Mapping[str, Any] | None) -> tuple[Look, list[Look]]:
    """This look, and those before it, as ``told`` kept them; without them it is the first.

    Raises ConfigError if the method has another plan than the run that was told of it.
    """
    if given is None:
        return _now(method, "", ""), []
    now = build(Look, given["now"], NAME)
    _require_same(now, method, 1 + len(given["earlier"]))
    return now, [build(Look, look, NAME) for look in given["earlier"]]


def series(earlier: Sequence[Look], now: Look, seen: Seen, planned: float) -> list[tuple[Look, Seen]]:
    """All looks at one metric of one contrast, by size, ``seen`` of this look last.

    A look at the same units with the same statistic is this look, solved before with other settings. Raises ConfigError
    if an earlier look had as many units or more.
    """
    mine = [
        (look, s) for look in earlier for s in look.seen if (s.outcome, s.contrast) == (seen.outcome, seen.contrast)
    ]
    by_size = {s.n: (look, s) for look, s in mine}
    again = by_size.get(seen.n)
    if again is not None and math.isclose(again[1].statistic, seen.statistic, rel_tol=1e-9, abs_tol=1e-12):
        del by_size[seen.n]
    found = [by_size[n] for n in sorted(by_size)]
    if found and not seen.n > found[-1][1].n:
        fractions = [f"{n / planned:.6g}" for n in (seen.n, found[-1][1].n)]
        raise ConfigError("look_out_of_order", number=len(found) + 1, fraction=fractions[0], before=fractions[1])
    return [*found, (now, seen)]


def _now(method: Experiment, run_key: str, date: str) -> Look:
    assert method.sequential is not None and method.plan is not None
    return Look(run_key, date, method.sequential.kind, method.plan)


def _read(text: str) -> Look | None:
    try:
        return build(Look, parse_json(text, "look.json"), "look.json")
    except ConfigError:
        return None


def _require_same(stored: Look | None, method: Experiment, looks: int) -> None:
    mine = _now(method, "", "")
    require_same_plan(None if stored is None else stored.plan, mine.plan, looks)
    if stored is not None and stored.kind != mine.kind:
        raise ConfigError("plan_changed", fields="kind", before=f"kind={stored.kind}")


def _plain(value: Any) -> Any:
    """A cell as JSON knows it: NaN is null."""
    if isinstance(value, str):
        return value
    number = float(value)
    return None if math.isnan(number) else number
