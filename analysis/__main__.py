"""``python -m analysis``: what a sweep found, on the command line."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from analysis.frames.query import QueryError, as_csv, as_text, run_query
from analysis.frames.reading import ResultsError, load
from analysis.presentation.exhibits import format_command
from analysis.presentation.printing import new_console
from analysis.questions.companion import companion_table, print_companion
from analysis.questions.epochs import epochs_table, print_epochs
from analysis.questions.isolation import isolated_stages, print_isolated
from analysis.questions.mechanism import mechanism, print_mechanism
from analysis.questions.reproduce import print_beside_published
from analysis.questions.summary import print_summary
from analysis.questions.verdicts import print_drops, print_verdicts
from analysis.statistics.families import Method, judged_shifts
from analysis.statistics.intervals import accuracy_drops

USER_ERROR = 2
Folder = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DIR|URI")]
DESCRIPTION = "What a sweep found, read from its Parquet."


@dataclass(frozen=True, slots=True)
class Summary:
    """Print what a sweep found: accuracy by bits, class ratio and noise, the largest shifts, failed cells.

    Works on a sweep that is still running, as far as it has come.
    """

    results: Folder  # directory or URI that was the sweep's --out
    shifts: int = 5  # tensors listed per contrast and kind

    def __post_init__(self) -> None:
        if self.shifts < 1:
            raise ValueError(f"shifts must be at least 1, got {self.shifts}: give a number of tensors")

    def run(self) -> None:
        """Print it."""
        print_summary(self.results, shifts=self.shifts)


@dataclass(frozen=True, slots=True)
class Shifts:
    """Say which activations a class ratio or noise shifts: q, D, margin and verdict of each tensor.

    Null controls come first. No p-value alone decides: a shift needs q < .05 in its family of tests, and a D
    above what redrawing the calibration set causes.
    """

    results: Folder  # directory or URI that was the sweep's --out
    method: Method = "bh"  # false discovery rate: Benjamini-Hochberg, or Benjamini-Yekutieli
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print CSV, every test

    def run(self) -> None:
        """Print it."""
        results = load(self.results)
        if self.csv:
            judged = judged_shifts(results.tensors, results.cells, self.method)
            sys.stdout.write(judged.write_csv())
        else:
            print_verdicts(results, new_console(), self.method)


@dataclass(frozen=True, slots=True)
class Drops:
    """Print the accuracy that each quantized model loses against FP32, with 95 % intervals.

    By a bootstrap over documents, and over seeds first if there are several.
    """

    results: Folder  # directory or URI that was the sweep's --out
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print CSV, every column

    def run(self) -> None:
        """Print it."""
        results = load(self.results)
        drops = accuracy_drops(results.cells, results.predictions)
        if self.csv:
            sys.stdout.write(drops.write_csv())
        else:
            print_drops(drops, new_console())


@dataclass(frozen=True, slots=True)
class Isolate:
    """Print which stage loses the accuracy, of a sweep with --isolate.

    What keeping one stage at 8 bits wins back while the rest is low, and what lowering it alone costs.
    """

    results: Folder  # directory or URI that was the sweep's --out
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print CSV, every column

    def run(self) -> None:
        """Print it."""
        results = load(self.results)
        if self.csv:
            sys.stdout.write(isolated_stages(results.cells, results.predictions).write_csv())
        else:
            print_isolated(results, new_console())


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Print where the generative model's failure comes from, each cell beside its balanced twin.

    Then, exploratory, the tensor statistics that go with the points lost over cells.
    """

    results: Folder  # directory or URI that was the sweep's --out
    rows: int = 10  # correlations listed a model
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print the cells as CSV, every column

    def run(self) -> None:
        """Print it."""
        results = load(self.results)
        if self.csv:
            sys.stdout.write(mechanism(results.cells, results.tensors).write_csv())
        else:
            print_mechanism(results, new_console(), self.rows)


@dataclass(frozen=True, slots=True)
class Epochs:
    """Print the points lost against the length of training, with the ranges of weights and activations."""

    results: Folder  # directory or URI that was the sweep's --out
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print CSV, every column

    def run(self) -> None:
        """Print it."""
        results = load(self.results)
        if self.csv:
            sys.stdout.write(epochs_table(results.cells, results.tensors).write_csv())
        else:
            print_epochs(results, new_console())


@dataclass(frozen=True, slots=True)
class Query:
    """Ask the tables `cells`, `tensors` and `predictions` in SQL, for instance

    python -m analysis query results "SELECT model, bits, AVG(accuracy) AS accuracy FROM cells
    WHERE noise = 'clean' GROUP BY model, bits ORDER BY model, bits DESC"
    """

    results: Folder  # directory or URI that was the sweep's --out
    sql: tyro.conf.Positional[str]  # a SELECT in Polars' SQL
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print CSV, all rows, lists as JSON
    rows: int = 50  # most rows printed, without --csv

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows must be at least 1, got {self.rows}: use --csv for all rows")

    def run(self) -> None:
        """Print the answer."""
        answer = run_query(load(self.results), self.sql)
        text = as_csv(answer) if self.csv else as_text(answer, new_console().width, self.rows) + "\n"
        sys.stdout.write(text)


@dataclass(frozen=True, slots=True)
class Reproduce:
    """Print our numbers beside the published ones, differences marked against our intervals.

    The paper's, and its first author's replication.
    """

    results: Folder  # directory or URI that was the sweep's --out, on ag_news

    def run(self) -> None:
        """Print them."""
        print_beside_published(load(self.results), new_console())


@dataclass(frozen=True, slots=True)
class Companion:
    """Print the companion study: models and methods, how good, fast and large, published numbers beside."""

    results: Folder  # directory or URI that was the --out of sweeps/emotion.py
    confusion: tyro.conf.FlagCreatePairsOff[bool] = False  # print the confusion matrices too
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print CSV, every column

    def run(self) -> None:
        """Print it."""
        if self.csv:
            sys.stdout.write(as_csv(companion_table(load(self.results).cells)))
        else:
            print_companion(self.results, new_console(), self.confusion)


@dataclass(frozen=True, slots=True)
class Report:
    """Write one self-contained page: figures, tables, cells to sort and filter, provenance. Opens offline."""

    results: Folder  # directory or URI that was the sweep's --out
    out: Path = Path("report.html")  # the file to write
    where: tuple[str, ...] = ()  # column=value of the table cells, any number: only that part

    def run(self) -> None:
        """Write it."""
        from analysis.page.report import write_report  # the other commands need no charts

        write_report(self.results, self.out, self.where)
        print(f"wrote {self.out}")


@dataclass(frozen=True, slots=True)
class Table:
    """Write a table for a paper, with its units, its n and the command that makes it.

    Tables: accuracy, ratios (balanced against uneven), noise, shifts, distributions, cells, controls,
    failures.
    """

    results: Folder  # directory or URI that was the sweep's --out
    name: tyro.conf.Positional[str]  # which table
    format: Literal["markdown", "latex", "csv"] = "markdown"  # latex needs the package booktabs
    where: tuple[str, ...] = ()  # column=value, any number: only those rows

    def run(self) -> None:
        """Print it."""
        from analysis.presentation.exhibits import filter_rows
        from analysis.presentation.exports import build_exhibit, format_table

        found = build_exhibit(load(self.results), self.name)
        rows = filter_rows(found.rows, self.where)
        kept = f"; {len(rows)} rows shown" if self.where else ""
        found = replace(found, rows=rows, n=found.n + kept)
        sys.stdout.write(
            format_table(
                found,
                self.format,
                format_command(["table", self.results, self.name, "--format", self.format], self.where),
            )
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """Draw a figure of one setting: accuracy, ratios (balanced or uneven), noise, shifts, distributions."""

    results: Folder  # directory or URI that was the sweep's --out
    name: tyro.conf.Positional[str]  # which figure
    out: Path  # a .svg or .png
    where: tuple[str, ...] = ()  # column=value, any number; other controls take their first value

    def run(self) -> None:
        """Draw it, and say what it holds fixed."""
        from analysis.presentation.exports import write_figure

        print(f"wrote {self.out}: {write_figure(load(self.results), self.name, self.where, self.out)}")


@dataclass(frozen=True, slots=True)
class Findings:
    """Hold the paper's four findings against a sweep: verdicts by stated rules, with their evidence."""

    results: Folder  # directory or URI that was the sweep's --out
    out: Path = Path("findings.md")  # the Markdown file to write

    def run(self) -> None:
        """Write it."""
        from analysis.questions.findings import write_findings

        write_findings(self.results, self.out)
        print(f"wrote {self.out}")


@dataclass(frozen=True, slots=True)
class Recommend:
    """Name the smallest configuration whose loss is shown to stay within a bound, with its evidence.

    Then the runners-up, and what to avoid. 95 % confidence over all that was tried: see docs/answers.md.
    """

    results: Folder  # directory or URI that was the sweep's --out
    max_drop: float = 1.0  # points of accuracy that may be lost against FP32
    max_bytes: int | None = None  # largest model, bytes; None: any
    noise: float | None = None  # share of letters mistyped under which it has to hold, too, as 0.1
    where: tuple[str, ...] = ()  # column=value, any number: only those configurations are candidates
    rows: int = 5  # runners-up, and configurations to avoid, that are listed
    csv: tyro.conf.FlagCreatePairsOff[bool] = False  # print CSV, every configuration and its cells

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows must be at least 1, got {self.rows}: use --csv for all configurations")

    def run(self) -> None:
        """Print it."""
        from analysis.questions.advice import all_rows, print_advice
        from analysis.questions.recommend import recommend, wish_of

        wish = wish_of(self.max_drop, self.max_bytes, self.noise)
        advice = recommend(load(self.results), wish, self.where)
        if self.csv:
            sys.stdout.write(all_rows(advice).write_csv())
            return
        limits = [] if self.max_bytes is None else ["--max-bytes", str(self.max_bytes)]
        limits += [] if self.noise is None else ["--noise", f"{self.noise:g}"]
        words: list[str | Path] = ["recommend", self.results, "--max-drop", f"{self.max_drop:g}", *limits]
        print_advice(advice, new_console(), format_command(words, self.where), self.rows)


@dataclass(frozen=True, slots=True)
class Compare:
    """Hold two results directories side by side: accuracy, points lost, shifts, speed, what one alone has.

    For a changed version, or another corpus (matched by configuration, and said so). B - A throughout.
    """

    first: Folder  # A: directory or URI that was a sweep's --out
    second: Folder  # B: another
    table: str | None = None  # accuracy, shifts, speed or only; None: all
    format: Literal["text", "markdown", "latex", "csv"] = "text"
    rows: int = 20  # most rows of a table printed as text; the other formats have all

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows must be at least 1, got {self.rows}: use --format csv for all")

    def run(self) -> None:
        """Print it."""
        from analysis.presentation.exports import format_table
        from analysis.questions.compare import chosen_tables, compare, print_comparison

        found = compare(self.first, self.second)
        words: list[str | Path] = ["compare", self.first, self.second]
        if self.format == "text":
            print_comparison(found, self.table, new_console(), format_command(words), self.rows)
            return
        for exhibit in chosen_tables(found, self.table):
            made_by = format_command([*words, "--table", exhibit.name, "--format", self.format])
            sys.stdout.write(format_table(exhibit, self.format, made_by))


Command = (
    Annotated[Summary, tyro.conf.subcommand("summary")]
    | Annotated[Shifts, tyro.conf.subcommand("shifts")]
    | Annotated[Drops, tyro.conf.subcommand("drops")]
    | Annotated[Isolate, tyro.conf.subcommand("isolate")]
    | Annotated[Mechanism, tyro.conf.subcommand("mechanism")]
    | Annotated[Epochs, tyro.conf.subcommand("epochs")]
    | Annotated[Query, tyro.conf.subcommand("query")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Companion, tyro.conf.subcommand("companion")]
    | Annotated[Findings, tyro.conf.subcommand("findings")]
    | Annotated[Recommend, tyro.conf.subcommand("recommend")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Table, tyro.conf.subcommand("table")]
    | Annotated[Figure, tyro.conf.subcommand("figure")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: the command line without the program; None takes that of the process.

    Returns:
        The exit code: 0, or `USER_ERROR` after one line on the standard error.
    """
    chosen: Command = tyro.cli(Command, args=args, prog="python -m analysis", description=DESCRIPTION)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without † shows ? instead of a traceback
    try:
        chosen.run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, head for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ResultsError, QueryError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
