"""Portfolio: what each of many experiments added to one metric, what to scale and what to stop."""

from causal_spark.methods.portfolio.compressed import Compressed
from causal_spark.methods.portfolio.solve import solve
from causal_spark.methods.portfolio.vocabulary import Portfolio, Reach

METHOD = Portfolio
INPUTS = (("estimates",), ("estimates", "reach"))
# Fields that change the solution but not what is compressed.
RESOLVABLE = ("methods", "better", "centre", "alpha")

__all__ = ["INPUTS", "METHOD", "RESOLVABLE", "Compressed", "Portfolio", "Reach", "solve"]
