"""Attribution: which channels get the conversions, under every model in use, on the same journeys."""

from itertools import combinations

from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.solve import solve
from causal_spark.methods.attribution.vocabulary import Attribution, Calibration, Identity, Paths, Spend

METHOD = Attribution
_OPTIONAL = ("identity", "spend", "lift")
# What the job reads: touches and conversions, or ready paths; each with any of the further tables.
INPUTS = tuple(
    (*roles, *further)
    for roles in (("touches", "conversions"), ("paths",))
    for many in range(len(_OPTIONAL) + 1)
    for further in combinations(_OPTIONAL, many)
    if not ("paths" in roles and "identity" in further)
)
# Fields that change the solution but not what is compressed.
RESOLVABLE = ("alpha", "nulls", "permutations")

__all__ = [
    "INPUTS",
    "METHOD",
    "RESOLVABLE",
    "Attribution",
    "Calibration",
    "Compressed",
    "Identity",
    "Paths",
    "Spend",
    "solve",
]
