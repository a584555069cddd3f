"""Design: how many units and days an experiment needs, who gets what, and whether the metric can be trusted."""

from causal_spark.methods.design.compressed import Compressed
from causal_spark.methods.design.solve import solve
from causal_spark.methods.design.vocabulary import Assign, Design, Layers, Rerandomize, Splits

METHOD = Design
# What the job reads: one row for each unit, or one for each unit and day.
INPUTS = (("units",), ("days",))
# Fields that change the solution but not what is compressed.
RESOLVABLE = ("lifts", "effects", "sizes", "days", "traffic", "recent_days", "alpha", "margin_alpha", "power",
              "alternative", "proportions")  # fmt: skip

__all__ = [
    "INPUTS",
    "METHOD",
    "RESOLVABLE",
    "Assign",
    "Compressed",
    "Design",
    "Layers",
    "Rerandomize",
    "Splits",
    "solve",
]
