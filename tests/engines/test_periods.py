"""Days, weeks and months of times: those of the calendar, in UTC, to the last microsecond, on every engine."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from causal_spark.spark.journeys import PERIOD, in_periods

TICK = timedelta(microseconds=1)
BEGINNINGS = [datetime(*day, tzinfo=UTC) for day in ((1970, 1, 1), (2024, 2, 29), (2024, 3, 1), (2024, 12, 30),
                                                     (2025, 1, 1), (2026, 1, 5), (2026, 11, 1))]  # fmt: skip
TIMES = sorted({moment + shift for moment in BEGINNINGS for shift in (TICK * 0, TICK, timedelta(hours=13))}
               | {moment - TICK for moment in BEGINNINGS[1:]})  # fmt: skip


def first_day(moment: datetime, unit: str) -> date:
    day = moment.date()
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


@pytest.mark.parametrize("unit", ["day", "week", "month"])
def test_periods_are_those_of_the_calendar(spark, unit: str) -> None:
    stamps = pa.array(TIMES, pa.timestamp("us", tz="UTC"))
    table = pa.table({"n": range(len(TIMES)), "at": stamps, "on": [moment.date() for moment in TIMES]})
    frame = spark.createDataFrame(table)
    for column in ("at", "on"):
        rows = in_periods(frame, column, unit).select("n", PERIOD).toArrow().to_pylist()
        found = {row["n"]: row[PERIOD] for row in rows}
        assert found == {n: first_day(moment, unit).isoformat() for n, moment in enumerate(TIMES)}, column
