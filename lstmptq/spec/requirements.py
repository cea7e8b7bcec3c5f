"""Checks of values: each raises a ValueError that says which value came and which are allowed."""

from __future__ import annotations

from typing import Any

LOWEST_BITS, HIGHEST_BITS = 2, 8


def require_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def require_at_least(name: str, value: int | None, least: int) -> None:
    """Raise ValueError if a given (not None) `value` is no int, or below `least`."""
    if value is None:
        return
    _require_int(name, value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _require_int(name: str, value: Any) -> None:
    """Refuse 8.0 and True, which equal 8 and 1 but have another JSON: a cell would get two names."""
    if type(value) is not int:
        raise ValueError(f"{name} must be an int, got {value!r} ({type(value).__name__}): use int(...)")


def require_axis(name: str, values: tuple[Any, ...]) -> None:
    """Raise ValueError unless an axis has values, each of them once."""
    if not values:
        raise ValueError(f"{name} must have at least one value, got none")
    if len(set(values)) != len(values):
        raise ValueError(f"{name} must not repeat a value, got {values}")


def require_bits(name: str, bits: int) -> None:
    """Raise ValueError unless `bits` is a width the quantizers take."""
    _require_int(name, bits)
    if not LOWEST_BITS <= bits <= HIGHEST_BITS:
        raise ValueError(
            f"{name} must be in {LOWEST_BITS}..{HIGHEST_BITS} or null, got {bits}: "
            "use null (fp32 on the command line) for the FP32 baseline"
        )
