"""docs/calibration.md, written from the table alone."""

from __future__ import annotations

import textwrap

from tests.calibration.designs import DESIGNS
from tests.calibration.simulate_experiments import (
    A_A_UNITS,
    ALPHA,
    BIAS_BAND,
    KS_FLOOR,
    REPLICATES,
    SE_BAND,
    SHARES,
    Row,
    band,
)

FAMILIES = {
    "Means": ("welch",),
    "Shares": ("z",),
    "Ratios of means": ("ratio (delta)",),
    "Relative lifts": ("lift",),
    "Adjustment by covariates (CUPED)": ("cuped",),
    "Clusters": ("clusters",),
    "A/A tests": ("A/A",),
    "Sample ratio mismatch": ("sample ratio",),
}
WORDS = {
    "welch": "The difference of means, Welch's t.",
    "z": "The difference of shares: the test by the pooled z, the interval by the unpooled.",
    "ratio (delta)": "The difference of Σclicks/Σviews by the delta method.",
    "lift": "Treatment/control - 1 by Fieller, by the logarithm and by the delta method.",
    "cuped": "θ within arms or over all rows, with 1 covariate or 3; `cuped ratio` has the ratio before as covariate.",
    "clusters": "Σtotal/Σsize of each arm (`arm`), or least squares with the CR1 sandwich and t(G - 2).",
    "A/A": f"One fixed population of {A_A_UNITS:,} units, split in two at random {REPLICATES:,} times.",
    "sample ratio": "Pearson's χ² of units that do follow the planned shares; only the test is of interest.",
}
COLUMNS = {
    "coverage": "coverage",
    "rejection": "rejected, no effect",
    "bias_se": "bias / SD",
    "se_ratio": "mean SE / SD",
    "ks_p": "KS p",
    "undefined": "no interval",
}
LIMITS = {
    "lognormal": (
        "Only the lift by the delta method. Its interval is symmetric, and a ratio of skewed means is not: it misses "
        "mostly on one side. Fieller and the logarithm hold on the same experiments (above). This cell was planned as "
        "a main one and moved here when it came out."
    ),
    "revenue": "The lift by the delta method again, for the same reason and also moved here.",
    "lognormal, lopsided": (
        "A skewed metric and arms of very different size. With equal arms the skewness of the two means cancels in "
        "the difference; with 50 units against 1,000 nothing cancels it, whatever the method. A rule of thumb asks for "
        "355·skewness² units in the smaller arm (Kohavi, Deng, Longbotham & Xu 2014); a winsorised twin asks for fewer."
    ),
    "heavy tail": (
        "A handful of units carry the total, and the standard error is itself a guess, far below the true one in most "
        "samples. Between equal arms the errors of the two sides cancel, so the difference is rather too cautious; "
        "the lifts by the logarithm and by delta are plainly wrong. Winsorise, and declare it before the experiment."
    ),
    "rare": (
        "Two events are expected in an arm. The normal does not describe such counts, and p-values come in steps "
        "(KS). In some samples nobody converts in either arm, and there is no interval. Wait for some tens of events."
    ),
    "share, few units": "Counts of a few events: p-values come in steps, and the interval is too narrow.",
    "small": (
        "Ten units an arm. θ within arms is estimated from the same units, and its uncertainty is not in the standard "
        "error: three covariates make of 95 % about 90 %. θ over all rows keeps the coverage here, but takes a part "
        "of a large effect for covariance, which draws the estimate towards zero (bias). Have some fifty units of an "
        "arm for each covariate. The lifts hold because the metric is normal and far from zero."
    ),
    "weak control": (
        "The control mean is about two standard errors from zero, so a ratio to it may be anything. Fieller says so: "
        "where the control is not distinguishable from zero there is no interval, and coverage and bias are those of "
        "the other experiments only. Delta and the logarithm answer nearly always, with intervals of no use."
    ),
    "sessions, few units": (
        "Ratios are linear only for large samples. With 12 units an arm the delta method's standard error is too "
        "small, and with a covariate more so."
    ),
    "random clusters": (
        "Clusters of very uneven size carry the information of fewer: about G/(1 + CV²), here 53 of 80 (Carter, "
        "Schnepel & Steigerwald 2017). The standard error is 1 to 2 % too small, a test at 5 % rejects nearly 6 %. "
        "With 250 clusters (above) it is inside. Planned as a main cell and moved here when it came out."
    ),
    "informative clusters": "The same with 100 clusters an arm, at the edge of the band; moved here as well.",
    "unequal clusters": (
        "Again uneven sizes, 40 clusters in the smaller arm. CR1 is worse than `arm`: it has one correction G/(G - 1) "
        "for both arms, and the variance of the smaller one is too small by 1/40."
    ),
    "few clusters": (
        "The variance comes from five cluster sums an arm, and neither correction repairs that. Welch's degrees of "
        "freedom (`arm`) help a little. With fewer than some tens of clusters an arm, trust neither."
    ),
    "two equal shares, 60 units": "60 units give few different counts, so the p-values come in steps.",
}


def percent(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.4f} to {limits[1]:.4f}"


def cell(row: Row, name: str) -> str:
    value = row[name] or "·"
    return f"**{value}**" if name in row["outside"].split() else value


def lines(rows: list[Row], first: str) -> list[str]:
    names = [name for name in COLUMNS if any(row[name] for row in rows)]
    head = [first, "arms", *(COLUMNS[name] for name in names)]
    table = [head, ["---", "---:", *("---:" for _ in names)]]
    for row in rows:
        title = f"{row['estimator']} · {row['design']}"
        arms = f"{int(row['n_treatment']):,} / {int(row['n_control']):,}"
        table.append([title, arms, *(cell(row, name) for name in names)])
    return [f"| {' | '.join(parts)} |" for parts in table]


INTRODUCTION = """# Calibration: do the intervals hold what they promise?

A 95 % interval should hold the truth in 95 of 100 experiments, and a test at 5 % should find something in 5 of 100
experiments without an effect. Here every estimator of an experiment is tried on simulated experiments whose truth is
known: {replicates:,} for each line, once with an effect and once without, each through the functions that a job calls.

This page is written from `tests/calibration/experiments.csv`; a test compares the two. To repeat it:

```
python -m tests.calibration.simulate_experiments          # simulate, about a quarter of an hour on one core
python -m tests.calibration.simulate_experiments --page   # write this page
```

## How to read it

| column | what it is | inside |
| --- | --- | --- |
| coverage | share of the 95 % intervals that hold the truth | {coverage} |
| rejected, no effect | share of p < 0.05 among experiments without an effect | {rejection} |
| bias / SD | (mean of the estimates - truth) / their standard deviation | at most ±{bias} |
| mean SE / SD | mean of the standard errors / standard deviation of the estimates | {low:.2f} to {high:.2f} |
| KS p | Kolmogorov and Smirnov's test that p-values without an effect are uniform | above {ks:g} |
| no interval | share of the experiments in which the estimator declines to give an interval | 0 |

The first two bands hold 99.9 % of the counts that an exact binomial would give, so a sound estimator leaves one of them
once in a thousand times, and an estimator whose standard error is a tenth too small (coverage of 92 %) is always
caught; a test makes sure of that. A bias of a tenth of a standard deviation costs a tenth of a percentage point of
coverage. **Bold** is outside.

Lines of the first kind (*main*) must be inside, or the tests fail. Lines of the second kind (*limit*), under
[where the methods are not to be trusted](#where-the-methods-are-not-to-be-trusted), show where the theory ends; they
are printed as they came out.

## The designs

| name | what is drawn |
| --- | --- |
"""

LIMITS_HEAD = """## Where the methods are not to be trusted

"""


def render(rows: list[Row]) -> str:
    """The page, as Markdown."""
    text = INTRODUCTION.format(
        replicates=REPLICATES,
        coverage=percent(band(1 - ALPHA, REPLICATES)),
        rejection=percent(band(ALPHA, REPLICATES)),
        bias=BIAS_BAND,
        low=SE_BAND[0],
        high=SE_BAND[1],
        ks=KS_FLOOR,
    )
    text += "".join(f"| {design.name} | {design.about} |\n" for design in DESIGNS.values())
    text += "".join(f"| {name} | units that follow the planned shares |\n" for name, *_ in SHARES)
    for family, starts in FAMILIES.items():
        main = [row for row in rows if row["estimator"].startswith(starts) and row["role"] == "main"]
        text += f"\n## {family}\n\n{WORDS[starts[0]]}\n\n" + "\n".join(lines(main, "estimator · design")) + "\n"
    text += "\n" + LIMITS_HEAD
    for design, reason in LIMITS.items():
        limit = [row for row in rows if row["design"] == design and row["role"] == "limit"]
        text += (
            f"### {design}\n\n{textwrap.fill(reason, 118)}\n\n" + "\n".join(lines(limit, "estimator · design")) + "\n\n"
        )
    return text.rstrip("\n") + "\n"
