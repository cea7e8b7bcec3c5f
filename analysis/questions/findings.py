"""``findings``: the paper's four findings held against a sweep, by stated rules and with their evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.frames.answers import right_answers
from analysis.frames.axes import BALANCED, CLEAN, QUANTIZATION_KEYS, USUAL, describe_value
from analysis.frames.reading import Results, ResultsError, load
from analysis.presentation.exhibits import Column, Exhibit, format_command
from analysis.presentation.exports import format_table
from analysis.presentation.phrasing import format_interval, format_percent, join_values
from analysis.questions.mechanism import mechanism
from analysis.questions.question import Folder, Question
from analysis.statistics.intervals import Interval, pair_answers, pair_drop
from analysis.statistics.points import DROP, EFFECT, points
from lstmptq.runtime.locations import Location
from lstmptq.spec.models import QUANTIZED_MODELS
from lstmptq.spec.parsing import SAME

LOW_BITS = 4  # the widths at which the paper sees models break
MATTERS = 0.01  # share of accuracy: a smaller loss counts as no harm, however certain it is
ROBUST = 0.05  # share of accuracy: a model that loses at most this to noise counts as robust to it
UNCORRECTED = "none"
RULES = (
    f"The claims are about {LOW_BITS} bits and less. Each is judged for every recipe (weight correction, "
    "bits of the LSTM's internals) at the lowest width measured: it **holds** if it does so for every "
    "recipe, **does not hold** if for none, else only with those that are named. Numbers are points of "
    "accuracy; intervals are 95 % paired bootstraps over seeds and documents."
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a claim holds for one recipe at one width, and why."""

    recipe: str
    bits: int
    holds: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim of the paper, the rule that judges it, and its outcome for each recipe."""

    title: str
    rule: str
    outcomes: list[Outcome]

    def verdict(self) -> str:
        """Say in one phrase whether the claim holds, or with which recipes."""
        if not self.outcomes:
            return "was not measured"
        lowest: dict[str, Outcome] = {}
        for outcome in sorted(self.outcomes, key=lambda one: -one.bits):
            lowest[outcome.recipe] = outcome
        held = [recipe for recipe, outcome in lowest.items() if outcome.holds]
        if len(held) == len(lowest):
            return "holds"
        return f"holds only with {'; '.join(held)}" if held else "does not hold"


def findings(results: Results) -> list[Finding]:
    """Judge the four findings of arXiv 2507.09687, on clean input unless they are about noise.

    Args:
        results: the results of a sweep of one corpus and one source of vectors.

    Raises:
        ResultsError: if several corpora or sources are in the results: each needs a judgement of its own.
    """
    of_lstms = pl.col("model").is_in(QUANTIZED_MODELS)  # the claims are about them
    found = points(results).filter(pl.col("seeds") > 0, of_lstms)
    for key in ("dataset", "embedding", "checkpoint"):
        values = found[key].unique().sort().to_list()
        if len(values) > 1:
            raise ResultsError(
                f"findings are of one {key}, these results have {join_values(values)}: "
                "give a directory with one"
            )
    low = found.filter(pl.col("bits") <= LOW_BITS)
    clean = low.filter(pl.col("noise") == CLEAN)
    return [
        _sensitive(clean),
        _hurt_by_imbalance(clean),
        _unadapted(clean, results),
        _noise(found, low, results),
    ]


def _group_recipes(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the name of each recipe in words, and its rows."""
    for _, part in rows.group_by(QUANTIZATION_KEYS, maintain_order=True):
        first = part.row(0, named=True)
        names = [describe_value(key, first[key]) for key in QUANTIZATION_KEYS if rows[key].n_unique() > 1]
        yield ", ".join(names) or describe_value("algorithm", first["algorithm"]), part


def _find(rows: pl.DataFrame, **where: Any) -> Row | None:
    """Find the row with these values; null equals null, for columns that an older schema lacks."""
    found = rows.filter(pl.col(key).eq_missing(value) for key, value in where.items())
    return found.row(0, named=True) if len(found) else None


def _format_loss(row: Row, names: tuple[str, str, str] = ("accuracy_drop", *DROP)) -> str:
    value, low, high = (row[name] for name in names)
    return f"{format_percent(value)} ({format_interval(low, high)})"


def _sensitive(clean: pl.DataFrame) -> Finding:
    outcomes = []
    for recipe, part in _group_recipes(clean.filter(pl.col("class_ratio") == BALANCED)):
        for bits in part["bits"].unique().sort(descending=True):
            pair = [_find(part, model=model, bits=bits) for model in ("generative", "discriminative")]
            generative, discriminative = pair
            if generative is None or discriminative is None:
                continue
            if generative["drop_low"] is None or discriminative["drop_low"] is None:
                continue
            outcomes.append(
                Outcome(
                    recipe, bits, generative["drop_low"] > discriminative["drop_high"],
                    f"generative loses {_format_loss(generative)}, "
                    f"discriminative {_format_loss(discriminative)}",
                )
            )  # fmt: skip
    return Finding(
        "The discriminative model is robust, the generative one sensitive",
        "at balanced calibration the interval of the points that the generative model loses lies above that "
        "of the discriminative model.",
        outcomes,
    )


def _hurt_by_imbalance(clean: pl.DataFrame) -> Finding:
    uneven = clean.filter(pl.col("class_ratio") != BALANCED, pl.col("effect").is_not_null())
    outcomes = [
        Outcome(
            recipe, row["bits"], _hurts(row),
            f"{row['class_ratio']} costs the generative model {_format_loss(row, EFFECT)} against balanced"
            f"{_beside(uneven, row)}",
        )
        for recipe, part in _group_recipes(uneven.filter(pl.col("model") == "generative"))
        for row in _hardest(part)
    ]  # fmt: skip
    return Finding(
        "Uneven calibration classes hurt the generative model at low bits",
        f"against the balanced twin at least {100 * MATTERS:.0f} point is lost, the interval above 0; of "
        "several ratios the most uneven counts.",
        outcomes,
    )


def _hurts(row: Row) -> bool:
    return bool(row["effect"] >= MATTERS and row["effect_low"] > 0)


def _hardest(part: pl.DataFrame) -> Iterator[Row]:
    """Yield the row of the most uneven ratio at each width: the last in the order of the points."""
    for _, rows in part.group_by("bits", maintain_order=True):
        yield rows.row(-1, named=True)


def _beside(uneven: pl.DataFrame, row: Row) -> str:
    same = {key: row[key] for key in (*QUANTIZATION_KEYS, "class_ratio", "bits")}
    other = _find(uneven, model="discriminative", **same)
    if other is None:
        return ""
    return f", the discriminative one {_format_loss(other, EFFECT)}"


def _unadapted(clean: pl.DataFrame, results: Results) -> Finding:
    moved = mechanism(results.cells, results.tensors)
    generative = clean.filter(pl.col("model") == "generative", pl.col("drop_low").is_not_null())
    corrected = generative.filter(
        pl.col("algorithm") != UNCORRECTED,
        pl.col("class_ratio") != BALANCED,
        pl.col("effect").is_not_null(),
    )
    outcomes = []
    for recipe, part in _group_recipes(corrected):
        for row in _hardest(part):
            plain = _find(
                generative, algorithm=UNCORRECTED, bits=row["bits"], class_ratio=row["class_ratio"],
                **{key: row[key] for key in ("internal_bits", *USUAL)},
            )  # fmt: skip
            width = row["bits"] if row["internal_bits"] == SAME else int(row["internal_bits"])
            same = {key: row[key] for key in ("algorithm", "bits", *USUAL)} | {"internal_bits": width}
            moves = [_find(moved, class_ratio=ratio, **same) for ratio in (row["class_ratio"], BALANCED)]
            mine, twin = moves
            if plain is None or mine is None or twin is None:
                continue
            if mine["hidden_moved"] is None or twin["hidden_moved"] is None:
                continue
            less = mine["hidden_moved"] < twin["hidden_moved"]
            no_better = row["drop_low"] <= plain["drop_high"]
            outcomes.append(
                Outcome(
                    recipe, row["bits"], _hurts(row) and less and no_better,
                    f"the decoder's columns for the hidden state move by {mine['hidden_moved']:.3f} of their "
                    f"norm ({row['class_ratio']}) and {twin['hidden_moved']:.3f} (balanced), those for the "
                    f"label by {mine['label_moved']:.3f} and {twin['label_moved']:.3f}; {row['class_ratio']} "
                    f"loses {_format_loss(row)} against FP32, uncorrected {_format_loss(plain)}",
                )
            )  # fmt: skip
    return Finding(
        "... through insufficient weight adaptation",
        "uneven classes hurt, the decoder's columns for the hidden state move less from FP32 than the "
        "balanced twin's, and a decoder that does not adapt at all (no correction) loses at least as much.",
        outcomes,
    )


def _noise(found: pl.DataFrame, low: pl.DataFrame, results: Results) -> Finding:
    noisy = low.filter(
        pl.col("noise") != CLEAN, pl.col("model") == "generative", pl.col("class_ratio") == BALANCED,
        pl.col("drop_low").is_not_null(),
    )  # fmt: skip
    if noisy.is_empty():
        return _noise_finding([])
    hardest = noisy.sort("noise_level").row(-1, named=True)
    kind, level = hardest["noise"], hardest["noise_level"]
    noisy = noisy.filter(pl.col("noise") == kind, pl.col("noise_level") == level)
    fp32 = found.filter(pl.col("bits").is_null(), pl.col("model") == "generative")
    sides = [
        [cell for ids in fp32.filter(noise=name, noise_level=at)["cell_ids"] for cell in ids]
        for name, at in ((CLEAN, 0.0), (kind, level))
    ]
    lost = _lost_to_noise(results, *sides)
    if lost is None:
        return _noise_finding([])
    outcomes = []
    for recipe, part in _group_recipes(noisy):
        for row in part.iter_rows(named=True):
            same = {key: row[key] for key in (*QUANTIZATION_KEYS, "class_ratio", "bits", "model")}
            twin = _find(low, noise=CLEAN, **same)
            if twin is None or twin["drop_low"] is None:
                continue
            robust, breaks = lost.value <= ROBUST, row["drop_low"] > twin["drop_high"]
            outcomes.append(
                Outcome(
                    recipe, row["bits"], robust and breaks,
                    f"in full precision {kind} {100 * level:g}% costs {format_percent(lost.value)} "
                    f"({format_interval(lost.low, lost.high)}), "
                    f"{'no' if robust else 'which is'} more than {100 * ROBUST:.0f}; quantization costs "
                    f"{_format_loss(row)} on top, {'more than' if breaks else 'not surely more than'} the "
                    f"{_format_loss(twin)} on clean input",
                )
            )  # fmt: skip
    return _noise_finding(outcomes)


def _noise_finding(outcomes: list[Outcome]) -> Finding:
    return Finding(
        "The generative model is robust to noise in full precision, but not quantized",
        f"at the highest noise level FP32 loses at most {100 * ROBUST:.0f} points to noise, and quantization "
        "costs more under noise than on clean input, interval above interval.",
        outcomes,
    )


def _lost_to_noise(results: Results, clean: list[str], noisy: list[str]) -> Interval | None:
    """Estimate the points that FP32 models lose to noise, paired by model."""
    cells = results.cells.filter(pl.col("cell_id").is_in([*clean, *noisy]))
    ids = cells.select("model_id", "cell_id").collect()
    twins = ids.filter(pl.col("cell_id").is_in(clean)).select("model_id", reference="cell_id")
    # an FP32 cell stands beside every recipe, so it occurs several times and is drawn as often
    listed = pl.DataFrame({"cell_id": noisy}, schema={"cell_id": pl.String})
    rows = listed.join(ids, on="cell_id", maintain_order="left")
    rows = rows.join(twins, on="model_id", maintain_order="left")
    pairs = pair_answers(rows, right_answers(cells, results.predictions))
    return pair_drop(pairs) if pairs else None


def drops_exhibit(found: pl.DataFrame) -> Exhibit:
    """Tabulate every drop on clean input, with its interval."""
    rows = found.filter(pl.col("bits").is_not_null(), pl.col("noise") == CLEAN)
    percent = [(100 * pl.col(name)).alias(name) for name in ("accuracy", "accuracy_drop", *DROP, *EFFECT)]
    columns = (
        Column("model"), Column("algorithm"), Column("internal_bits"), Column("bits"), Column("class_ratio"),
        Column("accuracy", "accuracy", "%", 1), Column("accuracy_drop", "lost against FP32", "points", 1),
        Column("drop_low", "from", "points", 1), Column("drop_high", "to", "points", 1),
        Column("effect", "lost against balanced", "points", 1),
        Column("effect_low", "from", "points", 1), Column("effect_high", "to", "points", 1),
    )  # fmt: skip
    seeds, documents = (rows[name].to_numpy().max() for name in ("seeds", "documents"))
    return Exhibit(
        "findings", "Accuracy lost on clean input, with 95 % intervals", columns, rows.with_columns(percent),
        f"{seeds} seeds of {documents} test documents each",
        ("The internals of a recipe read `same` if they are as wide as the weights.",),
    )  # fmt: skip


def write_findings(path: Location, out: Path) -> None:
    """Write the findings on the sweep in `path` as the Markdown file `out`.

    Raises:
        ResultsError: if there is nothing to judge, or `out` cannot be written.
    """
    results = load(path)
    found = points(results).filter(pl.col("seeds") > 0)
    if found["drop_low"].count() == 0:
        raise ResultsError(
            f"nothing to judge in {path}: findings need FP32 and quantized cells with answers by document"
        )
    text = format_findings(results, found, format_command(["findings", path, "--out", out]))
    try:
        out.write_text(text)
    except OSError as problem:
        raise ResultsError(f"{out} cannot be written: {problem.strerror}") from problem


def format_findings(results: Results, found: pl.DataFrame, made_by: str) -> str:
    """Format the findings as Markdown, with the points `found` below them."""
    first = found.row(0, named=True)
    about = f"{first['dataset']}, {first['embedding']} vectors"
    lines = [
        f"# The paper's findings, on {about}",
        "",
        f"Written by `{made_by}`; do not edit.",
        "",
        RULES,
        "",
    ]
    judged = findings(results)
    lines += [f"{number}. {one.title}: **{one.verdict()}**." for number, one in enumerate(judged, start=1)]
    for number, one in enumerate(judged, start=1):
        lines += ["", f"## {number}. {one.title}", "", f"It {one.verdict()}. Rule: {one.rule}", ""]
        for outcome in one.outcomes:
            answer = "yes" if outcome.holds else "no"
            lines.append(f"- {outcome.recipe}, {outcome.bits} bits: {answer}; {outcome.evidence}.")
    lines += ["", "## Every drop", "", format_table(drops_exhibit(found), "markdown", made_by)]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings(Question):
    """Hold the paper's four findings against a sweep: verdicts by stated rules, with their evidence."""

    results: Folder
    out: Path = Path("findings.md")  # the Markdown file to write

    def answer(self) -> None:
        """Write the findings."""
        write_findings(self.results, self.out)
        print(f"wrote {self.out}")
