"""From the rows of a bucket, in any order, to the ordered events of its persons, and to their journeys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from causal_spark.methods.attribution.journeys import Events, Journeys, Left, Rules, Whole, cut

Columns = Mapping[str, NDArray]
KEYS = ("p1", "p2", "t", "k", "e", "c", "y", "s")
# Bits of a sorting key that hold the time, at most; the others hold the person.
TIME_BITS = 40


def from_columns(columns: Columns, rules: Rules, segments: int, amounts: int) -> tuple[Journeys, Whole, Left]:
    """A bucket's rows as they come from the cluster: journeys, a row of each person, what was left out.

    Columns as in ``spark.journeys.Coding``, amounts in whole numbers.
    """
    levels, values = [f"g{i}" for i in range(segments)], [f"v{i}" for i in range(amounts)]
    order = in_order(columns, [*KEYS, *levels, *values])
    repeated = _repeated(columns, order) if rules.once else np.zeros(len(order), bool)
    if repeated.any():
        order = order[~repeated]
    p1, p2, touch = columns["p1"][order], columns["p2"][order], columns["k"][order] == 0
    new = np.ones(len(order), bool)
    new[1:] = (p1[1:] != p1[:-1]) | (p2[1:] != p2[:-1])
    person = np.cumsum(new) - 1
    touches = _events(columns, order[touch], person[touch], levels, [])
    conversions = _events(columns, order[~touch], person[~touch], levels, values)
    before = np.cumsum(touch)[~touch]
    made, left = cut(touches, conversions, before, int(repeated.sum()), rules)
    return made, order[new], left


def _events(columns: Columns, rows: Whole, person: Whole, segments: Sequence[str], amounts: Sequence[str]) -> Events:
    time, code, view, session = (columns[name][rows] for name in ("t", "c", "y", "s"))
    return Events(person, time, code, view != 0, session, _table(columns, segments, rows),
                  _table(columns, amounts, rows))  # fmt: skip


def _table(columns: Columns, names: Sequence[str], rows: Whole) -> Whole:
    """The columns side by side, (rows, columns)."""
    found = np.zeros((len(rows), len(names)), np.int64)
    for i, name in enumerate(names):
        found[:, i] = columns[name][rows]
    return found


def _repeated(columns: Columns, order: Whole) -> NDArray[np.bool_]:
    """Touches that are equal to the one before: of one person, moment, event id, channel and kind."""
    same = np.zeros(len(order), bool)
    time = columns["t"][order]
    near = 1 + np.flatnonzero(time[1:] == time[:-1])
    rows, others = order[near], order[near - 1]
    equal = columns["k"][rows] == 0
    for name in ("p1", "p2", "k", "e", "c"):
        equal &= columns[name][rows] == columns[name][others]
    same[near] = equal
    return same


def in_order(columns: Columns, keys: Sequence[str]) -> Whole:
    """The order of rows by ``keys``, whose first are p1, p2 and t.

    Rows are sorted by one number, the upper bits of the person and of the time, which takes a fifth of the time of
    a sort by several columns. Where that number does not tell rows apart they are compared by all keys: equal
    numbers, and persons whose upper bits are the same.
    """
    p1, p2, time = (np.asarray(columns[name], np.int64) for name in ("p1", "p2", "t"))
    if not len(p1):
        return np.zeros(0, np.int64)
    low = int(time.min())
    span = (int(time.max()) - low).bit_length()
    bits = np.uint64(min(span, TIME_BITS))
    moment = (time - low).astype(np.uint64) >> np.uint64(span - int(bits))
    upper = (p1.view(np.uint64) ^ np.uint64(1 << 63)) >> bits << bits
    number = upper | moment
    order = np.argsort(number)
    number = number[order]
    person = number >> bits
    alike = person[1:] == person[:-1]
    tied = np.zeros(len(order), bool)
    equal = number[1:] == number[:-1]
    tied[1:] |= equal
    tied[:-1] |= equal
    mixed = alike & ((p1[order[1:]] != p1[order[:-1]]) | (p2[order[1:]] != p2[order[:-1]]))
    if mixed.any():
        run = np.concatenate([[0], np.cumsum(~alike)])
        several = np.zeros(run[-1] + 1, bool)
        several[run[1:][mixed]] = True
        tied |= several[run]
    rows = order[tied]
    order[tied] = rows[np.lexsort([columns[name][rows] for name in reversed(keys)])]
    return np.asarray(order)
