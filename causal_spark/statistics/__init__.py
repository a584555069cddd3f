"""What survives a pass over the data: small statistics, numpy only, whose ``+`` merges disjoint parts."""

from causal_spark.statistics.counts import Counts
from causal_spark.statistics.grouped import Grouped
from causal_spark.statistics.moments import Moments
from causal_spark.statistics.ranges import Range, Ranges
from causal_spark.statistics.sums import Sums

__all__ = ["Counts", "Grouped", "Moments", "Range", "Ranges", "Sums"]
