"""The results of the attribution benchmark as a CSV, one line for each task of a system on one log of journeys."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

WHOLE, TEXTS = ("touches", "channels", "runs"), ("system", "task", "stages", "note")


@dataclass
class Line:
    """The best of ``runs`` of a task on ``touches`` (0: a solver by itself), or a ``note`` why there is none."""

    system: str
    task: str
    touches: int
    channels: int
    seconds: float | None = None
    touches_per_s_core: float | None = None
    runs: int = 0
    peak_mb: float | None = None
    python_mb: float | None = None
    attributed: float | None = None
    stages: str = ""
    note: str = ""

    @property
    def place(self) -> tuple[str, str, int, int]:
        return self.system, self.task, self.touches, self.channels

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.task:12} {self.note}"
        return f"{self.task:12} {self.seconds:9.3f} s  {self.peak_mb or 0:6.0f} MB  {self.stages} {self.note}"


def write(path: Path, lines: Sequence[Line]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Line)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(line) for line in lines)


def read(path: Path) -> list[Line]:
    """The lines of a table that was written here."""
    with path.open(newline="") as file:
        return [Line(**{name: _value(name, cell) for name, cell in row.items()}) for row in csv.DictReader(file)]


def _value(name: str, cell: str) -> Any:
    if name in TEXTS:
        return cell
    if name in WHOLE:
        return int(cell)
    return float(cell) if cell else None
