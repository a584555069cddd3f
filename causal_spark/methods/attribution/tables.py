"""The diagnostics of an attribution: removal effects, steps, lags, lengths, paths, returns, calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from causal_spark.methods.attribution.compressed import Compressed, Lift
from causal_spark.methods.attribution.credits import WHOLE, Credit, Segment
from causal_spark.methods.attribution.exposures import SECOND
from causal_spark.methods.attribution.journeys import DAY
from causal_spark.methods.attribution.vocabulary import CONVERSIONS, HAZARD, Attribution
from causal_spark.results import Estimate
from causal_spark.solve.intervals import critical

Rows = list[dict[str, Any]]
START, CONVERSION, NULL = "(start)", "(conversion)", "(null)"
VALUE = "value"


def diagnostics(method: Attribution, compressed: Compressed, whole: Segment,
                solved: Mapping[str, Credit]) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The named tables over all journeys."""
    made = {
        "totals": _totals(compressed, whole),
        "removal_effects": _effects(method, compressed, solved),
        "stages": _stages(compressed, solved),
        "transitions": _transitions(compressed, whole),
        "path_lengths": _lengths(whole),
        "lags": _lags(whole),
        "top_paths": _paths(compressed),
        "orders": _orders(method, whole),
        "hazards": _hazards(method, compressed, solved),
    }
    return {name: pd.DataFrame(rows) for name, rows in made.items()}


def _totals(compressed: Compressed, whole: Segment) -> Rows:
    rows: Rows = []
    for k, outcome in enumerate(compressed.outcomes):
        rows.append({"outcome": outcome, "attributed": float(whole.attributed[k]),
                     "unattributed": float(whole.unattributed[k]),
                     "total": float(whole.attributed[k] + whole.unattributed[k])})  # fmt: skip
    lost = {"outcome": "nulls", "attributed": math.nan, "unattributed": math.nan, "total": float(whole.total[1])}
    return [*rows, lost]


def _effects(method: Attribution, compressed: Compressed, solved: Mapping[str, Credit]) -> Rows:
    """Share of each outcome that is lost without a channel, with the interval of its replicates."""
    rows: Rows = []
    for model, credit in solved.items():
        if credit.effects is None:
            continue
        made = credit.effect_replicates
        for c, channel in enumerate(compressed.tokens):
            for k, outcome in enumerate(compressed.outcomes):
                error = float(np.std(made[:, c, k], ddof=1)) if made is not None and len(made) > 1 else math.nan
                half, value = critical(method.alpha) * error, float(credit.effects[c, k])
                rows.append({"model": model, "outcome": outcome, "channel": channel, "removal_effect": value,
                             "std_error": error, "conf_low": value - half, "conf_high": value + half})  # fmt: skip
    return rows


def _stages(compressed: Compressed, solved: Mapping[str, Credit]) -> Rows:
    """Ordered Shapley: a channel's credit by its rank among the channels of the journey; ranks add up."""
    credit = solved.get("shapley_ordered")
    if credit is None:
        return []
    stages: list[tuple[int, int, np.ndarray]] = credit.extra["stages"]  # type: ignore[assignment]
    return [{"channel": compressed.tokens[token], "stage": stage, "outcome": outcome, "credit": float(values[k])}
            for stage, token, values in stages for k, outcome in enumerate(compressed.outcomes)]  # fmt: skip


def _transitions(compressed: Compressed, whole: Segment) -> Rows:
    """Steps of order 1 with their share of all steps from the same place."""
    sums, tokens = whole.sums("markov_1"), len(compressed.tokens)
    counts: dict[int, dict[int, float]] = {}
    for key, row in zip(sums.key.tolist(), sums.base, strict=True):
        counts.setdefault(key // (tokens + 2), {})[key % (tokens + 2)] = float(row[0] + row[1])
    names = [*compressed.tokens, CONVERSION, NULL]
    return [{"origin": START if state == 0 else compressed.tokens[state - 1], "target": names[step], "count": n,
             "share": n / sum(steps.values())}
            for state, steps in sorted(counts.items()) for step, n in sorted(steps.items())]  # fmt: skip


def _lengths(whole: Segment) -> Rows:
    """Journeys by their number of touches; 50 stands for 50 and more."""
    sums = whole.sums("length")
    return [{"touches": int(key), "conversions": float(row[0]), "nulls": float(row[1]),
             "rate": float(row[0] / (row[0] + row[1]))}
            for key, row in zip(sums.key, sums.base, strict=True) if row[0] + row[1] > 0]  # fmt: skip


def _lags(whole: Segment) -> Rows:
    """Conversions by whole days since the first and since the last touch, and their running share."""
    rows: Rows = []
    for name in ("first", "last"):
        sums = whole.sums(f"lag_{name}")
        run, total = 0.0, float(sums.base[:, 0].sum())
        for key, row in zip(sums.key, sums.base, strict=True):
            run += float(row[0])
            rows.append({"since": name, "day": int(key), "conversions": float(row[0]), "share": run / total})
    return rows


def _paths(compressed: Compressed) -> Rows:
    scales = compressed.scales[1:]
    rows: Rows = []
    for path, (won, lost, *amounts) in compressed.paths:
        steps = [compressed.tokens[int(step)] if step != "+" else "…" for step in path.split()]
        values = {name: amount / scale
                  for name, amount, scale in zip(compressed.outcomes[1:], amounts, scales, strict=True)}  # fmt: skip
        rows.append({"path": " > ".join(steps), "conversions": float(won), "nulls": lost / WHOLE, **values})
    return rows


def _orders(method: Attribution, whole: Segment) -> Rows:
    """Held-out log-likelihood of each Markov order that markov_auto compared."""
    if "markov_auto" not in method.models:
        return []
    best = whole.order()
    return [{"order": order, "log_likelihood": score, "chosen": order == best}
            for order, score in whole.likelihoods().items()]  # fmt: skip


def _hazards(method: Attribution, compressed: Compressed, solved: Mapping[str, Credit]) -> Rows:
    """Additive hazard: conversions for each day after a channel was met, with the interval of the replicates."""
    credit = solved.get(HAZARD)
    if credit is None:
        return []
    per_day = DAY / SECOND / WHOLE
    rates, made = (np.asarray(credit.extra[name], float) * per_day for name in ("rates", "rate_replicates"))
    errors = np.std(made, axis=0, ddof=1) if len(made) > 1 else np.full(len(rates), math.nan)
    half = critical(method.alpha) * errors
    return [{"channel": name, "per_day": float(rates[c]), "std_error": float(errors[c]),
             "conf_low": max(float(rates[c] - half[c]), 0.0) if half[c] > 0 else math.nan,
             "conf_high": float(rates[c] + half[c]) if half[c] > 0 else math.nan}
            for c, name in enumerate(compressed.tokens)]  # fmt: skip


def returns(compressed: Compressed, estimates: pd.DataFrame) -> Rows:
    """Cost for a conversion, value for a unit of cost and its return, by model and channel, with intervals."""
    if compressed.costs is None:
        return []
    found: dict[tuple[str, str], dict[str, tuple[float, float, float]]] = {}
    for line in estimates[estimates["segment"] == "all"].to_dict("records"):
        ends = (float(line["estimate"]), float(line["conf_low"]), float(line["conf_high"]))
        found.setdefault((str(line["method"]), str(line["term"])), {})[str(line["outcome"])] = ends
    rows: Rows = []
    for (model, channel), credit in found.items():
        cost = compressed.costs.get(channel)
        if cost is None:
            continue
        middle, low, high = (cost / end if end > 0 else math.nan for end in credit[CONVERSIONS])
        row = {"model": model, "channel": channel, "cost": cost, "cpa": middle, "cpa_low": high, "cpa_high": low}
        if VALUE in credit and cost > 0:
            for end, name in zip(credit[VALUE], ("", "_low", "_high"), strict=True):
                row |= {f"roas{name}": end / cost, f"roi{name}": end / cost - 1}
        rows.append(row)
    return rows


def calibration(method: Attribution, compressed: Compressed, estimates: pd.DataFrame) -> Rows:
    """Lift of the experiment / credit of the model, each with its interval; that of the ratio by the delta method."""
    rows: Rows = []
    level = critical(method.alpha)
    for lift, row in _matched(compressed, estimates):
        credit, error = float(row["estimate"]), float(row["std_error"])
        factor = lift.estimate / credit if credit else math.nan
        known = 0.0 if math.isnan(error) else error
        spread = math.hypot(lift.std_error, factor * known) / credit if credit else math.nan
        half, around = level * abs(spread), level * lift.std_error
        rows.append({"model": row["method"], "outcome": lift.outcome, "channel": lift.channel, "credit": credit,
                     "credit_low": float(row["conf_low"]), "credit_high": float(row["conf_high"]),
                     "lift": lift.estimate, "lift_low": lift.estimate - around, "lift_high": lift.estimate + around,
                     "factor": factor, "factor_low": factor - half, "factor_high": factor + half})  # fmt: skip
    return rows


def _matched(compressed: Compressed, estimates: pd.DataFrame) -> Iterator[tuple[Lift, pd.Series]]:
    for lift in compressed.lifts:
        mine = estimates[(estimates["segment"] == "all") & (estimates["term"] == lift.channel)
                         & (estimates["outcome"] == lift.outcome)]  # fmt: skip
        for _, row in mine.iterrows():
            yield lift, row


def incremental(method: Attribution, compressed: Compressed, estimates: pd.DataFrame, note: str) -> Iterator[Estimate]:
    """The experiment's lift in place of the credit; what that takes off goes to (baseline), by model and outcome,
    with the errors of lifts and credits taken as independent."""
    half = critical(method.alpha)
    moved: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for lift, row in _matched(compressed, estimates):
        model = str(row["method"])
        known = 0.0 if math.isnan(row["std_error"]) else float(row["std_error"])
        part = (float(row["estimate"]) - lift.estimate, math.hypot(lift.std_error, known))
        moved.setdefault((model, lift.outcome), []).append(part)
        yield Estimate(model, "incremental", lift.outcome, "all", "", lift.channel, estimate=lift.estimate,
                       std_error=lift.std_error, conf_low=lift.estimate - half * lift.std_error,
                       conf_high=lift.estimate + half * lift.std_error, conf_level=1 - method.alpha,
                       n=float(row["n"]), note=note)  # fmt: skip
    for (model, outcome), parts in moved.items():
        rest, error = sum(a for a, _ in parts), math.sqrt(sum(e**2 for _, e in parts))
        yield Estimate(model, "incremental", outcome, "all", "", "(baseline)", estimate=rest, std_error=error,
                       conf_low=rest - half * error, conf_high=rest + half * error, conf_level=1 - method.alpha,
                       note=note)  # fmt: skip


def agreement(estimates: pd.DataFrame) -> Rows:
    """The least and the largest share of a channel among the models, by outcome."""
    mine = estimates[(estimates["segment"] == "all") & (estimates["method"] != "participation")]
    shares: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for (outcome, model), part in mine.groupby(["outcome", "method"], sort=False):
        total = float(part["estimate"].sum())
        for channel, credit in zip(part["term"], part["estimate"], strict=True):
            shares.setdefault((str(outcome), str(channel)), []).append((credit / total if total else 0.0, str(model)))
    rows: Rows = []
    for (outcome, channel), every in shares.items():
        (least, least_model), (most, most_model) = min(every), max(every)
        rows.append({"outcome": outcome, "channel": channel, "least": least, "least_model": least_model,
                     "most": most, "most_model": most_model})  # fmt: skip
    return rows
