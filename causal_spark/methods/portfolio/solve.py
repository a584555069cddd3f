"""Shrunk effects, what they add up to, and what to do with each action."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causal_spark.methods.findings import Findings
from causal_spark.methods.portfolio.actions import TABLE, Action, actions, is_winner
from causal_spark.methods.portfolio.compressed import Compressed
from causal_spark.methods.portfolio.vocabulary import Portfolio
from causal_spark.results import Estimate, Result, checks_frame, estimates_frame
from causal_spark.solve.intervals import Test, wald
from causal_spark.solve.shrinkage import Contribution, Shrunk, contributions, shrink, total_effect
from causal_spark.statistics.moments import Array
from causal_spark.words import say

SHRUNK = "empirical_bayes"
# Chance, over all actions, that the prior calls one of its own an outlier.
OUTLYING = 0.01


def solve(method: Portfolio, compressed: Compressed, language: str = "en") -> Result:
    """Every action's effect as measured and shrunk, its contribution, the totals, and the advice with its reason.

    Raises GateError for effects that cannot be told apart, or fewer than three.
    """
    found = Findings(language)
    found.found = list(compressed.checks)
    every = actions(method, compressed, found)
    solved = _Solved(method, every, compressed.touched is not None, language)
    solved.check(found)
    tables = {
        "checks": checks_frame(found.found),
        "actions": pd.DataFrame(solved.actions()),
        "totals": pd.DataFrame(solved.totals()),
        "prior": pd.DataFrame([solved.prior()]),
    }
    return Result(
        estimates=estimates_frame(solved.estimates()),
        diagnostics={name: table for name, table in tables.items() if len(table)},
        notes=tuple(f"{check.code}: {check.message}" for check in found.found if check.verdict != "pass"),
    )


class _Solved:
    """The actions whose effect can be used, their shrunk effects, and what is said of them."""

    def __init__(self, method: Portfolio, every: Sequence[Action], reach: bool, language: str) -> None:
        self.method, self.every, self.language = method, every, language
        self.used = [action for action in every if action.usable]
        self.y = np.array([action.effect.estimate for action in self.used])
        self.s = np.array([action.effect.std_error for action in self.used])
        self.reached = np.array([action.reached for action in self.used])
        launched = np.array([bool(action.launched) for action in self.used]) & np.isfinite(self.reached)
        self.base = "launched" if reach else "all"
        self.members = launched if reach else np.ones(len(self.used), bool)
        self.weights = np.where(launched, self.reached, 0.0) if reach else np.ones(len(self.used))
        self.shrunk: Shrunk = shrink(self.y, self.s, method.alpha, method.centre)
        names = [action.name for action in self.used]
        lower = method.better == "lower"
        self.rows = contributions(names, self.shrunk, method.alpha, self.weights, lower)

    def check(self, found: Findings) -> None:
        """How the prior fits."""
        places = self.places(self.shrunk.centre, max(self.shrunk.tau, abs(self.shrunk.centre)))
        centre, tau = self.shown(self.shrunk.centre, places), self.shown(self.shrunk.tau, places).lstrip("+")
        if self.shrunk.tau > 0:
            found.add("PRIOR", "pass", TABLE, count=len(self.used), centre=centre, tau=tau)
        else:
            found.add("NO_SPREAD", "warn", TABLE, count=len(self.used), centre=centre)
        far = abs(self.y - self.shrunk.centre) / np.sqrt(self.s**2 + self.shrunk.tau**2)
        strange = [self.used[i].name for i in np.flatnonzero(2 * stats.norm.sf(far) * len(far) < OUTLYING)]
        if strange:
            found.add("OUTLYING", "warn", TABLE, ", ".join(strange[:5]), count=len(strange))

    @property
    def scale(self) -> tuple[float, str]:
        """What a shown effect is multiplied with, and its mark."""
        return (100.0, "%") if self.method.term == "lift" else (1.0, "")

    def places(self, effect: float, half: float) -> int:
        """Digits after the point: two of ``half``, half the width of the interval, but at most four of the effect."""
        if not half > 0:
            return 2
        digits = [n - math.floor(math.log10(x * self.scale[0])) for n, x in ((1, half), (3, max(abs(effect), half)))]
        return min(max(min(digits), 0), 9)

    def shown(self, value: float, places: int) -> str:
        factor, mark = self.scale
        return f"{round(value * factor, places) + 0.0:+,.{places}f}{mark}".replace("-", "\N{MINUS SIGN}")

    def prior(self) -> dict[str, Any]:
        """What actions do on average and how much they differ, beside the spread that was seen and its noise."""
        return {"outcome": self.method.outcome, "term": self.method.term, "centre": self.shrunk.centre,
                "tau": self.shrunk.tau, "actions": len(self.used), "spread": float(self.y.std(ddof=1)),
                "noise": float(np.sqrt((self.s**2).mean()))}  # fmt: skip

    def actions(self) -> list[dict[str, Any]]:
        """One row for each action, the best first; what could not be estimated last."""
        rows = [self._row(row, self.used[row.place]) for row in self.rows]
        for action in self.every:
            if not action.usable:
                note = say("portfolio_not_estimated", self.language, action=action.name)
                rows.append({**_known(action), "advice": "unknown", "reason": note})
        return rows

    def _row(self, row: Contribution, action: Action) -> dict[str, Any]:
        naive, reached = self._naive(action), action.reached
        return {
            **_known(action), "naive_low": naive.low, "naive_high": naive.high, "effect": row.effect,
            "std_dev": row.std_dev, "low": row.low, "high": row.high, "p_positive": row.p_positive,
            "contribution_naive": reached * naive.estimate, "contribution": reached * row.effect,
            "contribution_low": reached * row.low, "contribution_high": reached * row.high,
            "share": row.share if self.members[row.place] else math.nan, "advice": row.advice,
            "reason": self._reason(row, action),
        }  # fmt: skip

    def _naive(self, action: Action) -> Test:
        return wald(action.effect.estimate, action.effect.std_error, self.method.alpha)

    def _reason(self, row: Contribution, action: Action) -> str:
        """Why the advice, in a sentence or two."""
        worse = row.p_positive if self.method.better == "lower" else float(stats.norm.sf(row.effect / row.std_dev))
        chance = worse if row.advice == "stop" else 1 - worse
        places = self.places(row.effect, (row.high - row.low) / 2)
        ends = {"low": self.shown(row.low, places), "high": self.shown(row.high, places)}
        said = [say(f"portfolio_{row.advice}", self.language, action=row.name, effect=self.shown(row.effect, places),
                    chance="> 99.9%" if chance > 0.999 else f"{chance:.1%}", **ends)]  # fmt: skip
        if row.advice == "keep_testing" and is_winner(self.method, action):
            said.append(say("portfolio_luck", self.language, naive=self.shown(action.effect.estimate, places)))
        if row.advice == "stop" and action.launched:
            said.append(say("portfolio_take_back", self.language))
        if row.advice == "scale" and action.launched is False:
            said.append(say("portfolio_not_launched", self.language))
        return say("portfolio_gap", self.language).join(said)

    def _sets(self) -> dict[str, Array]:
        """Whose effects are added up: what was launched (all, where nobody says), and the winners among them."""
        won = np.array([is_winner(self.method, action) for action in self.used])
        return {name: chosen for name, chosen in ((self.base, self.members), ("winners", self.members & won))
                if chosen.any()}  # fmt: skip

    def _added(self, chosen: Array) -> tuple[Test, Test]:
        """The total as measured and shrunk, of the actions that are chosen."""
        weights, alpha, lifts = np.where(chosen, self.weights, 0.0), self.method.alpha, self.method.term == "lift"
        prior = self.shrunk
        return (total_effect(self.y, self.s, alpha, lifts, weights),
                total_effect(prior.mean, prior.own, alpha, lifts, weights, prior.shared))  # fmt: skip

    def totals(self) -> list[dict[str, Any]]:
        """What the actions add up to, as measured and shrunk; of the winners, too, whose measured sum is too large."""
        rows = []
        for name, chosen in self._sets().items():
            naive, shrunk = self._added(chosen)
            rows.append({"actions": name, "n": int(chosen.sum()), "naive": naive.estimate, "naive_low": naive.low,
                         "naive_high": naive.high, "total": shrunk.estimate, "low": shrunk.low,
                         "high": shrunk.high})  # fmt: skip
        return rows

    def estimates(self) -> list[Estimate]:
        """The totals; then for each action the effect as measured, shrunk, and times what it reached."""
        base: Mapping[str, Any] = {"outcome": self.method.outcome, "segment": "all",
                                   "conf_level": 1 - self.method.alpha}  # fmt: skip
        rows = []
        for name, chosen in self._sets().items():
            common = {**base, "estimand": "total", "contrast": f"({name})", "term": "contribution"}
            for kind, test in zip(("naive", SHRUNK), self._added(chosen), strict=True):
                rows.append(Estimate(**common, method=kind, estimate=test.estimate, std_error=test.std_error,
                                     conf_low=test.low, conf_high=test.high, n=float(chosen.sum())))  # fmt: skip
        for row in self.rows:
            rows += self._estimates(row, self.used[row.place], base)
        for action in self.every:
            if not action.usable:
                note = say("portfolio_not_estimated", self.language, action=action.name)
                rows.append(Estimate(**base, method=SHRUNK, estimand=action.effect.estimand, contrast=action.name,
                                     term=self.method.term, n=action.effect.n, note=note))  # fmt: skip
        return rows

    def _estimates(self, row: Contribution, action: Action, base: Mapping[str, Any]) -> list[Estimate]:
        naive = self._naive(action)
        common = {**base, "estimand": action.effect.estimand, "contrast": row.name, "n": action.effect.n}
        shrunk = {**common, "method": SHRUNK}
        found = [
            Estimate(**common, method=action.effect.method, term=self.method.term, estimate=naive.estimate,
                     std_error=naive.std_error, statistic=naive.statistic, dof=naive.dof, p_value=naive.p_value,
                     conf_low=naive.low, conf_high=naive.high),
            Estimate(**shrunk, term=self.method.term, estimate=row.effect, std_error=row.std_dev, conf_low=row.low,
                     conf_high=row.high),
        ]  # fmt: skip
        if math.isfinite(action.reached):
            times = action.reached
            found.append(Estimate(**shrunk, term="contribution", estimate=times * row.effect,
                                  std_error=times * row.std_dev, conf_low=times * row.low,
                                  conf_high=times * row.high))  # fmt: skip
        return found


def _known(action: Action) -> dict[str, Any]:
    """What is known of an action before any shrinking."""
    effect = action.effect
    launched = "" if action.launched is None else action.date or ("yes" if action.launched else "no")
    return {"action": action.name, "experiment": effect.experiment, "contrast": effect.contrast,
            "method": effect.method, "n": effect.n, "launched": launched, "reached": action.reached,
            "naive": effect.estimate, "naive_error": effect.std_error}  # fmt: skip
