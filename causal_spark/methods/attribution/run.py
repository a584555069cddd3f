"""The cluster half of the attribution job: frames in, compressed sums out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import checks, lift
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.events import Progress, from_events
from causal_spark.methods.attribution.ready import from_paths
from causal_spark.methods.attribution.vocabulary import Attribution
from causal_spark.methods.findings import Findings
from causal_spark.spark import journeys as cluster
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.panel_sums import sums_by
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame


def compress(
    engine: Engine,
    method: Attribution,
    frames: Mapping[str, Frame],
    scratch: Callable[..., str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, then the journey shuffle, then the sums. ``scratch`` gives a folder for a table by name.

    Raises GateError (codes of the findings), ConfigError (columns) or StatisticError (size).
    """
    found = Findings(language)
    progress("gate")
    # what can be refused without the journeys comes before them
    for role in ("spend", "identity"):
        if getattr(method, role) is not None and role not in frames:
            raise ConfigError("role_needs_table", role=role)
    if method.change == "frequency" and (asked := [role for role in ("spend", "lift") if role in frames]):
        raise ConfigError("attribution_frequency", tables=", ".join(f"input.{role}" for role in asked))
    costs = _costs(method, frames["spend"], found) if "spend" in frames else None
    spent = _period_costs(method, frames["spend"]) if costs is not None and method.spend and method.spend.time else None
    lifts = lift.read(method, frames.get("lift"))
    if "paths" in frames:
        done = from_paths(method, frames, progress, found)
    else:
        done = from_events(engine, method, frames, scratch, progress, found)
    known = done.tokens[: done.channels]
    if costs is not None:
        checks.costs(known, costs, found)
    checks.lifts(known, method.outcomes, lifts, found)
    found.refuse()
    return replace(done, costs=costs, period_costs=spent, lifts=lifts, checks=tuple(found.found))


def _costs(method: Attribution, frame: Frame, found: Findings) -> dict[str, float]:
    """Spend by channel, summed in hundred-thousandths."""
    if method.spend is None:
        raise ConfigError("missing_key", where="method", key="spend")
    checks.check_spend(method.spend, frame, found)
    found.refuse()
    return cluster.totals(frame, method.spend.channel, method.spend.cost, MAX_ROWS)


def _period_costs(method: Attribution, frame: Frame) -> dict[str, dict[str, float]]:
    """Spend by period and channel."""
    assert method.spend is not None and method.spend.time is not None and method.period is not None
    timed = cluster.in_periods(frame, method.spend.time, method.period)
    found: dict[str, dict[str, float]] = {}
    keys = [cluster.PERIOD, method.spend.channel]
    for (period, channel), (cost,) in sorted(sums_by(timed, keys, [method.spend.cost], MAX_ROWS).items()):
        found.setdefault(period, {})[channel] = cost
    return found
