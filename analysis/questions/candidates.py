"""What could be deployed: every quantized configuration with what it loses against its own FP32 model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.frames.reading import Results, ResultsError
from analysis.frames.settings import CLEAN, KEYS, NOISE, noise_label, noise_order, recipe_text
from analysis.statistics.intervals import Right
from analysis.statistics.points import beside_fp32, right_answers
from analysis.statistics.scores import collapsed, placed_cells

WHOLE = "–"  # no stage has a width of its own
CHAIN = (*KEYS, "model", "class_ratio", "stage")  # configurations that differ in their bits alone

Input = tuple[str, float]  # kind and level of noise
Pairs = list[tuple[Right, Right]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantized configuration, over its seeds.

    Attributes:
        where: the columns `CHAIN` and ``bits``.
        pairs: for each input one pair a seed: which documents FP32 and the quantized model have right.
        cell_ids: the quantized cells, of all inputs.
        quantized_bytes: the most of any seed: seeds differ in their vocabulary.
        seeds: finished, with answers, under every input; the fewest of any.
        documents: of one seed, the fewest.
        dead: a stage is constant, in at least one seed.
        collapsed: one class took over half of the documents of the others, in at least one seed.
    """

    where: Mapping[str, Any]
    pairs: Mapping[Input, Pairs]
    cell_ids: tuple[str, ...]
    quantized_bytes: int
    seeds: int
    documents: int
    dead: bool
    collapsed: bool

    @property
    def bits(self) -> int:
        """Width of the weights."""
        return int(self.where["bits"])

    @property
    def chain(self) -> tuple[Any, ...]:
        """What it shares with its wider and narrower siblings."""
        return tuple(self.where[key] for key in CHAIN)

    @property
    def recipe(self) -> str:
        """Weight correction, bits of the internals, and where calibration is not as Brevitas has it."""
        return recipe_text(self.where)


def inputs_of(results: Results, noise: float | None) -> list[Input]:
    """The inputs under which a configuration has to hold: clean, and every kind of noise at one level.

    Args:
        results: of a sweep.
        noise: share of the letters touched; None asks for clean input alone.

    Raises:
        ResultsError: if no cell has such noise.
    """
    if not noise:
        return [(CLEAN, 0.0)]
    rows = results.cells.select(NOISE).unique().sort(noise_order()).with_columns(noise_label()).collect()
    kinds = rows.filter((pl.col("noise_level") - noise).abs() < 1e-9, pl.col("noise") != CLEAN)
    if kinds.is_empty():
        there = ", ".join(rows["input"]) or "no cell"
        raise ResultsError(
            f"no cell has noise at level {noise:g}: there is {there}; give a share of letters, as 0.1"
        )
    return [(CLEAN, 0.0), *((str(kind), float(level)) for kind, level in kinds.select(NOISE).iter_rows())]


def candidates(results: Results, inputs: list[Input]) -> list[Candidate]:
    """Every quantized configuration that has answers by document under all of `inputs`.

    Cells with an isolated stage are configurations of their own. Sorted by model and recipe, the widest
    first.
    """
    rows = _placed(results.cells).filter(pl.col("status") == "ok")
    wanted = pl.any_horizontal(
        (pl.col("noise") == kind) & (pl.col("noise_level") == level) for kind, level in inputs
    )
    paired = beside_fp32(rows.filter(wanted))
    needed = {*paired["cell_id"], *paired["reference"]}
    right = right_answers(results, needed)
    found = []
    for where, part in paired.group_by((*CHAIN, "bits"), maintain_order=True):
        pairs: dict[Input, Pairs] = {one: [] for one in inputs}
        kept = []
        for row in part.iter_rows(named=True):
            first, second = right.get(row["reference"]), right.get(row["cell_id"])
            if first is not None and second is not None and len(first) == len(second) > 0:
                pairs[row["noise"], row["noise_level"]].append((first, second))
                kept.append(row["cell_id"])
        if not all(pairs.values()):
            continue
        used = part.filter(pl.col("cell_id").is_in(kept))
        sizes = used["quantized_bytes"].drop_nulls()
        if sizes.is_empty():
            continue
        found.append(
            Candidate(
                dict(zip((*CHAIN, "bits"), where, strict=True)), pairs, tuple(sorted(kept)),
                int(sizes.to_numpy().max()), min(map(len, pairs.values())),
                min(len(first) for one in pairs.values() for first, _ in one),
                used["dead_signal"].is_not_null().any(), bool(used["collapsed"].any()),
            )
        )  # fmt: skip
    return found


def _placed(cells: pl.LazyFrame) -> pl.DataFrame:
    """The cells at their settings, those with an isolated stage under its name."""
    own = ("dead_signal", "quantized_bytes")
    kinds = cells.select("isolated_stage", "isolated_how").unique().sort(pl.all()).collect()
    parts = []
    for stage, how in kinds.iter_rows() if len(kinds) else [(None, None)]:
        alike = pl.col("isolated_stage").eq_missing(stage) & pl.col("isolated_how").eq_missing(how)
        # what an isolated stage is isolated from stands in its name, so that they are placed as whole models
        part = placed_cells(cells.filter(alike).with_columns(isolated_stage=pl.lit(None, pl.String)))
        name = WHOLE if stage is None else f"{stage} {how}"
        parts.append(part.with_columns(stage=pl.lit(name)))
    placed = pl.concat(parts).with_columns(collapsed=collapsed())
    known = cells.select("cell_id", *own).collect()
    joined = placed.drop("dead_signal").join(known, on="cell_id", how="left", maintain_order="left")
    return joined.sort(*CHAIN, pl.col("bits").neg(), "seed", nulls_last=False)


def chains(found: list[Candidate]) -> Iterator[list[Candidate]]:
    """The candidates by sequence: alike but for their bits, the widest first."""
    by_chain: dict[tuple[Any, ...], list[Candidate]] = {}
    for one in found:
        by_chain.setdefault(one.chain, []).append(one)
    for members in by_chain.values():
        yield sorted(members, key=lambda one: -one.bits)
