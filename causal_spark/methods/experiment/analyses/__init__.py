"""What an experiment answers beyond means: each analysis is a file here, with a pass of the same name if it needs one.

An analysis reads the solver (method, compressed, cells, checks) and the estimates of means, and gives further rows
and tables; one that was not asked for gives ``Found()``. It never sees Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from causal_spark.methods.experiment.analyses.bayes import bayes
from causal_spark.methods.experiment.analyses.carryover import carryover
from causal_spark.methods.experiment.analyses.decisions import decisions
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.analyses.holdouts import holdouts
from causal_spark.methods.experiment.analyses.interactions import interactions
from causal_spark.methods.experiment.analyses.novelty import novelty
from causal_spark.methods.experiment.analyses.quantiles import quantiles
from causal_spark.methods.experiment.analyses.ranks import ranks
from causal_spark.methods.experiment.analyses.resampling import resampling
from causal_spark.methods.experiment.analyses.triggered import triggered
from causal_spark.methods.experiment.estimates import Solver
from causal_spark.results import Estimate

Analysis = Callable[[Solver, Sequence[Estimate]], Found]
ANALYSES: tuple[Analysis, ...] = (
    quantiles,
    ranks,
    resampling,
    bayes,
    triggered,
    interactions,
    novelty,
    carryover,
    holdouts,
    decisions,  # last: it asks what all checks found
)
