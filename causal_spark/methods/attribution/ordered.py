"""From the rows of a bucket, in any order, to the ordered events of its persons, and to their journeys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from causal_spark.methods.attribution.cutting import cut
from causal_spark.methods.attribution.journeys import Events, Journeys, Left, Rules, Whole
from causal_spark.methods.attribution.levels import Codes

Columns = Mapping[str, NDArray]
KEYS = ("p1", "p2", "t", "k", "e", "c", "y", "s")
# Bits of a sorting key that hold the person, at least.
PERSON_BITS = 22
MIX = np.uint64(0x9E3779B97F4A7C15)


class Coded(Protocol):
    """What is asked of ``spark.journeys.Coding``: all fields of rows, their times alone, and how long these reach."""

    @property
    def span(self) -> int: ...

    def read(self, columns: Columns) -> dict[str, NDArray]: ...

    def times(self, columns: Columns) -> NDArray: ...


@dataclass(frozen=True, eq=False)
class Reader:
    """How rows become events: ``codes`` of the channels, ``levels`` of the segments, ``scales`` of the amounts."""

    coding: Coded
    codes: Codes
    levels: tuple[Codes, ...]
    scales: tuple[float, ...]

    @property
    def keys(self) -> list[str]:
        """The fields that order rows, from the first to the last."""
        return [*KEYS, *(f"g{i}" for i in range(len(self.levels))), *(f"v{i}" for i in range(len(self.scales)))]

    def fields(self, columns: Columns) -> dict[str, NDArray]:
        """The fields of rows in whole numbers; of amounts those that the columns have."""
        held = self.coding.read(columns)
        held["c"] = self.codes.of(held["c"])
        for i, codes in enumerate(self.levels):
            held[f"g{i}"] = codes.of(held[f"g{i}"])
        for i, scale in enumerate(self.scales):
            if f"v{i}" in held:
                held[f"v{i}"] = np.rint(held[f"v{i}"] * scale).astype(np.int64)
        return held


def journeys_of(columns: Columns, reader: Reader, rules: Rules) -> tuple[tuple[Journeys, Journeys], Whole, Left]:
    """A bucket's rows as they come from the cluster: journeys with and without conversion, a row of each person, what
    was left out. Columns as in ``spark.journeys.Coding``."""
    order, fields = in_order(columns, reader)
    repeated = _repeated(fields) if rules.once else np.zeros(0, bool)
    if repeated.any():
        order, fields = order[~repeated], {name: values[~repeated] for name, values in fields.items()}
    new = np.concatenate([[True], _others(fields)])[: len(order)]
    person = np.cumsum(new.astype(np.int64)) - 1
    touch = fields["k"] == 0
    bought = np.flatnonzero(~touch)
    amounts = reader.fields({name: values.take(order.take(bought)) for name, values in columns.items()})
    touches = _events(fields, person, touch, rules, len(reader.levels))
    conversions = Events(person.take(bought), fields["t"].take(bought), amounts["c"], None, None,
                         _table(amounts, "g", len(reader.levels), len(bought)),
                         _table(amounts, "v", len(reader.scales), len(bought)))  # fmt: skip
    before = bought - np.arange(len(bought))
    made, censored = cut(touches, conversions, before, rules)
    return made, order[new], Left(censored, int(repeated.sum()))


def _events(fields: Columns, person: Whole, kept: NDArray[np.bool_], rules: Rules, segments: int) -> Events:
    """The touches among the rows, with what the rules look at."""
    view = fields["y"][kept] != 0 if rules.view_window != rules.window else None
    session = fields["s"][kept] if rules.session is not None else None
    time, code = fields["t"].compress(kept), fields["c"].compress(kept)
    levels = {f"g{i}": fields[f"g{i}"].compress(kept) for i in range(segments)}
    return Events(person.compress(kept), time, code, view, session, _table(levels, "g", segments, len(time)),
                  np.zeros((len(time), 0), np.int64))  # fmt: skip


def _table(columns: Columns, name: str, many: int, rows: int) -> Whole:
    """The columns name0, name1, … side by side, (rows, many)."""
    found = np.zeros((rows, many), np.int64)
    for i in range(many):
        found[:, i] = columns[f"{name}{i}"]
    return found


def _others(fields: Columns) -> NDArray[np.bool_]:
    """Which rows but the first are of another person than the row before."""
    found = fields["p1"][1:] != fields["p1"][:-1]
    if "p2" in fields:
        found |= fields["p2"][1:] != fields["p2"][:-1]
    return np.asarray(found, bool)


def _repeated(fields: Columns) -> NDArray[np.bool_]:
    """Touches, and conversions, whose id an earlier one of their person has; 0 is no id."""
    found = np.zeros(len(fields["t"]), bool)
    named = np.flatnonzero(fields["e"])
    person = np.concatenate([[0], np.cumsum(_others(fields))]).take(named)
    event, kind = fields["e"].take(named), fields["k"].take(named)
    # a sort of one number tells in a tenth of the time whether any rows need comparing
    mixed = (person * 2 + kind).view(np.uint64) * MIX ^ event.view(np.uint64)
    ordered = np.sort(mixed)
    twice = np.flatnonzero(np.isin(mixed, ordered[1:][ordered[1:] == ordered[:-1]]))
    order = twice[np.lexsort((kind[twice], event[twice], person[twice]))]  # stable: the earliest comes first
    same = np.ones(max(len(order) - 1, 0), bool)
    for values in (person, event, kind):
        same &= np.diff(values.take(order)) == 0
    found[named[order[1:][same]]] = True
    return found


def in_order(columns: Columns, reader: Reader) -> tuple[Whole, dict[str, NDArray]]:
    """The order of rows by the reader's keys, and their fields in that order, without amounts.

    Rows are sorted by one number, some bits of the person, of the time and of the row's place, which takes a tenth of
    the time of a sort by several columns. Where that number does not tell rows apart they are compared by all keys:
    equal numbers, and persons whose bits are the same.
    """
    number, low, bits = _numbers(np.asarray(columns["p1"], np.int64), reader.coding.times(columns), reader.coding.span)
    number.sort()
    order = (number & low).view(np.int64)
    number >>= np.uint64(int(low).bit_length())
    held = {name: values.take(order) for name, values in columns.items() if not name.startswith("v")}
    fields = reader.fields(held)
    tied = _tied(number, bits, _others(fields))
    if tied.any():
        rows = order[tied]
        told = reader.fields({name: values[rows] for name, values in columns.items()})
        keys = [told[name] for name in reader.keys if name in told]
        right = np.lexsort([*reversed(keys), number[tied] >> bits])
        order[tied] = rows[right]
        for name in fields:
            fields[name][tied] = told[name][right]
    return order, fields


def _numbers(p1: Whole, time: Whole, span: int) -> tuple[NDArray[np.uint64], np.uint64, np.uint64]:
    """Numbers to sort by: mixed bits of the person, bits of the time, the row; those of the row are the lowest, and as
    a mask the second of what is returned. The third is how many bits the time has."""
    place = max(len(p1) - 1, 1).bit_length()
    bits = min(span.bit_length(), 64 - place - PERSON_BITS)
    with np.errstate(over="ignore"):
        number = p1.view(np.uint64) * MIX
    number &= ~np.uint64((1 << place + bits) - 1)
    moment = time.view(np.uint64) >> np.uint64(span.bit_length() - bits)
    moment <<= np.uint64(place)
    number |= moment
    number |= np.arange(len(p1), dtype=np.uint64)
    return number, np.uint64((1 << place) - 1), np.uint64(bits)


def _tied(number: NDArray[np.uint64], bits: np.uint64, others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows, sorted by ``number``, it does not tell from their neighbours; ``others``: another person follows."""
    equal = number[1:] == number[:-1]
    tied = np.zeros(len(number), bool)
    tied[1:] |= equal
    tied[:-1] |= equal
    person = number >> bits
    alike = person[1:] == person[:-1]
    mixed = alike & others
    if mixed.any():
        run = np.concatenate([[0], np.cumsum(~alike)])
        several = np.zeros(run[-1] + 1, bool)
        several[run[1:][mixed]] = True
        tied |= several[run]
    return tied
