"""Looks under a plan: bound and p-value of each, and intervals that hold at all of them together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from causal_spark.methods.experiment import looks, plan
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.looks import Look, Seen
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.results import Estimate
from causal_spark.solve import sequential
from causal_spark.solve.always_valid import AlwaysValid, always_valid, mixing_variance
from causal_spark.solve.intervals import Alternative, Test, p_value
from causal_spark.solve.lifts import lift
from causal_spark.solve.means import Values, difference
from causal_spark.solve.multiplicity import adjust
from causal_spark.solve.sequential import Plan, repeated_p_value
from causal_spark.words import say

LABELS = {"group": "group_sequential", "always_valid": "always_valid"}


@dataclass(frozen=True)
class Series:
    """All looks at one metric of one contrast, this one last; ``bounds`` of each.

    ``p_adjusted``: over the family of success metrics, NaN for others. ``level``: one-sided nominal level at which a
    margin is tested at this look; ``shared``: the same where success metrics with a margin share ``margin_alpha``.
    """

    block: plan.Block
    contrast: Contrast
    arms: tuple[Values, Values]
    planned: float
    looks: tuple[tuple[Look, Seen], ...]
    bounds: tuple[sequential.Look, ...]
    level: float
    shared: float
    p_adjusted: float = math.nan

    @property
    def seen(self) -> Seen:
        return self.looks[-1][1]


def looked(solver: Solver) -> tuple[Series, ...]:
    """The looks at every metric and contrast that can be estimated; nothing without a plan.

    Raises ConfigError if the plan is not that of the looks before, or a look has no more units than one before.
    """
    if solver.method.sequential is None:
        return ()
    now, earlier = looks.restored(solver.method, solver.compressed.more.get(looks.NAME))
    found = [
        _series(solver, block, contrast, arms, now, earlier)
        for block in solver.blocks
        for contrast in solver.contrasts()
        if (arms := solver.compared(block, contrast)) is not None and _error(arms) > 0
    ]
    family = [place for place, one in enumerate(found) if one.block.metric.role == "success"]
    values = adjust([found[place].seen.p_value for place in family], solver.method.correction)
    adjusted = dict(zip(family, map(float, values), strict=True))
    return tuple(replace(one, p_adjusted=adjusted.get(place, math.nan)) for place, one in enumerate(found))


def _error(arms: tuple[Values, Values]) -> float:
    """Standard error of the difference; NaN or 0 where there is nothing to test."""
    variance = float(arms[0].vcov[0, 0] + arms[1].vcov[0, 0])
    return math.sqrt(variance) if variance > 0 and math.isfinite(variance) else math.nan


def _series(
    solver: Solver, block: plan.Block, contrast: Contrast, arms: tuple[Values, Values], now: Look, earlier: list[Look]
) -> Series:
    method, error = solver.method, _error(arms)
    assert method.sequential is not None and method.plan is not None
    shares = solver.compressed.facts["arms"]
    planned = method.sequential.units * (shares[contrast.treatment] + shares[contrast.control])
    n = solver.units(block, solver.cells.arms("all", block.metric.name), contrast)
    z = float(arms[0].value[0] - arms[1].value[0]) / error
    seen = Seen(block.metric.name, str(contrast), n, z, error, math.nan)
    every = looks.series(earlier, now, seen, planned)
    if method.sequential.kind == "group":
        fractions = tuple(s.n / planned for _, s in every)
        bounds = _group(fractions, method.plan)
        seen = replace(seen, p_value=repeated_p_value([s.statistic for _, s in every], fractions, method.plan))
    else:
        seen, bounds = _always(method.alpha, method.alternative, every, planned)
    levels = (_margin_level(method, method.margin_alpha / parts, every, planned) for parts in (1, _sharing(method)))
    return Series(block, contrast, arms, planned, (*every[:-1], (now, seen)), bounds, *levels)


def _sharing(method: Experiment) -> int:
    """How many success metrics with a margin share its level: all of them where any suffices."""
    if method.decision is not None and method.decision.needs == "all":
        return 1
    return max(sum(metric.role == "success" and metric.margin is not None for metric in method.metrics), 1)


def _margin_level(method: Experiment, alpha: float, every: Sequence[tuple[Look, Seen]], planned: float) -> float:
    """One-sided nominal level at this look of a margin that is tested at ``alpha`` over all looks."""
    if method.plan is not None and method.sequential is not None and method.sequential.kind == "group":
        fractions = tuple(s.n / planned for _, s in every)
        return _group(fractions, replace(method.plan, alpha=alpha, alternative="greater"))[-1].nominal
    first, seen = every[0][1], every[-1][1]
    tau = mixing_variance(first.std_error**2, first.n, planned, alpha, 1)
    return _limit(len(every), seen, always_valid(0.0, seen.std_error, tau, alpha, "greater"), planned, 1).nominal


@lru_cache(maxsize=64)
def _group(fractions: tuple[float, ...], given: Plan) -> tuple[sequential.Look, ...]:
    return sequential.group_sequential(fractions, given)


def _always(
    alpha: float, alternative: Alternative, every: Sequence[tuple[Look, Seen]], planned: float
) -> tuple[Seen, tuple[sequential.Look, ...]]:
    """This look with the p-value over all looks and τ of the first, and the limit of every look."""
    first, seen = every[0][1], every[-1][1]
    sides = 2 if alternative == "two-sided" else 1
    tau = first.tau or mixing_variance(first.std_error**2, first.n, planned, alpha, sides)
    tests = [always_valid(s.statistic * s.std_error, s.std_error, tau, alpha, alternative) for _, s in every]
    limits = tuple(
        _limit(number, s, test, planned, sides)
        for number, ((_, s), test) in enumerate(zip(every, tests, strict=True), start=1)
    )
    return replace(seen, p_value=min(test.p_value for test in tests), tau=tau), limits


def _limit(number: int, seen: Seen, test: AlwaysValid, planned: float, sides: int) -> sequential.Look:
    """The confidence sequence of one look as a bound for z."""
    half = test.estimate - test.low if math.isfinite(test.low) else test.high - test.estimate
    bound = half / seen.std_error
    return sequential.Look(number, seen.n / planned, bound, sides * p_value(bound, alternative="greater"), math.nan)


def crossed(statistic: float, bound: float, alternative: Alternative) -> bool:
    """z is beyond the bound on the tested side."""
    toward = abs(statistic) if alternative == "two-sided" else statistic if alternative == "greater" else -statistic
    return toward >= bound


def rows(solver: Solver, found: Sequence[Series]) -> list[Estimate]:
    """Difference and lift at the nominal level of this look, with the p-value over all looks."""
    assert solver.method.sequential is not None
    label = LABELS[solver.method.sequential.kind]
    done = []
    for one in found:
        t, c = one.arms
        level, side = one.bounds[-1].nominal, solver.method.alternative
        absolute = difference(t, c, level, side, math.inf)
        relative = lift(t, c, solver.method.lift, level, side, math.inf)
        pair = [_with_p(test, one.seen) for test in (absolute, relative)]
        made = solver.pair(label, "all", one.block, one.contrast, pair[0], pair[1], one.seen.n, [_note(solver, one)])
        done += [replace(row, p_adjusted=one.p_adjusted) for row in made]
    return done


def _with_p(test: Test, seen: Seen) -> Test:
    return replace(test, p_value=seen.p_value, statistic=seen.statistic)


def _note(solver: Solver, one: Series) -> str:
    last, side = one.bounds[-1], solver.method.alternative
    said = [say("note_look", solver.language, number=last.number, fraction=f"{last.fraction:.1%}",
                bound=f"{last.bound:.3f}" if math.isfinite(last.bound) else "∞")]  # fmt: skip
    hits = [bound.number for bound, (_, s) in zip(one.bounds, one.looks, strict=True)
            if crossed(s.statistic, bound.bound, side)]  # fmt: skip
    if hits and hits[-1] < last.number:
        said.append(say("note_crossed_before", solver.language, number=hits[0]))
    return " ".join(said)


def table(solver: Solver, found: Sequence[Series]) -> list[dict[str, Any]]:
    """One row for each look at each metric and contrast."""
    side, made = solver.method.alternative, []
    for one in found:
        for (look, s), bound in zip(one.looks, one.bounds, strict=True):
            made.append({
                "outcome": s.outcome, "contrast": s.contrast, "look": bound.number, "date": look.date,
                "run_key": look.run_key, "n": s.n, "planned": one.planned, "fraction": bound.fraction,
                "bound": bound.bound, "nominal": bound.nominal, "spent": bound.spent,
                "estimate": s.statistic * s.std_error, "std_error": s.std_error, "statistic": s.statistic,
                "nominal_p": p_value(s.statistic, alternative=side), "p_value": s.p_value,
                "tau": math.nan if s.tau is None else s.tau, "crossed": crossed(s.statistic, bound.bound, side),
            })  # fmt: skip
    return made
