"""What a sweep found, in sentences that are computed from it."""

from __future__ import annotations

from typing import Any

import polars as pl

from analysis.frames.axes import BALANCED, CLEAN, FP32, KEYS, label_of, noise_label, shown_keys
from analysis.presentation.phrasing import format_percent
from analysis.statistics.families import CHANGED, UNKNOWN

TOLERATED = 1.0  # points: "survives" in a sentence


def summarize(points: pl.DataFrame, judged: pl.DataFrame) -> list[str]:
    """The answer in a few sentences.

    Args:
        points: of `analysis.statistics.points.points`.
        judged: of `analysis.statistics.families.judged_shifts`.

    Returns:
        Sentences, the plainest first; one that says so where nothing is finished.
    """
    finished = points.filter(pl.col("seeds") > 0)
    if finished.is_empty():
        return ["No cell is finished yet: there is nothing to say about accuracy."]
    said = [*_survival(finished), *_ratios(finished), *_noise(finished), *_collapses(finished)]
    said += _shifts(judged)
    seeds = finished["seeds"].to_numpy().max()
    if finished["drop_low"].count() == 0:
        said.append(
            "There are no intervals: nothing quantized stands beside FP32 document by document, or the "
            "results are of schema version 1, which kept no true classes."
        )
    elif seeds == 1:
        said.append(
            "One seed: the intervals say how much other documents would change, not how much another "
            "training run would."
        )
    return said


def _where(row: dict[str, Any], keys: list[str]) -> str:
    """The settings of a row that vary, in words."""
    plain = {"embedding": "{} vectors", "internal_bits": "internals {}", "algorithm": "{}", "dataset": "{}"}
    return ", ".join(
        plain.get(key, label_of(key) + " {}").format(row[key]) for key in keys if row[key] is not None
    )


def _survival(finished: pl.DataFrame) -> list[str]:
    """For each model and setting: FP32, and the fewest bits that are within a point for certain."""
    keys = shown_keys(finished)
    clean = finished.filter(
        pl.col("noise") == CLEAN, (pl.col("class_ratio") == BALANCED) | pl.col("class_ratio").is_null()
    )
    said = []
    for (model,), rows in clean.group_by("model", maintain_order=True):
        parts = []
        for _, part in rows.group_by(keys, maintain_order=True):
            place = _where(part.row(0, named=True), keys)
            fp32 = part.filter(pl.col("bits").is_null())["accuracy"].to_list()
            quantized = part.filter(pl.col("bits").is_not_null(), pl.col("drop_high").is_not_null())
            start = f"{place}: FP32 {100 * fp32[0]:.1f} %" if fp32 else place
            if quantized.is_empty():
                parts.append(start)
                continue
            # from the widest downwards, to the last that holds
            held = quantized.sort("bits", descending=True)
            bad = held.filter(pl.col("drop_high") > TOLERATED / 100)
            last = held.filter(pl.col("bits") > bad["bits"].to_numpy().max()) if len(bad) else held
            least = held.row(-1, named=True)
            worst = f"at {least['bits']} bits it loses {_points(least, 'accuracy_drop', 'drop')}"
            fits = (
                f"down to {last['bits'].to_numpy().min()} bits" if len(last) else "at no width that was run"
            )
            parts.append(f"{start}, within {TOLERATED:g} point {fits}; {worst}")
        said.append(
            f"The {model} model, calibrated on balanced classes, clean input. "
            + ". ".join(_capital(parts))
            + "."
        )
    return said


def _capital(parts: list[str]) -> list[str]:
    return [part[:1].upper() + part[1:] for part in parts]


def _points(row: dict[str, Any], value: str, interval: str) -> str:
    """``6.6 points (95 % interval 4.2 to 9.2)``"""
    text = f"{format_percent(row[value])} points"
    low, high = row[f"{interval}_low"], row[f"{interval}_high"]
    return text if low is None else f"{text} (95 % interval {format_percent(low)} to {format_percent(high)})"


def _ratios(finished: pl.DataFrame) -> list[str]:
    """The paper's question: what an uneven calibration set costs, where it costs most."""
    compared = finished.filter(pl.col("noise") == CLEAN, pl.col("effect").is_not_null())
    said = []
    for (model,), rows in compared.group_by("model", maintain_order=True):
        worse = rows.filter(pl.col("effect_low") > 0)
        worst = rows.sort("effect", descending=True).row(0, named=True)
        place = _where(worst, shown_keys(finished))
        said.append(
            f"Uneven calibration of the {model} model: worse than balanced beyond chance in {len(worse)} of "
            f"{len(rows)} settings on clean input; most at {worst['bits']} bits with {worst['class_ratio']} "
            f"({place}): {_points(worst, 'effect', 'effect')}."
        )
    return said


def _noise(finished: pl.DataFrame) -> list[str]:
    """What the strongest noise costs FP32 and the narrowest width."""
    even = finished.filter((pl.col("class_ratio") == BALANCED) | pl.col("class_ratio").is_null())
    said = []
    for (model,), rows in even.group_by("model", maintain_order=True):
        noisy = rows.filter(pl.col("noise") != CLEAN)
        if noisy.is_empty():
            continue
        strongest = noisy.sort("noise_level", descending=True).row(0, named=True)
        alike = [*KEYS, "bits"]
        clean = rows.filter(pl.col("noise") == CLEAN).select(*alike, clean="accuracy")
        there = noisy.filter(noise=strongest["noise"], noise_level=strongest["noise_level"])
        both = there.join(clean, on=alike, nulls_equal=True, maintain_order="left")
        first = both.select(KEYS).head(1)
        both = both.join(first, on=KEYS, how="semi", nulls_equal=True)
        if both.is_empty():
            continue
        parts = [
            f"{FP32 if row['bits'] is None else str(row['bits']) + ' bits'} from {100 * row['clean']:.1f} to "
            f"{100 * row['accuracy']:.1f} %"
            for row in (both.row(0, named=True), both.row(-1, named=True))
        ]
        kind = there.with_columns(noise_label())["input"][0]
        place = _where(both.row(0, named=True), shown_keys(finished))
        said.append(f"Under {kind} the {model} model falls ({place}): {', '.join(dict.fromkeys(parts))}.")
    return said


def _collapses(finished: pl.DataFrame) -> list[str]:
    quantized = finished.filter(pl.col("bits").is_not_null())
    collapsed, dead = quantized["collapsed"].sum(), quantized["dead"].sum()
    said = []
    if collapsed:
        said.append(
            f"{collapsed} of {len(quantized)} quantized settings collapsed: one class took over half of the "
            "documents of the others."
        )
    if dead:
        said.append(
            f"{dead} of {len(quantized)} quantized settings have a dead signal: a stage that gives the same "
            "value for every input."
        )
    return said


def _shifts(judged: pl.DataFrame) -> list[str]:
    names = {"balanced_vs_ratio": "class ratio", "clean_vs_noisy": "noise"}
    said = []
    for (contrast,), rows in judged.group_by("contrast", maintain_order=True):
        changed, unknown = rows.filter(verdict=CHANGED), rows.filter(verdict=UNKNOWN)
        text = f"The {names[str(contrast)]} changed the activations in {len(changed)} of {len(rows)} tests"
        if len(changed):
            most = changed.sort("d", descending=True).row(0, named=True)
            width = FP32 if most["bits"] is None else f"{most['bits']} bits"
            text += (
                f" (q < .05, and further than redrawing the calibration set moves them); most in "
                f"{most['tensor']} of the {most['model']} model, {most['embedding']} vectors, {width}: "
                f"D = {most['d']:.3f}"
            )
        if len(unknown):
            text += (
                f"; in {len(unknown)} it is not known, since no calibration set was "
                "redrawn to tell luck apart"
            )
        said.append(text + ".")
    return said
