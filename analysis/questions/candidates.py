"""The candidates for deployment: every quantized configuration, paired with its own FP32 model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.frames.answers import right_answers
from analysis.frames.axes import CLEAN, KEYS, NOISE, describe_recipe, noise_label, order_of
from analysis.frames.reading import Results, ResultsError
from analysis.statistics.intervals import Pair, pair_answers, pair_with_fp32
from analysis.statistics.scores import collapsed, placed_cells

WHOLE = "–"  # stands for a model without an isolated stage
CHAIN = (*KEYS, "model", "class_ratio", "stage")  # configurations that differ in their bits alone

Input = tuple[str, float]  # kind and level of noise


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantized configuration, over its seeds.

    Attributes:
        where: the columns `CHAIN` and ``bits``.
        pairs: for each input one pair per seed: which documents FP32 and the quantized model get right.
        cell_ids: the quantized cells under all inputs.
        quantized_bytes: size of the largest seed: seeds differ in their vocabulary.
        seeds: number of finished seeds with answers, under the input with the fewest.
        documents: number of documents of the seed with the fewest.
        dead: whether a stage is constant in at least one seed.
        collapsed: whether one class took over half of the documents of the others in at least one seed.
    """

    where: Mapping[str, Any]
    pairs: Mapping[Input, list[Pair]]
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
        """The values that it shares with its wider and narrower siblings."""
        return tuple(self.where[key] for key in CHAIN)

    @property
    def recipe(self) -> str:
        """Weight correction, bits of the internals, and unusual ways of calibration, in words."""
        return describe_recipe(self.where)


def list_inputs(results: Results, noise: float | None) -> list[Input]:
    """List the inputs under which a configuration has to hold: clean, and every kind of noise at one level.

    Args:
        results: the results of a sweep.
        noise: share of the letters touched; None asks for clean input alone.

    Raises:
        ResultsError: if no cell has such noise.
    """
    if not noise:
        return [(CLEAN, 0.0)]
    rows = results.cells.select(NOISE).unique().sort(order_of("noise")).with_columns(noise_label()).collect()
    kinds = rows.filter((pl.col("noise_level") - noise).abs() < 1e-9, pl.col("noise") != CLEAN)
    if kinds.is_empty():
        there = ", ".join(rows["input"]) or "no cell"
        raise ResultsError(
            f"no cell has noise at level {noise:g}: there is {there}; give a share of letters, as 0.1"
        )
    return [(CLEAN, 0.0), *((str(kind), float(level)) for kind, level in kinds.select(NOISE).iter_rows())]


def find_candidates(results: Results, inputs: list[Input]) -> list[Candidate]:
    """Return every quantized configuration that has answers by document under all of `inputs`.

    Cells with an isolated stage are configurations of their own. Sorted by model and recipe, the widest
    first.
    """
    rows = _place_cells(results.cells).filter(pl.col("status") == "ok")
    wanted = pl.any_horizontal(
        (pl.col("noise") == kind) & (pl.col("noise_level") == level) for kind, level in inputs
    )
    paired = pair_with_fp32(rows.filter(wanted))
    needed = pl.col("cell_id").is_in([*paired["cell_id"], *paired["reference"]])
    right = right_answers(results.cells.filter(needed), results.predictions)
    found = []
    for where, part in paired.group_by((*CHAIN, "bits"), maintain_order=True):
        used = part.filter([bool(pair_answers(row, right)) for row in part.iter_slices(1)])
        pairs = {(kind, level): pair_answers(used.filter(noise=kind, noise_level=level), right)
                 for kind, level in inputs}  # fmt: skip
        sizes = used["quantized_bytes"].drop_nulls()
        if not all(pairs.values()) or sizes.is_empty():
            continue
        found.append(
            Candidate(
                dict(zip((*CHAIN, "bits"), where, strict=True)),
                pairs,
                tuple(sorted(used["cell_id"])),
                quantized_bytes=int(sizes.to_numpy().max()),
                seeds=min(map(len, pairs.values())),
                documents=min(len(first) for one in pairs.values() for first, _ in one),
                dead=used["dead_signal"].is_not_null().any(),
                collapsed=bool(used["collapsed"].any()),
            )
        )
    return found


def _place_cells(cells: pl.LazyFrame) -> pl.DataFrame:
    """Place the cells at their points, those with an isolated stage under its name."""
    own = ("dead_signal", "quantized_bytes")
    kinds = cells.select("isolated_stage", "isolated_how").unique().sort(pl.all()).collect()
    parts = []
    for stage, how in kinds.iter_rows() if len(kinds) else [(None, None)]:
        alike = pl.col("isolated_stage").eq_missing(stage) & pl.col("isolated_how").eq_missing(how)
        # cells with the same isolated stage are placed as whole models, and then named by that stage
        part = placed_cells(cells.filter(alike).with_columns(isolated_stage=pl.lit(None, pl.String)))
        name = WHOLE if stage is None else f"{stage} {how}"
        parts.append(part.with_columns(stage=pl.lit(name)))
    placed = pl.concat(parts).with_columns(collapsed=collapsed())
    known = cells.select("cell_id", *own).collect()
    joined = placed.drop("dead_signal").join(known, on="cell_id", how="left", maintain_order="left")
    return joined.sort(*CHAIN, pl.col("bits").neg(), "seed", nulls_last=False)


def group_chains(found: list[Candidate]) -> Iterator[list[Candidate]]:
    """Group the candidates into sequences that differ in their bits alone, the widest first."""
    by_chain: dict[tuple[Any, ...], list[Candidate]] = {}
    for one in found:
        by_chain.setdefault(one.chain, []).append(one)
    for members in by_chain.values():
        yield sorted(members, key=lambda one: -one.bits)
