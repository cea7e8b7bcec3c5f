"""Narrow results that are too large for a page to a part, selected by a stated rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from analysis.frames.axes import KEYS, label_of
from analysis.frames.reading import Results, ResultsError

PAGE_CELLS = 10_000  # a browser would not open a page of more
FREE = ("seed", "noise_level", "class_ratio", "algorithm")  # narrowed last, and only if necessary
RULE = (
    "setting by setting, in the order of the columns, the value with the most cells, until at most "
    f"{PAGE_CELLS:,} are left"
)


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the results that a page shows.

    Attributes:
        results: the part, with its cells and tensors in memory.
        cells: the number of cells of the whole results.
        kept: the number of cells of the part.
        fixed: the value that the part holds fixed, by column.
        asked: whether the user asked for this part.
    """

    results: Results
    cells: int
    kept: int
    fixed: dict[str, str]
    asked: bool

    @property
    def sentence(self) -> str:
        """A sentence on the omitted cells and how to see them; empty if the page shows all cells."""
        if self.kept == self.cells:
            return ""
        where = ", ".join(f"{label_of(name)} {value}" for name, value in self.fixed.items())
        how = "as asked" if self.asked and len(self.fixed) else f"by rule: {RULE}"
        return (
            f"This page shows {self.kept:,} of {self.cells:,} cells ({how}): {where}. Another part: report "
            "--where column=value; any number over all of them: query."
        )


def select_part(results: Results, where: Sequence[str] = (), limit: int = PAGE_CELLS) -> Part:
    """Select the part of `results` that a page shows: all of it, if it is small enough.

    Args:
        results: the results of a sweep.
        where: conditions ``column=value`` on the table `cells`; FP32 cells, which have no recipe, are kept.
        limit: the largest number of cells.

    Raises:
        ResultsError: if a condition has no ``=``, names no column, or leaves no cell.
    """
    total = int(results.cells.select(pl.len()).collect().item())
    if total <= limit and not where:
        return Part(results, total, total, {}, False)
    names = dict.fromkeys((*KEYS, *FREE, *(word.partition("=")[0] for word in where)))
    schema = results.cells.collect_schema()
    for word in where:
        name, mark, _ = word.partition("=")
        if not mark or name not in schema or schema[name].is_nested():
            raise ResultsError(
                f"--where {word} cannot be met: write column=value, the columns are {', '.join(schema)}"
            )
    cells = results.cells.select("cell_id", *names).collect()
    fixed = {}
    for word in where:
        name, _, value = word.partition("=")
        text = pl.col(name).cast(pl.String)
        if cells.filter(text == value).is_empty():
            values = ", ".join(cells[name].drop_nulls().unique().sort().cast(pl.String)[:20])
            raise ResultsError(f"--where {word} leaves no cell: {name} is one of {values}")
        cells, fixed[name] = cells.filter((text == value) | text.is_null()), value
    asked = bool(where)
    for name in (*KEYS, *FREE):
        if len(cells) <= limit:
            break
        counts = cells.drop_nulls(name).group_by(name).len().sort("len", name, descending=[True, False])
        if len(counts) < 2:
            continue
        value = counts[name][0]
        cells = cells.filter((pl.col(name) == value) | pl.col(name).is_null())
        fixed[name] = str(value)
        asked = False
    if len(cells) > limit:
        cells = cells.sort("cell_id").head(limit)
        fixed["cell_id"] = "the first ones"
    ids = cells["cell_id"]
    ours = pl.col("cell_id").is_in(ids.implode())
    own = replace(
        results,
        cells=results.cells.filter(ours).collect().lazy(),
        tensors=results.tensors.filter(ours).collect(engine="streaming").lazy(),
        predictions=results.predictions.filter(ours),
    )
    return Part(own, total, len(ids), fixed, asked)
