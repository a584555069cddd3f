"""docs/calibration-platform.md, written from the two tables alone: ``python -m tests.calibration.page_platform``."""

from __future__ import annotations

import math
import textwrap

from tests.calibration import cases_values, simulate_looks, simulate_platform
from tests.calibration.page import COLUMNS
from tests.calibration.simulate_experiments import Row, read
from tests.run import ROOT

PAGE = ROOT / "docs" / "calibration-platform.md"
FAMILIES = {
    "Quantiles": (
        ("quantile",),
        "The difference of two quantiles by the bounds of Woodruff (1952) and Zou & Donner (2008), with clustered "
        "events by the variance of Deng, Knoblich & Lu (2018), and by the exact law of the Poisson bootstrap.",
    ),
    "Ranks": (
        ("Mann–Whitney",),
        "P(treatment > control) + ½P(equal): the test is that of Mann & Whitney, the interval that of Brunner & "
        "Munzel.",
    ),
    "Resampling": (
        ("bootstrap", "jackknife"),
        "Poisson bootstrap (400 replicates) and jackknife of 400 buckets of units.",
    ),
    "Adjustment": (
        ("Lin", "post-stratified", "CUPAC"),
        "Slopes of each arm with HC2 and HC3, weights of strata, and a covariate that the other folds predict.",
    ),
    "Designs": (
        ("overall p", "triggered", "novelty", "switchback", "interaction"),
        "The p-value over all looks, triggered units, the trend of an effect, switchbacks, concurrent experiments.",
    ),
    "Margins": (
        ("non-inferiority", "equivalence"),
        "Lifts against a margin of 5 %. *Rejected* is here the share that passes when the lift is the margin itself, "
        "at a one-sided level of 5 %.",
    ),
    "Beliefs": (
        ("Bayes", "empirical Bayes"),
        "The truth is drawn from the prior, and a credible interval of 95 % should hold it in 95 % of the experiments. "
        "*Rejected* and *KS p* are of the probability that the posterior leaves below the truth, which is uniform.",
    ),
    "A/A splits": (
        ("A/A split",),
        "Splits of hashed buckets, each of a population of its own: z against a standard normal.",
    ),
}
STEPS = tuple(f"{name}, steps of {step}" for step in cases_values.STEPS for name in ("median", "P90"))
FEW = ("uneven spread, few units", "four strata, few units", "lift at the margin, few units")
# Title: (designs or tests, what there is to say).
LIMITS: dict[str, tuple[tuple[str, ...], str]] = {
    "Values with many ties": (
        STEPS,
        "Lognormal values as multiples of a step, which is a third of the standard error of the median here, the whole "
        "of it, and three times it. The quantile jumps from step to step: estimates are biased by a part of a step, "
        "p-values are not uniform, and where all values around it are equal there is no interval. With an error of "
        "half the distance of the order statistics, up to a fifth of the experiments without an effect would be "
        "rejected; with the bounds themselves it is one in fifteen at most. Read such effects in whole steps.",
    ),
    "Extreme quantiles": (
        ("P99, lognormal", f"P99, {cases_values.EVENTS}", f"P90, {cases_values.EVENTS}, few"),
        "The upper bound of a P99 is an order statistic of the last few values, far out: intervals are too wide rather "
        "than too narrow.",
    ),
    "Ranks under unequal spread": (
        ("unequal spread",),
        "The test of Mann & Whitney is one of equal distributions. Where the spreads differ and P(treatment > control) "
        "is ½, it rejects too often (or too seldom, with the larger arm the wider one). The interval holds.",
    ),
    "Few units": (
        FEW,
        "Some twenty units an arm with three covariates, or fifteen in a stratum: the standard error is a guess, and "
        "that of HC2 too small; HC3 is the safer one. Equivalence is hardly ever shown with few units.",
    ),
    "First looks at few units": (
        ("Pocock",),
        "Thirty looks, the first at 10 and at 40 units: z is taken for normal though its standard error comes from a "
        "few units. Take the first look when some 50 units of an arm are there, or a spending of O'Brien & Fleming, "
        "which spends next to nothing on it.",
    ),
    "The fixed test, looked at again and again": (
        ("fixed test",),
        "What a plan of several looks is for.",
    ),
    "Empirical Bayes": (
        ("40 effects",),
        "The spread of 40 effects is itself estimated, which the interval of one of them does not know.",
    ),
    "The verdict of an A/A validation": (
        ("400 splits, lognormal",),
        "*Rejected* is the share of sound metrics that are not trusted: two bands of 99.9 % each leave it at 0.2 %.",
    ),
}
HEAD = """# Calibration of what widens the experiment job

Every estimator beside the plain ones, and every plan of several looks, on simulated experiments whose truth is known:
once with an effect and once without, through the functions that a job calls. How to read the columns, and the bands
that a sound estimator keeps: [calibration](calibration.md); **bold** is outside. Behind ± stands the Monte Carlo error
of the share (one standard error).

This page is written from `tests/calibration/platform.csv` and `tests/calibration/looks.csv`; a test compares them. To
repeat it, on one core in about {minutes} minutes:

```
python -m tests.calibration.simulate_platform
python -m tests.calibration.simulate_looks
python -m tests.calibration.page_platform
```
"""
LOOKS_HEAD = """
## Looks at a running experiment

*Size* is the share of experiments without an effect that ever cross a bound, at a level of 5 %; *power* the share with
an effect of three standard errors at the planned end; *coverage* the share in which the intervals of *all* looks hold
the truth. *Integrated* is what recursive integration says of the same bounds (Jennison & Turnbull 2000, ch. 19). The
moments of 6,000 units grow from look to look, and each z is over its estimated standard error, as in the job; a test
takes such paths through the job itself and finds the same. Uneven looks come at random times; *up to 120 %*: the last
look has more units than were planned. An always-valid sequence holds at any look that might still come, and so has a
size below 5 % at those that did.

"""
LIMITS_HEAD = """
## Where the methods are not to be trusted

"""


def share(row: Row, name: str, value: str) -> str:
    """A share with its Monte Carlo error; bold outside its band."""
    p, n = float(value), int(row["replicates"])
    text = f"{p:.4f} ± {math.sqrt(p * (1 - p) / n):.4f}"
    return f"**{text}**" if name in row["outside"].split() else text


def cell(row: Row, name: str) -> str:
    value = row[name]
    if not value:
        return "·"
    if name in ("coverage", "rejection"):
        return share(row, name, value)
    return f"**{value}**" if name in row["outside"].split() else value


def table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(parts)} |\n" for parts in (head, rule, *rows))


def lines(rows: list[Row]) -> str:
    names = [name for name in COLUMNS if any(row[name] for row in rows)]
    head = ["estimator · design", "arms", "replicates", *(COLUMNS[name] for name in names)]
    found = []
    for row in rows:
        arms = f"{int(row['n_treatment']):,} / {int(row['n_control']):,}"
        title = f"{row['estimator']} · {row['design']}"
        found.append([title, arms, f"{int(row['replicates']):,}", *(cell(row, name) for name in names)])
    return table(head, found)


def looks(rows: list[Row]) -> str:
    head = ["test · looks", "replicates", "size, integrated", "size", "power, integrated", "power", "coverage"]
    names = ("size_exact", "size", "power_exact", "power", "coverage")
    found = []
    for row in rows:
        cells = [(row[name] or "·") if name.endswith("exact") else share(row, name, row[name]) for name in names]
        found.append([f"{row['test']} · {row['design']}", f"{int(row['replicates']):,}", *cells])
    return table(head, found)


def render(platform: list[Row], looked: list[Row]) -> str:
    """The page, as Markdown."""
    text = HEAD.format(minutes=MINUTES)
    text += LOOKS_HEAD + looks([row for row in looked if row["role"] == "main"])
    for family, (starts, words) in FAMILIES.items():
        main = [row for row in platform if row["estimator"].startswith(starts) and row["role"] == "main"]
        text += f"\n## {family}\n\n{textwrap.fill(words, 118, break_on_hyphens=False)}\n\n" + lines(main)
    text += LIMITS_HEAD
    for title, (abouts, reason) in LIMITS.items():
        mine = [row for row in platform if row["role"] == "limit" and row["design"] in abouts]
        seen = [row for row in looked if row["role"] == "limit" and row["test"] in abouts]
        text += (
            f"### {title}\n\n{textwrap.fill(reason, 118, break_on_hyphens=False)}\n\n"
            + (lines(mine) if mine else looks(seen))
            + "\n"
        )
    return text.rstrip("\n") + "\n"


MINUTES = 10

if __name__ == "__main__":
    PAGE.write_text(render(read(simulate_platform.CSV), read(simulate_looks.CSV)), encoding="utf-8")
