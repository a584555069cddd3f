"""Equal paths of a bucket counted, as texts of their codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causal_spark.methods.attribution.journeys import Journeys, offsets, ranges
from causal_spark.methods.attribution.weights import hashed_words
from causal_spark.solve import positions
from causal_spark.statistics.cells import Cells, Texts, Whole

# What follows so many touches is cut from the text.
SHOWN = 50
CUT = "+"


def counted(journeys: Journeys, tokens: int) -> Cells:
    """The paths with their conversions, nulls and amounts; a text holds the codes, and + for what was cut."""
    some = journeys.chosen(journeys.sizes > 0)
    hashes = _hash(some)
    order = np.argsort(hashes)
    new = np.ones(len(order), bool)
    new[1:] = hashes[order[1:]] != hashes[order[:-1]]
    first = np.flatnonzero(new)
    whole = np.column_stack([some.conversions, some.nulls, some.amounts])
    base = np.zeros((len(first), whole.shape[1]), np.int64)
    for column in range(whole.shape[1] if len(first) else 0):
        base[:, column] = np.add.reduceat(whole[order, column], first)
    zeros = np.zeros(len(first), np.int64)
    return Cells("path", zeros, zeros, base, np.zeros((len(first), 0), np.int64), _texts(some, order[first], tokens))


def plain(text: str) -> str:
    """A path as it stands in the statistics: codes without leading zeros."""
    return " ".join(step if step == CUT else str(int(step)) for step in text.split())


def _hash(some: Journeys) -> NDArray[np.uint64]:
    """A hash of each journey's channels in their order."""
    place = positions.places(some.starts)[1]
    if not len(place):
        return np.zeros(0, np.uint64)
    mixed = hashed_words(some.codes + (place << 32), 1)[:, 0]
    return np.asarray(np.add.reduceat(mixed, some.starts[:-1]), np.uint64)


def _texts(some: Journeys, chosen: Whole, tokens: int) -> Texts:
    """The codes of the ``chosen`` journeys, each with as many digits, and a blank after each."""
    digits = len(str(max(tokens - 1, 0)))
    names = [f"{code:0{digits}d} " for code in range(tokens)] + [CUT.ljust(digits + 1)]
    letters = np.frombuffer("".join(names).encode("ascii"), np.uint8).reshape(tokens + 1, digits + 1)
    begin, size = some.starts[chosen], some.sizes[chosen]
    shown = np.minimum(size, SHOWN)
    starts = offsets(shown + (size > SHOWN))
    steps = np.full(int(starts[-1]), tokens, np.int64)
    last = starts[1:][size > SHOWN] - 1
    told = np.ones(len(steps), bool)
    told[last] = False
    steps[told] = some.codes[ranges(begin, begin + shown)[1]]
    return Texts(letters[steps].ravel(), starts * (digits + 1))
