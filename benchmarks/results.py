"""The results as a CSV, one line for each cell, with the machine and versions beside it as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.lanes import Figure, Lane

TEXTS = ("lane", "table", "layout", "system", "cell", "form", "stages", "note")
WHOLE = ("rows", "metrics", "repetitions")


@dataclass
class Line(Figure):
    """A figure with its ratios to others of the same lane, in seconds."""

    to_floor: float | None = None
    to_duckdb: float | None = None
    to_hand: float | None = None


class Results:
    """The figures so far, kept in ``path`` as they come; ``resume`` starts from what is there."""

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        self.figures: list[Line] = _read(path) if resume and path.exists() else []
        beside = path.with_suffix(".json")
        self.facts: dict[str, Any] = json.loads(beside.read_text()) if resume and beside.exists() else {}

    @classmethod
    def load(cls, path: Path) -> Results:
        """The results of a finished run."""
        return cls(path, resume=True)

    def has(self, lane: Lane) -> bool:
        """Whether the lane was measured, and nothing in it failed."""
        mine = [one for one in self.figures if _place(one) == (lane.name, lane.table, lane.rows, lane.metrics)]
        return bool(mine) and not any(one.note.startswith("failed") for one in mine)

    def append(self, found: Iterable[Figure]) -> None:
        """Add the figures of a lane in place of older ones, and write the file."""
        new = [Line(**asdict(one)) for one in found]
        cells = {_cell(one) for one in new}
        self.figures = [one for one in self.figures if _cell(one) not in cells] + new
        _write(self.path, self.figures)

    def finish(self, lines: Sequence[Line], minutes: float) -> None:
        """The figures with their ratios, and the facts; minutes of interrupted runs add up."""
        self.figures = list(lines)
        before = float(self.facts.get("minutes", 0.0))
        self.facts = {**machine.facts(), "date": machine.today(), "minutes": round(before + minutes, 1)}
        _write(self.path, self.figures)
        self.path.with_suffix(".json").write_text(json.dumps(self.facts, indent=1) + "\n")


def with_ratios(found: Sequence[Line]) -> list[Line]:
    """Each line's seconds over the floor of its system, the best of DuckDB and the best query by hand, in its lane."""
    for one in found:
        if one.seconds is None or one.cell == "floor":
            continue
        same = [other for other in found if _place(other) == _place(one) and other.seconds]
        own = [other for other in same if other.system == one.system]
        layout = [other for other in same if other.layout == one.layout]
        one.to_floor = _ratio(one, [other for other in own if other.cell == "floor"])
        one.to_duckdb = _ratio(one, [x for x in layout if x.system == "duckdb" and x.cell == "aggregates"])
        one.to_hand = _ratio(one, [x for x in layout if x.system == one.system and x.cell == "hand"])
    return list(found)


def _ratio(one: Line, others: Sequence[Line]) -> float | None:
    best = min((other.seconds for other in others if other.seconds), default=None)
    return None if best is None or one.seconds is None else round(one.seconds / best, 3)


def _place(one: Figure) -> tuple[str, str, int, int]:
    return one.lane, one.table, one.rows, one.metrics


def _cell(one: Figure) -> tuple[object, ...]:
    return (*_place(one), one.system, one.cell, one.layout, one.form)


def _write(path: Path, lines: Sequence[Line]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Line)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(line) for line in lines)


def _read(path: Path) -> list[Line]:
    with path.open(newline="") as file:
        return [Line(**{name: _value(name, text) for name, text in row.items()}) for row in csv.DictReader(file)]


def _value(name: str, text: str) -> Any:
    if name in TEXTS:
        return text
    if name in WHOLE:
        return int(text)
    return float(text) if text else None
