"""A/B experiments: can I trust this experiment, what moved, by how much, how sure are we."""

from causal_spark.methods.experiment import looks
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.rules import DecisionRule, Margin, Sequential
from causal_spark.methods.experiment.solve import solve
from causal_spark.methods.experiment.vocabulary import Experiment, Metric, RatioOf, Switchback

METHOD = Experiment
# What the job reads: either set of roles.
INPUTS = (("units",), ("exposures", "events"))
# Fields that change the solution but not what is compressed.
RESOLVABLE = ("alpha", "alternative", "correction", "contrasts", "lift", "theta", "cluster_correction",
              "srm_alpha", "srm_min_deviation", "bayes", "hc", "margin_alpha", "decision",
              "holdout_effect")  # fmt: skip

__all__ = [
    "INPUTS",
    "METHOD",
    "RESOLVABLE",
    "Compressed",
    "DecisionRule",
    "Experiment",
    "Margin",
    "Metric",
    "RatioOf",
    "Sequential",
    "Switchback",
    "looks",
    "solve",
]
