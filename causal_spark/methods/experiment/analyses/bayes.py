"""The Bayesian reading of each effect: P(win), expected losses and credible interval under the declared priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.plan import Block
from causal_spark.methods.experiment.settings import Bayes
from causal_spark.results import Estimate
from causal_spark.solve.bayes import Posterior, Prior, beta_binomial, normal_posterior
from causal_spark.solve.means import evaluate


def bayes(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """The table ``bayes``: for each main row the posterior of its term, and for two proportions the beta-binomial."""
    asked = solver.method.bayes
    if asked is None:
        return Found()
    main: dict[tuple[str, str, str, str], Estimate] = {}
    for row in rows:
        main.setdefault((row.outcome, row.segment, row.contrast, row.term), row)
    known = {block.metric.name: block for block in solver.blocks}
    contrasts = {str(contrast): contrast for contrast in solver.contrasts()}
    table = []
    for row in main.values():
        if row.term in ("difference", "lift") and math.isfinite(row.std_error):
            block, contrast = known[row.outcome], contrasts[row.contrast]
            table.append(_line(row, "normal", _normal(solver, asked, block, contrast, row)))
            if row.term == "difference" and block.metric.binary and not solver.clustered:
                table.append(_line(row, "beta_binomial", _proportions(solver, asked, block, contrast, row.segment)))
    return Found((), {"bayes": pd.DataFrame(table)} if table else {})


def _normal(solver: Solver, asked: Bayes, block: Block, contrast: Contrast, row: Estimate) -> Posterior:
    """The prior is one of the lift; for a difference it is multiplied by the control mean."""
    arms = solver.cells.arms(row.segment, block.metric.name)
    control = float(evaluate(arms[contrast.control], block.forms(solver.clustered)[:1]).value[0])
    prior = Prior(asked.prior_mean, math.inf if asked.prior_sd is None else asked.prior_sd)
    return normal_posterior(row.estimate, row.std_error, prior.on(row.term == "lift", control), solver.method.alpha)


def _proportions(solver: Solver, asked: Bayes, block: Block, contrast: Contrast, segment: str) -> Posterior:
    arms = solver.cells.arms(segment, block.metric.name)
    place = arms[contrast.control].names.index(block.columns[0].name)
    t, c = (arms[arm] for arm in (contrast.treatment, contrast.control))
    successes = [round(float(part.n * part.mean[place])) for part in (t, c)]
    return beta_binomial(successes[0], t.n, successes[1], c.n, (asked.beta[0], asked.beta[1]), solver.method.alpha)


def _line(row: Estimate, method: str, found: Posterior) -> dict[str, Any]:
    return {"outcome": row.outcome, "segment": row.segment, "contrast": row.contrast, "term": row.term,
            "method": method, "mean": found.mean, "std_dev": found.std_dev, "p_win": found.p_win,
            "loss_treatment": found.loss_treatment, "loss_control": found.loss_control,
            "cred_low": found.low, "cred_high": found.high}  # fmt: skip
