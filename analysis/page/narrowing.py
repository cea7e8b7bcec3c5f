"""What a page can hold: of results too large for it a part, chosen by a stated rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from analysis.frames.reading import Results, ResultsError
from analysis.frames.settings import KEYS, label_of

PAGE_CELLS = 10_000  # a page of more would not open in a browser
FREE = ("seed", "noise_level", "class_ratio", "algorithm")  # narrowed last, and only if they must be
RULE = (
    "setting by setting, in the order of the columns, the value with the most cells, until at most "
    f"{PAGE_CELLS:,} are left"
)


@dataclass(frozen=True, slots=True)
class Part:
    """What a page is about.

    Attributes:
        results: that part, its cells and tensors in memory.
        cells: of the whole.
        kept: of the part.
        fixed: what the part holds fixed, by column.
        asked: whether it was asked for.
    """

    results: Results
    cells: int
    kept: int
    fixed: dict[str, str]
    asked: bool

    @property
    def sentence(self) -> str:
        """What is left out, and how to see it; empty if nothing is."""
        if self.kept == self.cells:
            return ""
        where = ", ".join(f"{label_of(name)} {value}" for name, value in self.fixed.items())
        how = "as asked" if self.asked and len(self.fixed) else f"by rule: {RULE}"
        return (
            f"This page shows {self.kept:,} of {self.cells:,} cells ({how}): {where}. Another part: report "
            "--where column=value; any number over all of them: query."
        )


def select_part(results: Results, where: Sequence[str] = (), limit: int = PAGE_CELLS) -> Part:
    """The part of `results` that a page shows: all of it, if it is small enough.

    Args:
        results: of a sweep.
        where: ``column=value`` of the table `cells`: only those (FP32 cells, which have no recipe, stay).
        limit: most cells.

    Raises:
        ResultsError: if a condition has no ``=``, names no column, or leaves no cell.
    """
    total = int(results.cells.select(pl.len()).collect().item())
    if total <= limit and not where:
        return Part(results, total, total, {}, False)
    names = dict.fromkeys((*KEYS, *FREE, *(word.partition("=")[0] for word in where)))
    known = results.cells.collect_schema().names()
    for word in where:
        name, mark, _ = word.partition("=")
        if not mark or name not in known or results.cells.collect_schema()[name].is_nested():
            raise ResultsError(
                f"--where {word} cannot be met: write column=value, the columns are {', '.join(known)}"
            )
    cells = results.cells.select("cell_id", *names).collect()
    fixed = {}
    for word in where:
        name, _, value = word.partition("=")
        text = pl.col(name).cast(pl.String)
        kept = cells.filter((text == value) | text.is_null())
        if kept.filter(text == value).is_empty():
            values = ", ".join(cells[name].drop_nulls().unique().sort().cast(pl.String)[:20])
            raise ResultsError(f"--where {word} leaves no cell: {name} is one of {values}")
        cells, fixed[name] = kept, value
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
