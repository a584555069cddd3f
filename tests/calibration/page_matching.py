"""docs/calibration-matching.md, written from the table alone: ``python -m tests.calibration.page_matching``."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.run import ROOT

TABLE = Path(__file__).with_name("matching.csv")
PAGE = ROOT / "docs" / "calibration-matching.md"
DESIGNS = {
    "one covariate": "One normal covariate drives treatment and outcome; effects differ. Matching is on it.",
    "one covariate, bounded": "The same with a uniform covariate: no tails in which matches are far.",
    "same effect": "Three covariates, one of them 0/1; the effect is the same for all. Methods use the propensity.",
    "other effects": "The same covariates; the effect differs with two of them.",
}
KINDS = {
    "": "in the band",
    "biased": "biased",
    "wide": "error too wide",
    "biased wide": "biased, error too wide",
}
HEAD = """# Coverage of the `matching` job, by simulation

Samples of 1,000 units, {replicates} of each design. Confounding is so strong that the naive difference has the
wrong sign (`naive` against `truth`). A 95 % interval should hold the truth in 95 % of the samples; the band is
three Monte-Carlo standard errors. *bias / SD* is the bias in standard deviations of the estimate, *SE / SD* the
mean standard error against them. "Of the sample": against the effect in each
sample itself, so the truth column is 0.

What to take from it:

- `ipw`, `aipw`, `entropy` and `dml` hold their coverage, and so does matching on a score with the error of
  Abadie & Imbens (2016). Without the correction for the estimated score (2006) the interval is too wide, never
  too narrow.
- Matching with one match leaves a bias of about a tenth to a fifth of a standard deviation where matches are
  far, and three matches leave about twice as much: a ratio above 1 buys a smaller variance with bias.
- Matching in pairs without replacement, `order: largest`, within a caliper, and few subclasses are biased by
  more than a standard deviation here. With `order: closest` they are unbiased where the effect is the same for
  all; where it differs, the units that find a match are not those that were asked about.
- No standard error in the table is too small.
"""


def render() -> str:
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    text = HEAD.format(replicates=f"{int(rows[0]['replicates']):,}")
    for design, words in DESIGNS.items():
        mine = [row for row in rows if row["design"] == design]
        text += f"\n## {design.capitalize()}\n\n{words} The naive difference is {float(mine[0]['naive']):.2f}.\n\n"
        text += "| estimator | estimand | truth | coverage | bias / SD | SE / SD | |\n|---|---|---|---|---|---|---|\n"
        for row in mine:
            numbers = f"{float(row['coverage']):.1%} | {float(row['bias_sd']):+.2f} | {float(row['se_ratio']):.2f}"
            names = f"{row['estimator']} | {row['estimand']} | {float(row['truth']):.3f}"
            text += f"| {names} | {numbers} | {KINDS[row['limit']]} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
