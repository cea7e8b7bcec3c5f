"""What went wrong, in one line of a row."""

from __future__ import annotations

import traceback


def describe_problem(problem: BaseException) -> str:
    """One line: the type of an exception, its text, and where it came from."""
    text = " ".join(str(problem).split())
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(problem).__name__}: {text}{place}"
