"""``query``: any other question, in SQL."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import tyro
from rich.console import Console

from analysis.frames.query import format_text, run_query
from analysis.frames.reading import Results
from analysis.questions.question import Count, TableQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(TableQuestion):
    """Ask the tables `cells`, `tensors` and `predictions` in SQL, for instance

    python -m analysis query results "SELECT model, bits, AVG(accuracy) AS accuracy FROM cells
    WHERE noise = 'clean' GROUP BY model, bits ORDER BY model, bits DESC"
    """

    sql: tyro.conf.Positional[str]  # a SELECT in Polars' SQL
    rows: Count = 50  # print at most N rows, without --csv

    def table(self, results: Results) -> pl.DataFrame:
        """Run the query."""
        return run_query(results, self.sql)

    def print(self, results: Results, console: Console) -> None:
        """Print the first rows of the answer."""
        console.file.write(format_text(self.table(results), console.width, self.rows) + "\n")
