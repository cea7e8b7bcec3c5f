"""What the questions share: options on the command line, and how a table is printed or given as CSV."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import polars as pl
import tyro
from rich.console import Console
from tyro.constructors import PrimitiveConstructorSpec

from analysis.frames.query import format_csv
from analysis.frames.reading import Results, load
from analysis.presentation.printing import new_console


def parse_count(words: list[str]) -> int:
    """Parse a number of rows or tensors.

    Raises:
        ValueError: if it is not a whole number of at least 1.
    """
    if not (words[0].isascii() and words[0].isdecimal()) or int(words[0]) < 1:
        raise ValueError(f"must be a whole number of at least 1, got {words[0]}")
    return int(words[0])


Folder = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="DIR|URI", help="the --out of the sweep, a directory or a URI"),
]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Count = Annotated[
    int,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="N",
        instance_from_str=parse_count,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
Where = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="COLUMN=VALUE ...", help="keep only the rows that meet every condition"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(ABC):
    """A question about the results of a sweep; its fields are the options of its command."""

    @abstractmethod
    def answer(self) -> None:
        """Load the results, and print or write the answer.

        Raises:
            ResultsError: if the results do not hold an answer; the text says why.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TableQuestion(Question):
    """A question whose answer is also a table: printed to be read, or as CSV."""

    results: Folder
    csv: Annotated[Switch, tyro.conf.arg(help="print CSV with every row and column")] = False

    def answer(self) -> None:
        """Print the answer, or its table as CSV."""
        results = load(self.results)
        if self.csv:
            sys.stdout.write(format_csv(self.table(results)))
        else:
            self.print(results, new_console())

    @abstractmethod
    def table(self, results: Results) -> pl.DataFrame:
        """Return the whole table."""

    @abstractmethod
    def print(self, results: Results, console: Console) -> None:
        """Print the answer to be read."""
