"""Effects and standard errors of matching from the sums of its blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from causal_spark.solve.matched import ALONE, NUMBER, PLACE, ROWS, SIDE, SQUARES, USES
from causal_spark.solve.pairing import Rules
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

Population = Literal["population", "sample"]


@dataclass(frozen=True, eq=False)
class Effect:
    """Of q outcomes: ``estimate`` and ``std_error`` (q,); focal units, those that found a match; matches used.

    ``ess``: effective number of matches (ΣK)² / ΣK², by side.
    """

    estimate: Array
    std_error: Array
    n: float
    matched: float
    used: float
    ess: Mapping[int, float]


def with_border(sums: Sums, records: Array, rules: Rules) -> Sums:
    """The sums with the border candidates' squares, whose uses the records of all blocks add up to."""
    values = {name: value.copy() for name, value in sums.values.items()}
    keys, back = np.unique(records[:, [SIDE, NUMBER, PLACE]], axis=0, return_inverse=True)
    merged = np.zeros((len(keys), records.shape[1]))
    np.add.at(merged, back.ravel(), records)
    for side in rules.sides:
        mine = merged[keys[:, 0] == side]
        k, parts, rows, variance = mine[:, USES], mine[:, SQUARES], mine[:, ROWS], mine[:, ALONE + 1 :]
        alone = mine[:, ALONE]
        values[f"squares{side}"] += rows @ k**2
        values[f"parts{side}"] += rows @ parts
        values[f"used{side}"] += rows @ (k > 0)
        values[f"squares_variance{side}"] += k**2 @ variance
        values[f"uses_variance{side}"] += k @ variance
        values[f"parts_variance{side}"] += parts @ variance
        values[f"alone_uses{side}"] += k @ alone
        values[f"alone_squares{side}"] += k**2 @ alone
        values[f"alone_parts{side}"] += parts @ alone
    return Sums(values)


def with_replacement(
    sums: Sums,
    rules: Rules,
    population: Population = "population",
    homoskedastic: bool = False,
    information: Array | None = None,
) -> Effect:
    """Effect and SE of Abadie & Imbens (2006, theorem 7; 2016 with the score's ``information`` (p + 1, p + 1)).

    ``sums`` with border. The bootstrap is not valid here (Abadie & Imbens 2008). The error is NaN if fewer than two
    units found a match, or if the correction leaves no variance.
    """
    sides = rules.sides
    matched = sum(sums.number(f"matched{side}") for side in sides)
    effect = sum((sums[f"effect{side}"] for side in sides), np.zeros(1)) / matched
    spread = sum((sums[f"effect2{side}"] for side in sides), np.zeros(1)) - matched * effect**2
    spread = np.maximum(spread, 0.0)
    uses, parts, squares = _candidate_sums(sums, sides, homoskedastic, effect, matched)
    if population == "sample":
        every = uses["every"]
        variance = (every + 2 * uses["both"] + squares) / matched**2
    else:
        variance = (spread + squares + 2 * uses["both"] - parts) / matched**2
    if information is not None:
        variance = variance + _score_correction(sums, rules, effect, matched, information)
    ess = {side: sums.number(f"matched{side}") ** 2 / max(sums.number(f"squares{side}"), 1e-300) for side in sides}
    return Effect(
        effect,
        np.sqrt(np.where((variance >= 0) & (matched > 1), variance, np.nan)),
        sum(sums.number(f"n{side}") for side in sides),
        matched,
        sum(sums.number(f"used{side}") for side in sides),
        ess,
    )


def _candidate_sums(
    sums: Sums, sides: tuple[int, ...], homoskedastic: bool, effect: Array, matched: float
) -> tuple[dict[str, Array], Array, Array]:
    """Σ K σ² (of both sides only if both look for matches), Σ K′ σ², Σ K² σ²."""
    if homoskedastic:
        within = sum((sums[f"within{s}"] for s in sides), np.zeros(1))
        crossed = sum((sums[f"effect{s}"] for s in sides), np.zeros(1))
        level = (within - 2 * effect * crossed + matched * effect**2) / (2 * matched)
        squares = level * sum(sums.number(f"squares{s}") for s in sides)
        parts = level * sum(sums.number(f"parts{s}") for s in sides)
        both = level * matched if len(sides) == 2 else np.zeros_like(level)
        return {"both": both, "every": level * matched}, parts, squares
    squares, parts, uses, every = (
        sum((_with_alone(sums, side, *names) for side in sides), np.zeros(1))
        for names in (
            ("squares_variance", "alone_squares"),
            ("parts_variance", "alone_parts"),
            ("uses_variance", "alone_uses"),
            ("variance", "alone_focal"),
        )
    )
    return {"both": uses if len(sides) == 2 else np.zeros_like(uses), "every": every}, parts, squares


def _with_alone(sums: Sums, side: int, known: str, alone: str) -> Array:
    """Σ of factors · σ² of a side, where units ``alone`` in their arm and group have the mean σ² of the others.

    The mean is over focal units, or over matches by their uses. NaN if there are no others.
    """
    factor = sums.number(f"{alone}{side}")
    if factor == 0:
        return sums[f"{known}{side}"]
    mean, without = ("variance", "alone_focal") if known == "variance" else ("uses_variance", "alone_uses")
    others = sums.number(f"matched{side}") - sums.number(f"{without}{side}")
    level = sums[f"{mean}{side}"] / others if others > 1e-9 else np.full_like(sums[f"{mean}{side}"], np.nan)
    return np.asarray(sums[f"{known}{side}"] + factor * level)


def _score_correction(sums: Sums, rules: Rules, effect: Array, matched: float, information: Array) -> Array:
    """What estimating the score takes from the variance (ATE) or changes in it (ATT, ATC); shape (q,).

    Abadie & Imbens (2016), theorem 1: -c′ I⁻¹ c; theorem 2: -c′ I⁻¹ c + d′ I⁻¹ d, here on the scale of the sums.
    """
    inverse = np.linalg.inv(information)

    def form(c: Array) -> Array:
        return np.asarray(np.einsum("qp,pr,qr->q", c, inverse, c) / matched**2)

    if rules.estimand == "ATE":
        return -form(sums["cov1_ate"] + sums["cov0_ate"])
    level = sums["slope_effect"] - effect[:, None] * sums["slope"]
    if rules.estimand == "ATT":
        return -form(level + sums["cov1"] + sums["cov0_odds"]) + form(level + sums["cov1"] - sums["cov0"])
    return -form(sums["cov0"] + sums["cov1_odds"] - level) + form(level + sums["cov1"] - sums["cov0"])


def without_replacement(sums: Sums, rules: Rules) -> Effect:
    """Effect with a standard error clustered by matched set (Abadie & Spiess 2022), CR1 of the weighted regression."""
    side = rules.sides[0]
    sets = sums.number(f"matched{side}")
    rows = sets + sums.number(f"used{side}")
    effect = sums[f"effect{side}"] / sets
    spread = np.maximum(sums[f"effect2{side}"] - sets * effect**2, 0.0)
    factor = sets / (sets - 1) * (rows - 1) / (rows - 2) if sets > 1 else math.nan
    ess = {side: sets**2 / max(sums.number(f"squares{side}"), 1e-300)}
    return Effect(
        effect, np.sqrt(spread * factor) / sets, sums.number(f"n{side}"), sets, sums.number(f"used{side}"), ess
    )
