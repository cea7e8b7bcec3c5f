"""Judge what to deploy: the smallest configuration whose loss is shown to be within a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from analysis.frames.axes import KEYS, shown_keys, width_label
from analysis.frames.reading import Results
from analysis.presentation.exhibits import filter_rows
from analysis.questions.candidates import (
    CHAIN,
    WHOLE,
    Candidate,
    Input,
    find_candidates,
    group_chains,
    list_inputs,
)
from analysis.statistics.bounds import loss_bounds
from analysis.statistics.scores import placed_cells

LEVEL = 0.05  # probability that the named configuration loses more than the bound, over everything tried
HOLDS, NOT_SHOWN, NOT_REACHED, WORSE, INCOMPLETE = (
    "holds", "not shown", "not reached", "loses more", "incomplete",
)  # fmt: skip
VERDICTS = {
    HOLDS: "the loss is within the bound with 95 % confidence, all sequences counted, and so it is at every "
    "larger width of the sequence",
    NOT_SHOWN: "it may be within the bound; these documents and seeds do not show it",
    NOT_REACHED: "a larger width of its sequence was not shown to hold, and the tests stop there",
    WORSE: "the loss is above the bound, Bonferroni over all configurations",
    INCOMPLETE: "it has fewer seeds than others (failed cells, or a sweep that is not finished): not tested",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """The limits that a configuration has to keep.

    Attributes:
        max_drop: largest loss, a share.
        max_bytes: size of the largest model; None allows any.
        noise: share of letters touched under which it has to hold, too; None asks for clean input alone.
    """

    max_drop: float
    max_bytes: int | None = None
    noise: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_drop < 1:
            raise ValueError(
                f"max-drop must be above 0 and below 100 points, got {100 * self.max_drop:g}: no number of "
                "documents can show a loss of at most 0 points"
            )
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ValueError(f"max-bytes must be at least 1, got {self.max_bytes}: give the size in bytes")
        if self.noise is not None and not 0 <= self.noise <= 1:
            raise ValueError(
                f"noise must be a share of the letters between 0 and 1, got {self.noise}: as 0.1"
            )


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with the bounds of its loss under the input where it does worst, and the verdict."""

    candidate: Candidate
    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer of the results to a wish.

    Attributes:
        wish: the limits.
        inputs: the inputs under which a configuration has to hold.
        judged: every candidate; those that hold first, the smallest first.
        sequences: number of sequences of tests, which share `LEVEL`.
        table: `judged` as rows.
        told_apart: the axes that vary.
        reasons: sentences about configurations that could not be judged.
    """

    wish: Wish
    inputs: list[Input]
    judged: list[Judged]
    sequences: int
    table: pl.DataFrame
    told_apart: tuple[str, ...]
    reasons: tuple[str, ...]

    def of(self, *verdicts: str) -> list[Judged]:
        """Return the judged candidates with one of `verdicts`."""
        return [one for one in self.judged if one.verdict in verdicts]


def recommend(results: Results, wish: Wish, where: Sequence[str] = ()) -> Advice:
    """Judge every configuration that is small enough.

    "The smallest that holds" is a selection among many, so chance has to be counted over all of them:
    configurations that differ in their bits alone form a sequence, tested from the widest to the narrowest
    until the first that is not shown to hold (fixed-sequence testing, Maurer, Hothorn & Lehmacher 1995); the
    sequences share the level by Bonferroni. The order is known before any accuracy is. Under several inputs
    a configuration has to hold at that level under each (an intersection-union test, Berger 1982).

    Args:
        results: the results of a sweep.
        wish: the limits.
        where: ``column=value``: only those configurations are candidates, and only they are counted.

    Raises:
        ResultsError: if a condition leaves none, or no cell has the noise.
    """
    inputs = list_inputs(results, wish.noise)
    found = find_candidates(results, inputs)
    reasons = _explain_missing(results, found)
    if found and where:
        table = _tabulate(found).with_row_index("row")
        found = [found[row] for row in filter_rows(table, where)["row"]]
    if wish.max_bytes is not None:
        small = [one for one in found if one.quantized_bytes <= wish.max_bytes]
        if found and not small:
            least = min(one.quantized_bytes for one in found)
            reasons.append(
                f"No configuration takes at most {wish.max_bytes} bytes: the smallest takes {least}."
            )
        found = small
    most = max((one.seeds for one in found), default=0)
    whole = [one for one in found if one.seeds == most]
    incomplete = [Judged(one, *_bound_loss(one, 0.05, 0.05), INCOMPLETE) for one in found if one.seeds < most]
    sequences = list(group_chains(whole))
    judged: list[Judged] = []
    for members in sequences:
        judged += _test_sequence(members, wish, LEVEL / len(sequences), LEVEL / len(whole))
    judged.sort(key=lambda one: (one.verdict != HOLDS, one.candidate.quantized_bytes, one.high))
    judged += incomplete
    percent = {
        name: pl.Series([100 * getattr(one, field) for one in judged], dtype=pl.Float64)
        for name, field in (("lost", "value"), ("at_least", "low"), ("at_most", "high"))
    }
    verdicts = pl.Series([one.verdict for one in judged], dtype=pl.String)
    table = _tabulate([one.candidate for one in judged]).with_columns(**percent, verdict=verdicts)
    axes = _choose_axes(results, found)
    return Advice(wish, inputs, judged, len(sequences), table, axes, tuple(reasons))


def _test_sequence(members: list[Candidate], wish: Wish, upper: float, lower: float) -> list[Judged]:
    """Test the members of a sequence from the widest on, until one is not shown to hold."""
    judged, going = [], True
    for one in members:
        value, low, high = _bound_loss(one, upper, lower)
        within = high <= wish.max_drop
        if low > wish.max_drop:
            verdict = WORSE
        elif within:
            verdict = HOLDS if going else NOT_REACHED
        else:
            verdict = NOT_SHOWN
        going = going and within
        judged.append(Judged(one, value, low, high, verdict))
    return judged


def _bound_loss(one: Candidate, upper: float, lower: float) -> tuple[float, float, float]:
    """Bound the loss under the input where it is largest: the estimate, at least and at most."""
    bounds = [loss_bounds(pairs, upper, lower) for pairs in one.pairs.values()]
    return max(b.value for b in bounds), max(b.low for b in bounds), max(b.high for b in bounds)


def _explain_missing(results: Results, found: list[Candidate]) -> list[str]:
    """Say why there are fewer candidates than cells, or none."""
    counts = results.cells.select(
        pl.len(),
        (pl.col("status") == "failed").sum().alias("failed"),
        ((pl.col("status") == "ok") & pl.col("bits").is_not_null()).sum().alias("quantized"),
        ((pl.col("status") == "ok") & pl.col("bits").is_null()).sum().alias("fp32"),
    ).collect()  # fmt: skip
    cells, failed, quantized, fp32 = counts.row(0)
    said = []
    if failed:
        said.append(f"{failed} of {cells} cells failed: they are left out (analysis table RESULTS failures).")
    if found:
        return said
    if not quantized:
        said.append("No quantized cell is finished: there is nothing to recommend yet.")
    elif not fp32:
        said.append("No FP32 cell is finished: there is nothing to hold a loss against (--bits fp32 ...).")
    else:
        said.append(
            "No configuration can be judged: none has answers by document beside those of its FP32 model "
            "under the inputs asked for (schema version 1 and sweeps with --no-predictions keep none)."
        )
    return said


def _choose_axes(results: Results, found: list[Candidate]) -> tuple[str, ...]:
    """Choose the axes that vary among the candidates, or that are always named."""
    if not found:
        return ("model", "embedding", "class_ratio")
    placed = placed_cells(results.cells)
    varying = [key for key in shown_keys(placed) if key in KEYS]
    stage = ["stage"] if any(one.where["stage"] != WHOLE for one in found) else []
    named = ("model", *varying, "internal_bits", "algorithm", *stage, "class_ratio")
    return tuple(dict.fromkeys(named))


def _tabulate(found: Sequence[Candidate]) -> pl.DataFrame:
    """Tabulate the candidates, in the words and units of a table."""
    schema: dict[str, pl.DataType] = dict.fromkeys(CHAIN, pl.String()) | {
        "bits": pl.Int64(), "quantized_bytes": pl.Int64(), "accuracy": pl.Float64(), "fp32": pl.Float64(),
        "seeds": pl.Int64(), "documents": pl.Int64(), "remark": pl.String(), "cells": pl.String(),
    }  # fmt: skip
    rows = []
    for one in found:
        first, *_ = one.pairs.values()
        texts = {key: WHOLE if one.where[key] is None else str(one.where[key]) for key in CHAIN}
        remarks = [word for word, there in (("collapsed", one.collapsed), ("dead signal", one.dead)) if there]
        rows.append(
            texts
            | {
                "bits": one.bits, "quantized_bytes": one.quantized_bytes,
                "accuracy": 100 * sum(other.mean() for _, other in first) / len(first),
                "fp32": 100 * sum(reference.mean() for reference, _ in first) / len(first),
                "seeds": one.seeds, "documents": one.documents, "remark": ", ".join(remarks),
                "cells": " ".join(one.cell_ids),
            }
        )  # fmt: skip
    made = pl.DataFrame(rows, schema=schema)
    return made.with_columns(width_label(), (pl.col("quantized_bytes") / 1024).alias("size"))
