"""Budget: how spend answers, and how to spread it so that the last unit returns the same everywhere."""

from causal_spark.methods.budget.compressed import Compressed
from causal_spark.methods.budget.solve import solve
from causal_spark.methods.budget.vocabulary import Bound, Budget, Shift

METHOD = Budget
INPUTS = (("history",),)
# Fields that change the solution but not what is compressed.
RESOLVABLE = ("curves", "carry_over", "goal", "budget", "target", "bounds", "step", "reach", "risk", "what_if",
              "min_periods", "alpha")  # fmt: skip

__all__ = ["INPUTS", "METHOD", "RESOLVABLE", "Bound", "Budget", "Compressed", "Shift", "solve"]
