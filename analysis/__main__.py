"""``python -m analysis``: ask a question about the results of a sweep."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING

import tyro

from analysis.frames.query import QueryError
from analysis.frames.reading import ResultsError

if TYPE_CHECKING:
    from analysis.questions.question import Question

USER_ERROR = 2
PROGRAM = "python -m analysis"
DESCRIPTION = "Ask a question about the results of a sweep, which are read from its Parquet files."
# A question is named here and imported when it is asked: most need no library for charts
QUESTIONS = {
    "summary": "analysis.questions.summary:Summary",
    "shifts": "analysis.questions.verdicts:Shifts",
    "drops": "analysis.questions.drops:Drops",
    "isolate": "analysis.questions.isolation:Isolate",
    "mechanism": "analysis.questions.mechanism:Mechanism",
    "epochs": "analysis.questions.epochs:Epochs",
    "query": "analysis.questions.query:Query",
    "reproduce": "analysis.questions.reproduce:Reproduce",
    "compare": "analysis.questions.compare:Compare",
    "companion": "analysis.questions.companion:Companion",
    "findings": "analysis.questions.findings:Findings",
    "recommend": "analysis.questions.advice:Recommend",
    "report": "analysis.questions.exports:Report",
    "table": "analysis.questions.exports:Table",
    "figure": "analysis.questions.exports:Figure",
}


def parse_question(words: Sequence[str]) -> Question:
    """Return the question that a command line asks; exit with 2 if it asks none."""
    if words and words[0] in QUESTIONS:
        options = resolve_name(QUESTIONS[words[0]])
        question: Question = tyro.cli(options, args=words[1:], prog=f"{PROGRAM} {words[0]}")
        return question
    every = {name: resolve_name(path) for name, path in QUESTIONS.items()}
    listed: Question = tyro.extras.subcommand_cli_from_dict(
        every, args=words, prog=PROGRAM, description=DESCRIPTION
    )
    return listed


def main(args: Sequence[str] | None = None) -> int:
    """Answer one question.

    Args:
        args: the command line without the program; None takes that of the process.

    Returns:
        The exit code: 0, or `USER_ERROR` after one line on the standard error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without † shows ? instead of a traceback
    code = 0
    try:
        try:
            parse_question(sys.argv[1:] if args is None else args).answer()
        except (ResultsError, QueryError) as problem:
            print(f"error: {problem}", file=sys.stderr)
            code = USER_ERROR
        finally:
            sys.stdout.flush()  # a closed pipe is noticed here, not when the interpreter exits
    except BrokenPipeError:  # the reader of the pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


if __name__ == "__main__":
    sys.exit(main())
