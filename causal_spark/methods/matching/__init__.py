"""Observational comparisons: similar units that were not treated, how similar, and the effect with an honest error."""

from causal_spark.methods.matching.compressed import Compressed
from causal_spark.methods.matching.solve import solve
from causal_spark.methods.matching.vocabulary import Covariate, Matching, Observational, Propensity

METHOD = Observational
# What the job reads: one row per unit.
INPUTS = (("units",),)
# Fields that change the solution but not what is compressed.
RESOLVABLE = ("alpha", "alternative", "smd", "spend", "value")

__all__ = [
    "INPUTS",
    "METHOD",
    "RESOLVABLE",
    "Compressed",
    "Covariate",
    "Matching",
    "Observational",
    "Propensity",
    "solve",
]
