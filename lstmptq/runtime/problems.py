"""What went wrong: in one line, for a row, and in full, for its log."""

from __future__ import annotations

import traceback


def describe_problem(problem: BaseException) -> str:
    """One line: the type of an exception, its text, and where it came from."""
    text = " ".join(str(problem).split())
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(problem).__name__}: {text}{place}"


def format_traceback(problem: BaseException) -> str:
    """Many lines: where an exception came from, and those that it was raised from."""
    return "".join(traceback.format_exception(problem))
