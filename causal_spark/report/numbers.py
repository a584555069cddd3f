"""Numbers for people: sensible digits, thousands separators, no NaN, no p-value of zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

DASH = "\u2014"
MINUS = "\u2212"
INFINITY = "\u221e"
SMALLEST_P = 1e-300
_SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


def as_float(value: object) -> float:
    """Any cell to a float; what is not a number becomes NaN."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def places_for(scale: float, significant: int = 2) -> int:
    """Digits after the point that show ``scale`` with so many significant digits (0 to 8)."""
    if not math.isfinite(scale) or scale == 0:
        return significant
    return min(8, max(0, significant - 1 - math.floor(math.log10(abs(scale)))))


def plain(value: object, places: int | None = None, signed: bool = False) -> str:
    """``1234.5678`` to ``1,234.57``; very large and very small numbers as ``1.23 × 10⁻⁹``; NaN as a dash."""
    number = as_float(value)
    if math.isnan(number):
        return DASH
    sign = MINUS if number < 0 else "+" if signed and number > 0 else ""
    size = abs(number)
    if math.isinf(size):
        return sign + INFINITY
    if size >= 1e12 or 0 < size < 1e-6:
        return sign + _scientific(size)
    if places is None:
        places = places_for(size, 3) if size else 0
    text = f"{size:,.{places}f}"
    if sign and not any(digit in text for digit in "123456789"):
        sign = ""
    return sign + text


def _scientific(size: float) -> str:
    mantissa, exponent = f"{size:.2e}".split("e")
    return f"{mantissa} \u00d7 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def percent(value: object, places: int | None = None, signed: bool = False) -> str:
    """A fraction as a percentage: ``0.0321`` to ``3.21%``."""
    text = plain(as_float(value) * 100, places, signed)
    return text if text == DASH or text.endswith(INFINITY) else text + "%"


def points(value: object, places: int | None = None, signed: bool = False) -> str:
    """A difference of two fractions, times one hundred, without the unit (percentage points)."""
    return plain(as_float(value) * 100, places, signed)


def short(value: object) -> str:
    """A limit or a setting: at most four digits, no zeros at the end."""
    text = plain(value)
    return text.rstrip("0").rstrip(".") if "." in text and "\u00d7" not in text else text


def count(value: object) -> str:
    """A whole number with thousands separators; a dash for what is missing."""
    number = as_float(value)
    return plain(number, 0 if abs(number) < 1e12 else None)


def p_value(value: object, places: int | None = None) -> str:
    """``0.0312``; below a thousandth ``< 0.001``; what underflowed ``< 1e-300``; never 0, never 1 for 'unknown'.

    ``places``: digits of a column that keeps to them.
    """
    number = as_float(value)
    if math.isnan(number):
        return DASH
    if number < SMALLEST_P:
        return "< 1e-300"
    if number < 0.001:
        return "< 0.001"
    if number > 0.999:
        return "> 0.999"
    return f"{number:.{places or (4 if number < 0.1 else 3)}f}"


Formatter = Callable[[object, "int | None", bool], str]
FORMATTERS: dict[str, Formatter] = {"number": plain, "percent": percent, "points": points}


def interval_places(estimate: float, low: float, high: float, unit: str) -> int | None:
    """Digits after the point for an estimate and its interval together: the half width shows two digits."""
    factor = 1.0 if unit == "number" else 100.0
    halves = [abs(estimate - end) * factor for end in (low, high) if math.isfinite(end)]
    halves = [half for half in halves if half > 0]
    return places_for(min(halves)) if halves else None


def column_places(spans: Iterable[tuple[float, float, float]], unit: str) -> int | None:
    """Digits for a whole column of (estimate, low, high): those of its finest line, but more than two only if all
    lines need them."""
    each = [places for places in (interval_places(*span, unit) for span in spans) if places is not None]
    return max((places for places in each if places <= max(2, min(each))), default=None)


def at_least(places: int | None, least: int | None) -> int | None:
    """The digits of a line in a column that has ``least``."""
    known = [some for some in (places, least) if some is not None]
    return max(known, default=None)


def interval(low: float, high: float, unit: str, places: int | None) -> str:
    """``[+1.1%, +5.3%]``; an end that is open is written ``(−∞``; a missing interval is empty."""
    if math.isnan(low) or math.isnan(high):
        return ""
    show = FORMATTERS[unit]
    opening, closing = "(" if math.isinf(low) else "[", ")" if math.isinf(high) else "]"
    return f"{opening}{show(low, places, True)},\u00a0{show(high, places, True)}{closing}"


def seconds(value: object) -> str:
    """Seconds as ``0.83``, ``12.4`` or ``1,234``."""
    number = as_float(value)
    return plain(number, 2 if number < 1 else 1 if number < 100 else 0)
