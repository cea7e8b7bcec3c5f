"""Exceptions as text: in one line for a row, and in full for a log."""

from __future__ import annotations

import traceback


def describe_problem(problem: BaseException) -> str:
    """Describe an exception in one line: its type, its text, and where it was raised."""
    text = " ".join(str(problem).split())
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(problem).__name__}: {text}{place}"


def format_traceback(problem: BaseException) -> str:
    """Format the full traceback of an exception and of its causes."""
    return "".join(traceback.format_exception(problem))
