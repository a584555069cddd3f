"""How long each set of channels was at work, and what came in that time: the statistic of the additive hazard."""

from __future__ import annotations

import numpy as np

from causal_spark.methods.attribution.journeys import WHOLE, Journeys
from causal_spark.solve import positions
from causal_spark.statistics.cells import Whole

SECOND = 1_000_000


def intervals(some: Journeys, window: int, as_of: int) -> tuple[Whole, None, Whole]:
    """For each touch: the channels met so far as bits, and (as of ``Entries``) what the time to the next touch adds.

    That is conversions, whole seconds (begun ones count, so that no time is 0), amounts. The time after the last
    touch ends with the conversion; without one when the ``window`` does, or the data at ``as_of`` (microseconds). A
    journey that counts in part counts in part of its time.
    """
    new = positions.distinct(some.starts, some.codes)[0]
    bits = np.cumsum(np.where(new, np.left_shift(np.int64(1), some.codes), 0))
    before = np.concatenate([[0], bits])[some.starts[:-1]]
    last = some.starts[1:] - 1
    follow = np.where(some.conversions > 0, 0, np.clip(as_of - some.ends, 0, window))
    ages = some.ages
    after = np.append(ages[1:], 0)
    after[last] = -follow
    seconds = (ages - after) // SECOND + 1
    share = np.where(some.conversions > 0, WHOLE, some.nulls)[some.journey]
    amounts = np.zeros((len(share), 2 + some.amounts.shape[1]), np.int64)
    amounts[:, 1] = np.where(share == WHOLE, seconds, seconds * share // WHOLE)
    amounts[last, 0] = some.conversions
    amounts[last, 2:] = some.amounts
    return bits - before[some.journey], None, amounts
