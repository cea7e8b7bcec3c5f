"""``compare``: two results directories side by side, for instance of two versions of the code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from analysis.frames.answers import Right, answers, right_answers
from analysis.frames.axes import (
    POINT,
    QUANTIZATION_KEYS,
    dashed,
    label_of,
    noise_label,
    order_of,
    width_label,
)
from analysis.frames.provenance import provenance
from analysis.frames.reading import Results, ResultsError, load
from analysis.presentation.exhibits import Column, Exhibit, format_command
from analysis.presentation.exports import Format, format_table
from analysis.presentation.printing import heading, new_console, note, render_exhibit
from analysis.questions.question import Count, Folder, Question
from analysis.statistics.bounds import DRAWS, loss_bounds
from analysis.statistics.intervals import bootstrap_means
from analysis.statistics.scores import placed_cells
from analysis.statistics.shifts import CONTRASTS
from lstmptq.runtime.locations import Location

TABLES = ("accuracy", "shifts", "speed", "only")
ALIKE = ("embedding", "hidden", "layers", "checkpoint", *QUANTIZATION_KEYS)  # always matched
# matched only where a directory has several values: a single one may be the change to be judged
SOFT = ("dataset_digest", "embedding_source", "embedding_dim", "training_documents")
SIDES = ("A", "B")
TAIL = 0.025  # on each side of a 95 % interval
FACTS = ("code", "schema", "vectors", "machines", "libraries")

Seeded = tuple[int, bytes, Right]  # the seed of a cell, the true classes, and which documents are right


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tables of two directories, side by side.

    Attributes:
        sentences: sentences on how settings are matched and how the provenance differs.
        exhibits: the tables by name, those of `TABLES`.
    """

    sentences: tuple[str, ...]
    exhibits: Mapping[str, Exhibit]


def compare(first: Location, second: Location) -> Comparison:
    """Compare the results in `second` (B) with those in `first` (A), setting by setting.

    Raises:
        ResultsError: if one has no results, or if no corpus is in both and one of them has several.
    """
    results = (load(first), load(second))
    placed = tuple(_placed(one) for one in results)
    keys, sentences = _matching(placed, (first, second))
    settings = [_settings(rows, keys) for rows in placed]
    index = [*keys, *POINT]
    both = settings[0].join(settings[1], on=index, nulls_equal=True, suffix="_b", maintain_order="left")
    if both.is_empty():
        sentences.append("No setting is in both: see the table `only`.")
    shown = tuple(
        key
        for key in keys
        if key in ("embedding", "algorithm", "internal_bits")
        or pl.concat([one[key].cast(pl.String) for one in settings]).drop_nulls().n_unique() > 1
    )
    sentences += _facts(results, (first, second))
    made = {
        "accuracy": _accuracy(both, placed, results, keys, shown),
        "shifts": _shifts(both, results),
        "speed": _speed(both),
        "only": _only(settings, index, shown),
    }
    return Comparison(tuple(sentences), made)


def _placed(results: Results) -> pl.DataFrame:
    """Place the finished cells at their points; FP32 cells have no recipe."""
    own = results.cells.select("cell_id", "documents_per_second", "kernel").collect()
    rows = placed_cells(results.cells).filter(pl.col("status") == "ok").join(own, on="cell_id", how="left")
    fp32 = pl.col("bits").is_null()
    return rows.with_columns(
        pl.when(fp32).then(None).otherwise(pl.col(key)).alias(key)
        for key in (*QUANTIZATION_KEYS, "class_ratio")
    ).unique(["cell_id", "internal_bits"], maintain_order=True)  # fmt: skip


def _matching(
    placed: tuple[pl.DataFrame, ...], paths: tuple[Location, Location]
) -> tuple[tuple[str, ...], list[str]]:
    """Choose the columns by which settings are matched, and say so in sentences."""
    datasets = [sorted(rows["dataset"].unique()) for rows in placed]
    soft = [
        key
        for key in SOFT
        if any(
            rows.drop_nulls(key).group_by("dataset", "embedding").agg(pl.col(key).n_unique())[key].max()
            not in (None, 1)
            for rows in placed
        )
    ]
    if set(datasets[0]) & set(datasets[1]) or not all(datasets):
        said = ["Settings are matched by corpus and configuration; B - A is positive where B is higher."]
        return ("dataset", *ALIKE, *soft), said
    if max(map(len, datasets)) > 1:
        raise ResultsError(
            f"no corpus is in both {paths[0]} ({', '.join(datasets[0])}) and {paths[1]} "
            f"({', '.join(datasets[1])}): different corpora are compared by configuration, which needs one "
            "in each directory"
        )
    said = [
        f"Different corpora, A {datasets[0][0]} and B {datasets[1][0]}: matched by configuration alone, so "
        "that a difference mixes those of documents, classes and models."
    ]
    return (*ALIKE, *(key for key in soft if key != "dataset_digest")), said


def _settings(rows: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """Average over seeds: one row per setting."""
    return (
        rows.group_by(*keys, *POINT)
        .agg(
            pl.col("accuracy", "accuracy_drop").mean(), pl.col("seed").n_unique().alias("seeds"),
            pl.col("documents").max(), pl.col("documents_per_second").median().alias("speed"),
            pl.col("kernel").drop_nulls().unique().sort().str.join(", "), pl.col("cell_id").sort(),
        )
        .sort(*keys, "model", *order_of("class_ratio", "noise", "bits"), nulls_last=False)
    )  # fmt: skip


def _facts(results: tuple[Results, Results], paths: tuple[Location, Location]) -> list[str]:
    """Say where the provenance of the sides differs."""
    sides = [dict(provenance(one, path, "")) for one, path in zip(results, paths, strict=True)]
    said = [f"A is {paths[0]}, B is {paths[1]}."]
    for name in FACTS:
        mine, other = (side.get(name, "unknown") for side in sides)
        if mine != other:
            said.append(f"{name}: A {mine}; B {other}.")
    return said


def _read_answers(results: Results, cell_ids: pl.Series, placed: pl.DataFrame) -> dict[str, Seeded]:
    """Read the answers of some cells: by ``cell_id`` the seed, the true classes, and which are right."""
    kept = results.cells.filter(pl.col("cell_id").is_in(cell_ids.implode()))
    labels = dict(answers(kept, results.predictions).select("cell_id", "labels").collect().iter_rows())
    seeds = dict(placed.select("cell_id", "seed").iter_rows())
    return {
        cell_id: (seeds[cell_id], np.asarray(labels[cell_id]).tobytes(), right)
        for cell_id, right in right_answers(kept, results.predictions).items()
        if len(right)
    }


def _difference(
    sides: list[dict[int, tuple[bytes, Right]]],
) -> tuple[float | None, float | None, str]:
    """Estimate the 95 % interval of B - A, paired if both sides answered the same documents, and say how."""
    if not all(sides):
        return None, None, "–"
    first, second = sides
    if first.keys() == second.keys() and all(first[seed][0] == second[seed][0] for seed in first):
        bounds = loss_bounds([(first[seed][1], second[seed][1]) for seed in sorted(first)], TAIL)
        return -bounds.high, -bounds.low, "same documents"
    rng = np.random.default_rng(0)
    drawn = [
        bootstrap_means([side[seed][1].astype(np.int8) for seed in sorted(side)], rng, DRAWS)
        for side in sides
    ]
    low, high = np.quantile(drawn[1] - drawn[0], [TAIL, 1 - TAIL])
    return float(low), float(high), "independent"


def _accuracy(
    both: pl.DataFrame,
    placed: tuple[pl.DataFrame, ...],
    results: tuple[Results, Results],
    keys: tuple[str, ...],
    shown: tuple[str, ...],
) -> Exhibit:
    """Compare the accuracy and the drops of the settings in both."""
    # for each side by cell_id: the seed, the true classes, and which documents are right
    known = [
        _read_answers(one, both[name].explode(), rows)
        for one, rows, name in zip(results, placed, ("cell_id", "cell_id_b"), strict=True)
    ]
    intervals = [
        _difference([
            {side[cell][0]: side[cell][1:] for cell in cells if cell in side}
            for cells, side in zip(ids, known, strict=True)
        ])
        for ids in both.select("cell_id", "cell_id_b").iter_rows()
    ]  # fmt: skip
    bounds = {"low": pl.Float64, "high": pl.Float64, "interval": pl.String}
    rows = both.hstack(pl.DataFrame(intervals, schema=bounds, orient="row")).with_columns(
        (pl.col("accuracy_b") - pl.col("accuracy")).alias("difference"),
        (pl.col("accuracy_drop_b") - pl.col("accuracy_drop")).alias("more_lost"),
        noise_label(), width_label(),
    ).with_columns(
        pl.col(name) * 100
        for name in ("accuracy", "accuracy_b", "accuracy_drop", "accuracy_drop_b", "difference", "more_lost",
                     "low", "high")
    )  # fmt: skip
    rows = rows.with_columns(dashed((*keys, "class_ratio")))
    columns = (
        Column("model"), *(Column(key) for key in shown), Column("class_ratio"), Column("input"),
        Column("width"), Column("accuracy", "A", "%", 1), Column("accuracy_b", "B", "%", 1),
        Column("difference", "B - A", "points", 1), Column("low", "from", "points", 1),
        Column("high", "to", "points", 1), Column("interval", "interval"),
        Column("accuracy_drop", "A lost", "points", 1), Column("accuracy_drop_b", "B lost", "points", 1),
        Column("more_lost", "B lost more", "points", 1), Column("seeds", "A seeds"),
        Column("seeds_b", "B seeds"),
    )  # fmt: skip
    return Exhibit(
        "accuracy", "Accuracy, B against A", columns, rows, f"n: {len(rows)} settings in both",
        (
            "Interval: 95 %, of B - A. `same documents`: paired, document by document; `independent`: the "
            "seeds or the documents differ, and each side is drawn on its own. Lost: against FP32 "
            "under the same noise.",
        ),
    )  # fmt: skip


def _shifts(both: pl.DataFrame, results: tuple[Results, Results]) -> Exhibit:
    """Average D dithered of each tensor over the settings in both, the largest differences first."""
    index = ["model", "contrast", "kind", "tensor", "bits"]
    sides = []
    for one, name in zip(results, ("cell_id", "cell_id_b"), strict=True):
        cells = both.select("model", "bits", cell_id=name).explode("cell_id").lazy()
        tensors = one.tensors.filter(
            pl.col("contrast").is_in(CONTRASTS), pl.col("ks_d_dithered").is_not_null()
        ).select("cell_id", "contrast", "kind", "tensor", "ks_d_dithered")
        sides.append(
            tensors.join(cells, on="cell_id")
            .group_by(index)
            .agg(pl.col("ks_d_dithered").mean().alias("d"), pl.len().alias("n"))
            .collect()
        )
    rows = (
        sides[0]
        .join(sides[1], on=index, nulls_equal=True, suffix="_b")
        .with_columns(difference=pl.col("d_b") - pl.col("d"))
        # rounded: means of the same values differ in their last digit from run to run
        .sort(pl.col("difference").abs().round(12).neg(), *index, nulls_last=False)
        .with_columns(width_label())
    )
    columns = (
        Column("model"), Column("contrast"), Column("kind"), Column("tensor"), Column("width"),
        Column("d", "A, D dithered", "", 4), Column("d_b", "B, D dithered", "", 4),
        Column("difference", "B - A", "", 4), Column("n", "A rows"), Column("n_b", "B rows"),
    )  # fmt: skip
    return Exhibit(
        "shifts", "Shifts, B against A", columns, rows, f"n: {len(rows)} tensors at a width in both",
        ("Mean over the settings in both; the largest differences first. No interval: a description.",),
    )  # fmt: skip


def _speed(both: pl.DataFrame) -> Exhibit:
    """Compare the documents per second by model and width."""
    rows = (
        both.group_by("model", "bits", maintain_order=True)
        .agg(
            pl.col("speed").median(), pl.col("speed_b").median(), pl.len().alias("settings"),
            *(pl.col(name).unique().sort().str.join(", ") for name in ("kernel", "kernel_b")),
        )
        .sort("model", pl.col("bits").neg(), nulls_last=False)
        .with_columns(width_label(), ratio=pl.col("speed_b") / pl.col("speed"))
    )  # fmt: skip
    columns = (
        Column("model"), Column("width"), Column("speed", "A", "documents/s", 0),
        Column("speed_b", "B", "documents/s", 0), Column("ratio", "B / A", "times", 2),
        Column("kernel", "A kernel"), Column("kernel_b", "B kernel"), Column("settings"),
    )  # fmt: skip
    return Exhibit(
        "speed", "Scoring speed, B against A", columns, rows, f"n: {len(both)} settings in both",
        ("Medians over settings and seeds; comparable only on the same, equally busy machine.",),
    )  # fmt: skip


def _only(settings: list[pl.DataFrame], index: list[str], shown: tuple[str, ...]) -> Exhibit:
    """List the settings that only one side has."""
    parts = [
        mine.join(other.select(index), on=index, how="anti", nulls_equal=True).with_columns(side=pl.lit(name))
        for mine, other, name in zip(settings, settings[::-1], SIDES, strict=True)
    ]
    rows = (
        pl.concat([part.select("side", *index, "accuracy", "seeds") for part in parts])
        .with_columns(noise_label(), width_label(), pl.col("accuracy") * 100)
        .with_columns(dashed((*shown, "class_ratio")))
    )
    columns = (
        Column("side", "only in"), Column("model"), *(Column(key, label_of(key)) for key in shown),
        Column("class_ratio"), Column("input"), Column("width"), Column("accuracy", "accuracy", "%", 1),
        Column("seeds"),
    )  # fmt: skip
    n = ", ".join(f"{len(part)} settings only in {name}" for part, name in zip(parts, SIDES, strict=True))
    return Exhibit("only", "Only in one", columns, rows, f"n: {n}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(Question):
    """Compare two results directories: accuracy, points lost, shifts, speed, and settings that only one has.

    They may be of two versions of the code or of two corpora. Differences are B - A.
    """

    first: Folder  # A: the --out of a sweep, a directory or a URI
    second: Folder  # B: another
    table: str | None = None  # accuracy, shifts, speed or only; None: all
    format: Literal["text", Format] = "text"
    rows: Count = 20  # print at most N rows of a table as text; the other formats have all rows

    def answer(self) -> None:
        """Print the tables."""
        found = compare(self.first, self.second)
        if self.table is not None and self.table not in found.exhibits:
            raise ResultsError(f"there is no table {self.table}: use one of {', '.join(TABLES)}")
        exhibits = [one for name, one in found.exhibits.items() if self.table in (None, name)]
        words = ["compare", self.first, self.second]
        if self.format == "text":
            self._print(found.sentences, exhibits, format_command(words))
            return
        for exhibit in exhibits:
            made_by = format_command([*words, "--table", exhibit.name, "--format", self.format])
            sys.stdout.write(format_table(exhibit, self.format, made_by))

    def _print(self, sentences: Sequence[str], exhibits: Sequence[Exhibit], made_by: str) -> None:
        console = new_console()
        for sentence in sentences:
            console.print(sentence, markup=False)
        for exhibit in exhibits:
            n = exhibit.n
            if len(exhibit.rows) > self.rows:
                n += f"; the first {self.rows}, all: {made_by} --table {exhibit.name} --format csv"
            console.print(heading(exhibit.title))
            if len(exhibit.rows):
                console.print(render_exhibit(replace(exhibit, rows=exhibit.rows.head(self.rows))))
            for text in (n, *exhibit.notes):
                console.print(note(text))
