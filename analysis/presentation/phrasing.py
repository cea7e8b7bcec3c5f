"""How numbers, intervals and lists read in a sentence or a table: one wording for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from analysis.frames.axes import FP32

MISSING = "–"  # stands where a value is not known


def format_number(value: float | None, digits: int, missing: str = MISSING) -> str:
    """Format `value` with `digits` decimals, and never as -0.0, which would read as a gain."""
    return missing if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def format_percent(share: float | None, digits: int = 1, missing: str = MISSING) -> str:
    """Format a share as percent or as points."""
    return format_number(None if share is None else 100 * share, digits, missing)


def format_interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """Format an interval of shares in points, for instance ``4.2 to 9.2``."""
    if low is None or high is None:
        return MISSING
    return f"{format_percent(low, digits)} to {format_percent(high, digits)}"


def format_points(share: float, low: float | None = None, high: float | None = None) -> str:
    """Format a loss with its 95 % interval if it has one: ``6.6 points (95 % interval 4.2 to 9.2)``."""
    text = f"{format_percent(share)} points"
    return text if low is None else f"{text} (95 % interval {format_interval(low, high)})"


def format_bits(bits: int | None, unit: str = "") -> str:
    """Format a bit width with an optional unit; None is `FP32`."""
    return FP32 if bits is None else f"{bits}{unit}"


def count_of(number: int, noun: str) -> str:
    """Put a number before a regular noun: ``1 seed``, ``3 seeds``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def join_values(values: Iterable[Any]) -> str:
    """Join values by commas."""
    return ", ".join(map(str, values))


def capitalize(text: str) -> str:
    """Raise the first letter and leave the others, unlike `str.capitalize`."""
    return text[:1].upper() + text[1:]
