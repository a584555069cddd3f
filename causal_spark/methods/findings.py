"""What the trust gate found: each finding with its code, verdict and a sentence; a stop ends the job."""

from __future__ import annotations

import math

from causal_spark.errors import GateError, Texts
from causal_spark.results import Check
from causal_spark.statistics import Ranges
from causal_spark.words import LANGUAGES, say


class Findings:
    """Collects findings; ``refuse`` ends the job if one of them is a stop."""

    def __init__(self, language: str = "en") -> None:
        self.language = language
        self.found: list[Check] = []
        self._stops: list[tuple[str, str, dict[str, object]]] = []

    def add(self, code: str, verdict: str, table: str = "", column: str = "", *, count: float = math.nan,
            share: float = math.nan, threshold: float = math.nan, **values: object) -> None:  # fmt: skip
        """Record a finding with the sentence ``check_<code>``, or ``check_<code>_pass`` if it passed."""
        key = f"check_{code.lower()}" + ("_pass" if verdict == "pass" else "")
        numbers = {"count": shown(count), "share": percent(share), "threshold": percent(threshold)}
        every = {"table": table, "column": column, **numbers, **values}
        message = say(key, self.language, **every)
        if verdict == "stop":
            self._stops.append((code, key, every))
        self.found.append(Check(code, verdict, message, table, column, count, share, threshold))

    def refuse(self) -> None:
        """Raise GateError with the first two sentences of what stops the job, in every language."""
        stops = self._stops
        if not stops:
            return
        more = f" (+{len(stops) - 2})" if len(stops) > 2 else ""
        texts = Texts(
            (language, " ".join(f"{code}: {say(key, language, **values)}" for code, key, values in stops[:2]) + more)
            for language in LANGUAGES
        )
        error = GateError("gate_refused", findings=texts)
        error.add_note("\n".join(code for code, _, _ in stops))
        raise error

    def empty(self, table: str, rows: int) -> None:
        if rows == 0:
            self.add("EMPTY_TABLE", "stop", table, count=0)
            self.refuse()

    def null_keys(self, table: str, found: Ranges, key: str, *others: str | None) -> None:
        """``key`` and ``others`` (the arm or None, then time and cluster) must be there in every row."""
        for column in (key, *(name for name in others if name)):
            code = "NULL_TREATMENT" if column == others[0] else "NULL_KEY"
            if found[column].nulls:
                self.add(code, "stop", table, column, count=found[column].nulls,
                         share=found[column].nulls / found[column].n)  # fmt: skip
        if not any(found[name].nulls for name in (key, *others) if name):
            self.add("NULL_KEY", "pass", table, key, count=0)


def shown(count: float) -> str:
    """A count for a sentence; ? where it is not known."""
    return "?" if math.isnan(count) else f"{count:,.0f}"


def percent(share: float) -> str:
    """A share for a sentence; ? where it is not known."""
    return "?" if math.isnan(share) else f"{share:.3%}" if share < 0.01 else f"{share:.1%}"
