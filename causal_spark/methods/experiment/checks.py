"""The trust gate's findings on the input, each with its code, verdict and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from causal_spark.methods.experiment.plan import Block
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.methods.findings import Findings, percent
from causal_spark.statistics import Ranges
from causal_spark.statistics.grouped import MISSING

if TYPE_CHECKING:
    from causal_spark.spark.gate import Keys


class Checks(Findings):
    """The findings on the tables of an experiment."""

    def numbers(self, table: str, found: Ranges, planned: Sequence[Block]) -> None:
        """NULL policies, NaN, infinities, signs and 0/1 values of the metric columns."""
        for block in planned:
            metric = block.metric
            for source in metric.sources:
                column = found[source]
                if column.nulls and metric.nulls == "refuse":
                    self.add("NULL_VALUE", "stop", table, source, count=column.nulls, share=column.nulls / column.n)
                self.sign(table, source, column.low, metric)
                if metric.binary and column.low is not None and (column.low < 0 or (column.high or 0) > 1):
                    self.add("NOT_BINARY", "stop", table, source, low=column.low, high=column.high)
            for source in dict.fromkeys((*(c.source for c in block.columns), *block.metric.cupac)):
                column = found[source]
                if column.nans or math.inf in (abs(column.low or 0), abs(column.high or 0)):
                    self.add("NAN_INF", "stop", table, source, count=column.nans or math.nan)
        if not any(check.code in ("NULL_VALUE", "NAN_INF", "NEGATIVE_VALUE", "NOT_BINARY") for check in self.found):
            self.add("VALUES", "pass", table)

    def sign(self, table: str, column: str, low: float | None, metric: Metric) -> None:
        if metric.non_negative and low is not None and low < 0:
            self.add("NEGATIVE_VALUE", "stop", table, column, low=low, name=metric.name)

    def amounts(self, found: Ranges, metrics: Sequence[Metric]) -> None:
        """Event amounts: NaN, infinities, signs, and room in the fixed-point integers."""
        for metric in metrics:
            for source in metric.sources:
                if source == "*" or metric.binary:
                    continue
                column = found[source]
                if column.nans or math.inf in (abs(column.low or 0), abs(column.high or 0)):
                    self.add("NAN_INF", "stop", "events", source, count=column.nans or math.nan)
                    continue
                self.sign("events", source, column.low, metric)
                largest = max(abs(column.low or 0), abs(column.high or 0)) * metric.scale * max(column.n, 1)
                if largest >= 2.0**63:
                    self.add("OUT_OF_RANGE", "stop", "events", source, scale=metric.scale)
        if not any(check.table == "events" and check.verdict == "stop" for check in self.found):
            self.add("VALUES", "pass", "events")

    def future(self, table: str, latest: float | None, as_of: int) -> None:
        if latest is not None and latest > as_of:
            self.add("FUTURE_TS", "stop", table, days=f"{(latest - as_of) / 86.4e9:.2f}")

    def past(self, table: str, column: str, earliest: float | None) -> None:
        """Times before 1970 are placeholders, not exposures."""
        if earliest is not None and earliest < 0:
            self.add("PAST_TS", "stop", table, column)

    def duplicate_units(self, unit: str, keys: Keys) -> None:
        """A unit stands once in a unit table; units in several arms are another finding."""
        same_arm = keys.repeated - keys.in_several_groups
        if same_arm:
            self.add("DUPLICATE_UNIT", "stop", "units", unit, count=same_arm, share=same_arm / max(keys.keys, 1))
        else:
            self.add(
                "DUPLICATE_UNIT", "pass", "units", unit, count=0, looked=f"{keys.keys:,}", part=percent(keys.share)
            )

    def duplicate_events(self, event: str, keys: Keys) -> None:
        """Equal rows of one event count once; the same event with another unit cannot be told apart and stops."""
        if keys.in_several_groups:
            count = keys.in_several_groups
            self.add("EVENT_OF_TWO_UNITS", "stop", "events", event, count=count, share=count / max(keys.keys, 1))
            self.refuse()
        share = keys.repeated / max(keys.keys, 1)
        self.add(
            "DUPLICATE_EVENT", "warn" if keys.repeated else "pass", "events", event, count=keys.repeated, share=share
        )

    def split_units(self, unit: str, split: int, total: int, limit: float) -> None:
        share = split / max(total, 1)
        verdict = "pass" if split == 0 else "stop" if share > limit else "warn"
        self.add("UNIT_IN_TWO_ARMS", verdict, "", unit, count=split, share=share, threshold=limit)

    def events_before(self, before: int, events: int) -> None:
        """Events from before the first exposure, and before any covariate window, are left out and counted."""
        verdict = "warn" if before else "pass"
        self.add("EVENT_BEFORE_EXPOSURE", verdict, "events", count=before, share=before / max(events, 1))

    def arms_found(self, arm: str, counts: Mapping[str, int]) -> None:
        """Labels of the arm column when none were planned."""
        if counts.get(MISSING):
            share = counts[MISSING] / sum(counts.values())
            self.add("NULL_TREATMENT", "stop", "", arm, count=counts[MISSING], share=share)
        if len(counts) > 50:
            self.add("TOO_MANY_ARMS", "stop", "", arm, count=len(counts))
