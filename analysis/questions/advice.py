"""``recommend``: the configuration to deploy, with its evidence, the runners-up and those to avoid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl
from rich.console import Console
from rich.text import Text

from analysis.frames.axes import CLEAN, label_of
from analysis.frames.reading import Results, ResultsError
from analysis.presentation.exhibits import Column, Exhibit, format_command
from analysis.presentation.phrasing import count_of, format_percent
from analysis.presentation.printing import heading, note, render_exhibit
from analysis.questions.candidates import WHOLE
from analysis.questions.isolation import HIGH
from analysis.questions.question import Count, TableQuestion, Where
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
    Wish,
    recommend,
)
from analysis.statistics.bounds import score_bound

FEW_SEEDS = 5


def write_headline(advice: Advice) -> list[str]:
    """Say in sentences what to deploy, or why nothing qualifies."""
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
        stage = f", {_describe_stage(row['stage'], row['bits'])}" if row["stage"] != WHOLE else ""
        said.insert(
            0,
            f"Take the {row['model']} model, {row['embedding']} vectors, {best.candidate.bits} bits{stage}, "
            f"recipe {best.candidate.recipe}, calibrated on {row['class_ratio']}: "
            f"{row['quantized_bytes'] / 1024:.1f} KiB, accuracy {row['accuracy']:.1f} % (FP32 "
            f"{row['fp32']:.1f} %), loses {_points(best.value)}, at most {_points(best.high)} on {under}.",
        )
        said.insert(1, _count_tests(advice, tested))
    else:
        first = min(tested, key=lambda one: one.high)
        said.append(
            f"Nothing qualifies: no configuration is shown to lose at most {points} on {under}. The closest "
            f"loses {_points(first.value)}, at most {_points(first.high)}."
        )
        said.append(_count_tests(advice, tested))
        said += _explain_shortage(advice, tested)
    seeds = max(one.candidate.seeds for one in tested)
    if seeds == 1:
        said.append("One seed: the bounds cover other documents, not another training run.")
    elif seeds < FEW_SEEDS:
        said.append(f"{seeds} seeds: Student's t makes the bounds wide; {FEW_SEEDS} seeds would narrow them.")
    return said


def _describe_stage(stage: str, bits: int) -> str:
    """Return ``cell_state kept at 8 bits`` or ``cell_state lowered to 4 bits, all else at 8``."""
    return (
        f"{stage} at {HIGH} bits" if stage.endswith("kept") else f"{stage} to {bits} bits, all else at {HIGH}"
    )


def _count_tests(advice: Advice, tested: list[Judged]) -> str:
    return (
        f"95 % confidence over all that was tried: {len(tested)} configurations in {advice.sequences} "
        f"sequences of falling bits, each tested from the widest down at level .05 / {advice.sequences} "
        "until the first that is not shown to hold. Losses are against the same model in FP32."
    )


def _explain_shortage(advice: Advice, tested: list[Judged]) -> list[str]:
    """Say how many documents would be needed if these are too few, else nothing."""
    documents = max(one.candidate.documents for one in tested)
    level = LEVEL / advice.sequences
    best = score_bound(0, 0, documents, level)
    if best <= advice.wish.max_drop:
        return []
    alone = score_bound(0, 0, documents, LEVEL)
    enough = math.ceil(math.log(level) / math.log1p(-advice.wish.max_drop))
    return [
        f"{documents} documents cannot show it: a model that loses none of them is within {_points(best)} "
        f"at this level ({_points(alone)} if it were the only sequence). {enough} documents could, or fewer "
        "candidates (--where model=generative), or a larger --max-drop."
    ]


def _points(share: float) -> str:
    return f"{format_percent(share, 2)} points"


def tabulate_advice(advice: Advice, made_by: str, rows: int) -> list[Exhibit]:
    """Tabulate the runners-up, the ones to avoid and, if nothing holds, those that come closest.

    Args:
        advice: the answer of :func:`recommend`.
        made_by: the command, for the sentence that says where the rest is.
        rows: maximum rows of each table.
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
        ("closest", "Not shown to hold: the closest", rest.clear() if len(held) else rest),
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
    """Print the answer, its evidence, the runners-up and the configurations to avoid."""
    for sentence in write_headline(advice):
        console.print(Text(sentence))
    held = advice.of(HOLDS)
    if held:
        best = held[0].candidate
        console.print(heading("Evidence"))
        rests_on = f"{count_of(best.seeds, 'seed')}, {best.documents} documents each"
        console.print(note(f"{rests_on}; cells {' '.join(best.cell_ids)}"))
    for exhibit in tabulate_advice(advice, made_by, rows):
        console.print(heading(exhibit.title))
        console.print(render_exhibit(exhibit))
        console.print(note(exhibit.n))
    used = {one.verdict for one in advice.judged}
    for verdict, meaning in VERDICTS.items():
        if verdict in used:
            console.print(note(f"{verdict}: {meaning}"))


def list_all(advice: Advice) -> pl.DataFrame:
    """List every configuration with its verdict and its cells, for CSV; losses in points."""
    keys = [field for field in advice.told_apart if field in advice.table.columns]
    numbers = (
        "bits", "quantized_bytes", "fp32", "accuracy", "lost", "at_least", "at_most", "seeds", "documents",
        "remark", "verdict", "cells",
    )  # fmt: skip
    return advice.table.select(*dict.fromkeys(("dataset", *keys)), *numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommend(TableQuestion):
    """Name the smallest configuration whose loss is shown to stay within a bound, with its evidence.

    List the runners-up and the configurations to avoid. The confidence of 95 % covers all configurations
    that were tried: see docs/answers.md.
    """

    where: Where = ()
    max_drop: float = 1.0  # points of accuracy that may be lost against FP32
    max_bytes: int | None = None  # largest allowed size of the model in bytes; None allows any
    noise: float | None = None  # noise level, such as 0.1, at which the bound has to hold, too
    rows: Count = 5  # list N runners-up, and N configurations to avoid

    def advise(self, results: Results) -> Advice:
        """Judge the configurations.

        Raises:
            ResultsError: if a limit is not allowed, a condition leaves nothing, or no cell has the noise.
        """
        try:
            wish = Wish(self.max_drop / 100, self.max_bytes, self.noise)
        except ValueError as problem:
            raise ResultsError(str(problem)) from problem
        return recommend(results, wish, self.where)

    def table(self, results: Results) -> pl.DataFrame:
        """Return every configuration with its cells."""
        return list_all(self.advise(results))

    def print(self, results: Results, console: Console) -> None:
        """Print the advice."""
        words = ["recommend", self.results, "--max-drop", f"{self.max_drop:g}"]
        words += [] if self.max_bytes is None else ["--max-bytes", str(self.max_bytes)]
        words += [] if self.noise is None else ["--noise", f"{self.noise:g}"]
        print_advice(self.advise(results), console, format_command(words, self.where), self.rows)
