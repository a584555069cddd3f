"""From metrics to the columns and moments they need; the same plan reads the moments again when solving."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.solve.means import Form

# The block without columns that counts all units.
ROWS = "(units)"
SIZE = "(size)"
# The segment of all units.
EVERYONE = "all"
# Stretches of days whose covariance is asked for: at most so many.
STRETCHES = 5


@dataclass(frozen=True)
class Column:
    """A prepared column of the unit table: ``source`` under a NULL policy, capped at a pooled percentile."""

    source: str
    nulls: str
    winsorize: float | None = None

    @property
    def name(self) -> str:
        cap = "" if self.winsorize is None else f" ≤ p{self.winsorize:g}"
        return f"{self.source} [{self.nulls}]{cap}"


@dataclass(frozen=True)
class Part:
    """One form of a block by its columns: a mean, or a ratio of two means."""

    label: str
    numerator: Column
    denominator: Column | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)


@dataclass(frozen=True)
class Block:
    """A metric (the first part) with its covariates (the rest)."""

    metric: Metric
    parts: tuple[Part, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(dict.fromkeys(column for part in self.parts for column in part.columns))

    def forms(self, clustered: bool) -> tuple[Form, ...]:
        """The forms on the compressed columns; of clusters every mean is a ratio of totals to the cluster's size."""
        if not clustered:
            return tuple(
                Form(part.numerator.name, None if part.denominator is None else part.denominator.name)
                for part in self.parts
            )
        return tuple(
            Form(
                self.total(part.numerator),
                self.size if part.denominator is None else self.total(part.denominator),
            )
            for part in self.parts
        )

    def stretch_form(self, stretch: int) -> Form:
        """The metric's form on the totals of clusters over one stretch of the periods of a switchback."""
        form = self.forms(True)[0]
        assert form.denominator is not None
        return Form(in_stretch(form.numerator, stretch), in_stretch(form.denominator, stretch))

    def day_forms(self) -> tuple[Form, ...]:
        """The forms on the columns of a single day, which are neither capped nor ever NULL."""
        part = self.parts[0]
        return (Form(part.numerator.source, None if part.denominator is None else part.denominator.source),)

    def total(self, column: Column) -> str:
        """Name of the cluster total of a column over the units that are complete in this block."""
        return f"{self.metric.name}: {column.name}"

    @property
    def size(self) -> str:
        return f"{self.metric.name}: {SIZE}"


def in_stretch(name: str, stretch: int) -> str:
    """Name of a column, or of its total, over one stretch of the periods of a switchback."""
    return f"{name} (stretch {stretch})"


def block(metric: Metric) -> Block:
    """The block of a metric on a unit table. Covariates take part under the same cap; their NULLs are 0."""
    sources = metric.sources
    outcome = Part(
        metric.name,
        Column(sources[0], metric.nulls, metric.winsorize),
        Column(sources[1], metric.nulls, metric.winsorize) if metric.kind == "ratio" else None,
    )
    covariates = []
    for item in metric.covariates:
        if isinstance(item, str):
            covariates.append(Part(item, Column(item, "zero", metric.winsorize)))
        else:
            top = Column(item.numerator, "zero", metric.winsorize)
            bottom = Column(item.denominator, "zero", metric.winsorize)
            covariates.append(Part(f"{item.numerator} / {item.denominator}", top, bottom))
    return Block(metric, (outcome, *covariates))


def blocks(metrics: Iterable[Metric]) -> tuple[Block, ...]:
    return tuple(block(metric) for metric in metrics)


def stretches(days: int) -> list[tuple[int, int]]:
    """``days`` since exposure in at most five stretches of as many whole days; days after the last are left out."""
    width = -(-days // STRETCHES)
    return [(start, start + width) for start in range(0, days - width + 1, width)]


def segment(column: str, level: str) -> str:
    """How a segment is called in every table."""
    return f"{column}={level}"
