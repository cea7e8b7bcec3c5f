"""What to deploy, in sentences and tables: the answer, its evidence, the runners-up and what to avoid."""

from __future__ import annotations

import math

import polars as pl
from rich.console import Console
from rich.text import Text

from analysis.frames.settings import CLEAN, label_of
from analysis.presentation.exhibits import Column, Exhibit
from analysis.presentation.phrasing import format_percent
from analysis.presentation.printing import heading, note, render_exhibit
from analysis.questions.candidates import WHOLE
from analysis.questions.isolation import HIGH
from analysis.questions.recommend import (
    HOLDS,
    INCOMPLETE,
    LEVEL,
    NOT_REACHED,
    NOT_SHOWN,
    VERDICTS,
    WORSE,
    Advice,
    Judged,
)
from analysis.statistics.bounds import score_bound

FEW_SEEDS = 5


def headline(advice: Advice) -> list[str]:
    """The answer in sentences."""
    said = list(advice.reasons)
    tested = [one for one in advice.judged if one.verdict != INCOMPLETE]
    if not tested:
        return said or ["No configuration is left to judge."]
    points = f"{100 * advice.wish.max_drop:g} points"
    noise = [kind for kind, _ in advice.inputs if kind != CLEAN]
    under = "clean input"
    if noise:
        under += f" and under {' and '.join(noise)} at {100 * advice.inputs[-1][1]:g} % of the letters"
    held = advice.of(HOLDS)
    if held:
        best = held[0]
        row = advice.table.row(0, named=True)
        stage = f", {_isolated(row['stage'], row['bits'])}" if row["stage"] != WHOLE else ""
        said.insert(
            0,
            f"Take the {row['model']} model, {row['embedding']} vectors, {best.candidate.bits} bits{stage}, "
            f"recipe {best.candidate.recipe}, calibrated on {row['class_ratio']}: "
            f"{row['quantized_bytes'] / 1024:.1f} KiB, accuracy {row['accuracy']:.1f} % (FP32 "
            f"{row['fp32']:.1f} %), loses {_points(best.value)}, at most {_points(best.high)} on {under}.",
        )
        said.insert(1, _counted(advice, tested))
    else:
        first = min(tested, key=lambda one: one.high)
        said.append(
            f"Nothing qualifies: no configuration is shown to lose at most {points} on {under}. The closest "
            f"loses {_points(first.value)}, at most {_points(first.high)}."
        )
        said.append(_counted(advice, tested))
        said += _needed(advice, tested)
    seeds = max(one.candidate.seeds for one in tested)
    if seeds == 1:
        said.append(
            "One seed: the bounds say what other documents would change, not what another training run would."
        )
    elif seeds < FEW_SEEDS:
        said.append(
            f"{seeds} seeds: Student's t of so few makes the bounds wide, {FEW_SEEDS} would narrow them."
        )
    return said


def _isolated(stage: str, bits: int) -> str:
    """``cell_state kept at 8 bits``, or ``cell_state lowered to 4 bits, all else at 8``."""
    return (
        f"{stage} at {HIGH} bits" if stage.endswith("kept") else f"{stage} to {bits} bits, all else at {HIGH}"
    )


def _counted(advice: Advice, tested: list[Judged]) -> str:
    return (
        f"95 % confidence over all that was tried: {len(tested)} configurations in {advice.sequences} "
        f"sequences of falling bits, each tested from the widest down at level .05 / {advice.sequences} "
        "until the first that is not shown to hold. What is lost is against the same model's FP32."
    )


def _needed(advice: Advice, tested: list[Judged]) -> list[str]:
    """What these documents can show at best."""
    documents = max(one.candidate.documents for one in tested)
    level = LEVEL / advice.sequences
    best = score_bound(0, 0, documents, level)
    if best <= advice.wish.max_drop:
        return []
    alone = score_bound(0, 0, documents, LEVEL)
    enough = math.ceil(math.log(level) / math.log1p(-advice.wish.max_drop))
    return [
        f"{documents} documents cannot show it: a model that loses no single one is within {_points(best)} "
        f"at this level ({_points(alone)} if it were the only sequence). {enough} documents could, or fewer "
        "candidates (--where model=generative), or a larger --max-drop."
    ]


def _points(share: float) -> str:
    return f"{format_percent(share, 2)} points"


def advice_exhibits(advice: Advice, made_by: str, rows: int) -> list[Exhibit]:
    """Runners-up, what to avoid and, where nothing holds, what comes closest; the first rows of each.

    Args:
        advice: of :func:`recommend`.
        made_by: the command, for the sentence that says where the rest is.
        rows: most rows of each.
    """
    columns = (
        *(Column(key, "stage of another width" if key == "stage" else label_of(key))
          for key in advice.told_apart),
        Column("width"), Column("size", "size", "KiB", 1), Column("fp32", "FP32", "%", 1),
        Column("accuracy", "accuracy", "%", 1), Column("lost", "lost", "points", 2),
        Column("at_least", "at least", "points", 2), Column("at_most", "at most", "points", 2),
        Column("remark"), Column("verdict"),
    )  # fmt: skip
    held = advice.table.filter(verdict=HOLDS).unique("cells", keep="first", maintain_order=True)
    worse = advice.table.filter((pl.col("verdict") == WORSE) | (pl.col("remark") != "")).sort(
        "lost", descending=True
    )
    rest = advice.table.filter(pl.col("verdict").is_in([NOT_SHOWN, NOT_REACHED])).sort("at_most")
    more = f", the first {rows}; all: {made_by} --csv"
    parts = [
        ("runners_up", "Runners-up: they hold as well, the smallest first", held.slice(1)),
        ("closest", "Not shown to hold: what comes closest", rest.clear() if len(held) else rest),
        ("avoid", "To avoid: loses more, or is broken", worse.unique("cells", maintain_order=True)),
    ]
    return [
        Exhibit(
            name, title, columns, part.head(rows),
            f"n: {len(part)} configurations{more if len(part) > rows else ''}",
        )
        for name, title, part in parts
        if len(part)
    ]  # fmt: skip


def print_advice(advice: Advice, console: Console, made_by: str, rows: int) -> None:
    """Print the answer, its evidence, the runners-up and what to avoid."""
    for sentence in headline(advice):
        console.print(Text(sentence))
    held = advice.of(HOLDS)
    if held:
        best = held[0].candidate
        ids = " ".join(best.cell_ids)
        console.print(heading("Evidence"))
        console.print(
            note(f"{best.seeds} seed{'s' * (best.seeds != 1)}, {best.documents} documents each; cells {ids}")
        )
    for exhibit in advice_exhibits(advice, made_by, rows):
        console.print(heading(exhibit.title))
        console.print(render_exhibit(exhibit))
        console.print(note(exhibit.n))
    used = {one.verdict for one in advice.judged}
    for verdict, meaning in VERDICTS.items():
        if verdict in used:
            console.print(note(f"{verdict}: {meaning}"))


def all_rows(advice: Advice) -> pl.DataFrame:
    """Every configuration with its verdict and its cells, for CSV; losses in points."""
    keys = [field for field in advice.told_apart if field in advice.table.columns]
    numbers = (
        "bits", "quantized_bytes", "fp32", "accuracy", "lost", "at_least", "at_most", "seeds", "documents",
        "remark", "verdict", "cells",
    )  # fmt: skip
    return advice.table.select(*dict.fromkeys(("dataset", *keys)), *numbers)
