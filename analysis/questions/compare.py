"""Two results directories side by side: a changed version of the code, or another corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console

from analysis.frames.answers import answers
from analysis.frames.provenance import provenance
from analysis.frames.reading import Results, ResultsError, load
from analysis.frames.settings import (
    POINT,
    QUANTIZATION_KEYS,
    dashed,
    label_of,
    noise_label,
    noise_order,
    ratio_order,
    width_label,
)
from analysis.presentation.exhibits import Column, Exhibit
from analysis.presentation.printing import heading, note, render_exhibit
from analysis.statistics.bounds import DRAWS, loss_bounds
from analysis.statistics.intervals import Right, bootstrap_means
from analysis.statistics.scores import placed_cells
from analysis.statistics.shifts import CONTRASTS
from lstmptq.runtime.locations import Location

TABLES = ("accuracy", "shifts", "speed", "only")
ALIKE = ("embedding", "hidden", "layers", "checkpoint", *QUANTIZATION_KEYS)  # always matched
# matched where a directory has several of them; else they may be what was changed, and are only said
SOFT = ("dataset_digest", "embedding_source", "embedding_dim", "training_documents")
SIDES = ("A", "B")
TAIL = 0.025  # on each side of a 95 % interval
FACTS = ("code", "schema", "vectors", "machines", "libraries")

Answers = Mapping[str, tuple[bytes, Right]]  # by cell_id: the true classes, and which are right


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two directories have in common, and what differs.

    Attributes:
        keys: columns that a setting is matched by, besides `POINT`.
        shown: those of them that tell settings apart.
        sentences: what is compared how, and what the provenance says.
        exhibits: the tables by name, those of `TABLES`.
    """

    keys: tuple[str, ...]
    shown: tuple[str, ...]
    sentences: tuple[str, ...]
    exhibits: Mapping[str, Exhibit]


def compare(first: Location, second: Location) -> Comparison:
    """Hold the results in `second` (B) against those in `first` (A), setting by setting.

    Args:
        first: the --out of a sweep.
        second: of another.

    Raises:
        ResultsError: if there are no results in one, or no corpus in both although one has several.
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
    return Comparison(keys, shown, tuple(sentences), made)


def _placed(results: Results) -> pl.DataFrame:
    """The finished cells at their settings; FP32 under no recipe."""
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
    """What settings are matched by, and sentences about it."""
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
        "that a difference is of documents, classes and models together."
    ]
    return (*ALIKE, *(key for key in soft if key != "dataset_digest")), said


def _settings(rows: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """One row a setting, averaged over seeds."""
    return (
        rows.group_by(*keys, *POINT)
        .agg(
            pl.col("accuracy", "accuracy_drop").mean(), pl.col("seed").n_unique().alias("seeds"),
            pl.col("documents").max(), pl.col("documents_per_second").median().alias("speed"),
            pl.col("kernel").drop_nulls().unique().sort().str.join(", "), pl.col("cell_id").sort(),
        )
        .sort(*keys, "model", *ratio_order(), *noise_order(), pl.col("bits").neg(), nulls_last=False)
    )  # fmt: skip


def _facts(results: tuple[Results, Results], paths: tuple[Location, Location]) -> list[str]:
    """What the provenance of the sides has different."""
    sides = [dict(provenance(one, path, "")) for one, path in zip(results, paths, strict=True)]
    said = [f"A is {paths[0]}, B is {paths[1]}."]
    for name in FACTS:
        mine, other = (side.get(name, "unknown") for side in sides)
        if mine != other:
            said.append(f"{name}: A {mine}; B {other}.")
    return said


def _known(results: Results, cell_ids: set[str]) -> Answers:
    """Answers by document of some cells."""
    kept = results.cells.filter(pl.col("cell_id").is_in(list(cell_ids)))
    rows = answers(kept, results.predictions).filter(pl.col("cell_id").is_in(list(cell_ids))).collect()
    found = {}
    for cell_id, labels, predicted in rows.select("cell_id", "labels", "predicted").iter_rows():
        true = np.asarray(labels)
        if len(true) and len(true) == len(predicted):
            found[cell_id] = true.tobytes(), true == np.asarray(predicted)
    return found


def _difference(
    sides: list[dict[int, tuple[bytes, Right]]],
) -> tuple[float | None, float | None, str]:
    """95 % interval of B - A, and how it was made: paired where both sides answered the same documents."""
    if not all(sides):
        return None, None, "–"
    first, second = sides
    if first.keys() == second.keys() and all(first[seed][0] == second[seed][0] for seed in first):
        bounds = loss_bounds([(first[seed][1], second[seed][1]) for seed in sorted(first)], TAIL)
        return -bounds.high, -bounds.low, "same documents"
    rng = np.random.default_rng(0)
    drawn = [bootstrap_means(_right(side), rng, DRAWS) for side in sides]
    low, high = np.quantile(drawn[1] - drawn[0], [TAIL, 1 - TAIL])
    return float(low), float(high), "independent"


def _right(side: dict[int, tuple[bytes, Right]]) -> list[npt.NDArray[np.int8]]:
    return [side[seed][1].astype(np.int8) for seed in sorted(side)]


def _accuracy(
    both: pl.DataFrame,
    placed: tuple[pl.DataFrame, ...],
    results: tuple[Results, Results],
    keys: tuple[str, ...],
    shown: tuple[str, ...],
) -> Exhibit:
    """Accuracy and drops of the settings in both."""
    names = ("cell_id", "cell_id_b")
    known = [
        _known(one, {c for ids in both[name] for c in ids}) for one, name in zip(results, names, strict=True)
    ]
    seeds = [dict(rows.select("cell_id", "seed").iter_rows()) for rows in placed]
    intervals = []
    for ids in both.select(names).iter_rows():
        sides = [
            {seeds[n][cell]: known[n][cell] for cell in ids[n] if cell in known[n]} for n in range(len(SIDES))
        ]
        intervals.append(_difference(sides))
    rows = both.with_columns(
        pl.Series("low", [one[0] for one in intervals], dtype=pl.Float64),
        pl.Series("high", [one[1] for one in intervals], dtype=pl.Float64),
        pl.Series("interval", [one[2] for one in intervals], dtype=pl.String),
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
            "seeds or the documents differ, each side is drawn by itself. Lost: against FP32 "
            "under the same noise.",
        ),
    )  # fmt: skip


def _shifts(both: pl.DataFrame, results: tuple[Results, Results]) -> Exhibit:
    """Mean D dithered of each tensor over the settings in both, the largest differences first."""
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
    """Documents a second by model and width."""
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
    """Settings that one side alone has."""
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


def print_comparison(found: Comparison, table: str | None, console: Console, made_by: str, rows: int) -> None:
    """Print what is compared how, and the first rows of the tables.

    Args:
        found: of :func:`compare`.
        table: one of `TABLES`; None prints all.
        console: where to print.
        made_by: the command, for the sentence that says where the rest is.
        rows: most rows of a table.

    Raises:
        ResultsError: if there is no table of that name.
    """
    for sentence in found.sentences:
        console.print(sentence, markup=False)
    for exhibit in chosen_tables(found, table):
        kept, n = _short(exhibit, rows, made_by)
        console.print(heading(kept.title))
        if len(kept.rows):
            console.print(render_exhibit(kept))
        for text in (n, *kept.notes):
            console.print(note(text))


def chosen_tables(found: Comparison, table: str | None) -> list[Exhibit]:
    """The tables that are asked for.

    Raises:
        ResultsError: if there is none of that name.
    """
    if table is None:
        return list(found.exhibits.values())
    if table not in found.exhibits:
        raise ResultsError(f"there is no table {table}: use one of {', '.join(TABLES)}")
    return [found.exhibits[table]]


def _short(exhibit: Exhibit, rows: int, made_by: str) -> tuple[Exhibit, str]:
    """The first rows of a table, and what says so."""
    if len(exhibit.rows) <= rows:
        return exhibit, exhibit.n
    text = f"{exhibit.n}; the first {rows}, all: {made_by} --table {exhibit.name} --format csv"
    return replace(exhibit, rows=exhibit.rows.head(rows), n=text), text
