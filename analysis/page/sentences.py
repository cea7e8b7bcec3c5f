"""The findings of a sweep in sentences, computed from its results."""

from __future__ import annotations

from typing import Any

import polars as pl

from analysis.frames.axes import BALANCED, CLEAN, KEYS, label_of, noise_label, shown_keys
from analysis.presentation.phrasing import capitalize, format_bits, format_points
from analysis.statistics.families import CHANGED, UNKNOWN

TOLERATED = 1.0  # points that may be lost "within" the sentences


def summarize(points: pl.DataFrame, judged: pl.DataFrame) -> list[str]:
    """Summarize the findings in a few sentences.

    Args:
        points: the return value of `analysis.statistics.points.points`.
        judged: the return value of `analysis.statistics.families.judged_shifts`.

    Returns:
        The sentences, the simplest first; a single one that says so if no cell is finished.
    """
    finished = points.filter(pl.col("seeds") > 0)
    if finished.is_empty():
        return ["No cell is finished yet: there is nothing to say about accuracy."]
    said = [
        *_summarize_survival(finished),
        *_summarize_ratios(finished),
        *_summarize_noise(finished),
        *_summarize_collapses(finished),
    ]
    said += _summarize_shifts(judged)
    seeds = finished["seeds"].to_numpy().max()
    if finished["drop_low"].count() == 0:
        said.append(
            "There are no intervals: no quantized cell can be compared with FP32 document by document, or "
            "the results are of schema version 1, which kept no true classes."
        )
    elif seeds == 1:
        said.append("One seed: the intervals cover the choice of test documents, not of the training run.")
    return said


def _format_settings(row: dict[str, Any], keys: list[str]) -> str:
    """Format the settings of a row that vary."""
    plain = {"embedding": "{} vectors", "internal_bits": "internals {}", "algorithm": "{}", "dataset": "{}"}
    return ", ".join(
        plain.get(key, label_of(key) + " {}").format(row[key]) for key in keys if row[key] is not None
    )


def _summarize_survival(finished: pl.DataFrame) -> list[str]:
    """Name, per model and setting, the FP32 accuracy and the fewest bits shown to lose at most a point."""
    keys = shown_keys(finished)
    clean = finished.filter(
        pl.col("noise") == CLEAN, (pl.col("class_ratio") == BALANCED) | pl.col("class_ratio").is_null()
    )
    said = []
    for (model,), rows in clean.group_by("model", maintain_order=True):
        parts = []
        for _, part in rows.group_by(keys, maintain_order=True):
            place = _format_settings(part.row(0, named=True), keys)
            fp32 = part.filter(pl.col("bits").is_null())["accuracy"].to_list()
            quantized = part.filter(pl.col("bits").is_not_null(), pl.col("drop_high").is_not_null())
            start = f"{place}: FP32 {100 * fp32[0]:.1f} %" if fp32 else place
            if quantized.is_empty():
                parts.append(start)
                continue
            # The widths hold from the widest down to the last before the first that does not.
            held = quantized.sort("bits", descending=True)
            bad = held.filter(pl.col("drop_high") > TOLERATED / 100)
            last = held.filter(pl.col("bits") > bad["bits"].to_numpy().max()) if len(bad) else held
            least = held.row(-1, named=True)
            lost = format_points(*(least[name] for name in ("accuracy_drop", "drop_low", "drop_high")))
            worst = f"at {least['bits']} bits it loses {lost}"
            fits = (
                f"down to {last['bits'].to_numpy().min()} bits" if len(last) else "at no width that was run"
            )
            parts.append(f"{start}, within {TOLERATED:g} point {fits}; {worst}")
        said.append(
            f"The {model} model, calibrated on balanced classes, clean input. "
            + ". ".join(map(capitalize, parts))
            + "."
        )
    return said


def _summarize_ratios(finished: pl.DataFrame) -> list[str]:
    """Answer the paper's question: how much an uneven calibration set costs, and where it costs most."""
    compared = finished.filter(pl.col("noise") == CLEAN, pl.col("effect").is_not_null())
    said = []
    for (model,), rows in compared.group_by("model", maintain_order=True):
        worse = rows.filter(pl.col("effect_low") > 0)
        worst = rows.sort("effect", descending=True).row(0, named=True)
        place = _format_settings(worst, shown_keys(finished))
        said.append(
            f"Uneven calibration of the {model} model: worse than balanced beyond chance in {len(worse)} of "
            f"{len(rows)} settings on clean input; most at {worst['bits']} bits with {worst['class_ratio']} "
            f"({place}): {format_points(*(worst[name] for name in ('effect', 'effect_low', 'effect_high')))}."
        )
    return said


def _summarize_noise(finished: pl.DataFrame) -> list[str]:
    """Name the cost of the strongest noise for FP32 and for the narrowest width."""
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
            f"{format_bits(row['bits'], ' bits')} from {100 * row['clean']:.1f} to "
            f"{100 * row['accuracy']:.1f} %"
            for row in (both.row(0, named=True), both.row(-1, named=True))
        ]
        kind = there.with_columns(noise_label())["input"][0]
        place = _format_settings(both.row(0, named=True), shown_keys(finished))
        said.append(f"Under {kind} the {model} model falls ({place}): {', '.join(dict.fromkeys(parts))}.")
    return said


def _summarize_collapses(finished: pl.DataFrame) -> list[str]:
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


def _summarize_shifts(judged: pl.DataFrame) -> list[str]:
    names = {"balanced_vs_ratio": "class ratio", "clean_vs_noisy": "noise"}
    said = []
    for (contrast,), rows in judged.group_by("contrast", maintain_order=True):
        changed, unknown = rows.filter(verdict=CHANGED), rows.filter(verdict=UNKNOWN)
        text = f"The {names[str(contrast)]} changed the activations in {len(changed)} of {len(rows)} tests"
        if len(changed):
            most = changed.sort("d", descending=True).row(0, named=True)
            width = format_bits(most["bits"], " bits")
            text += (
                f" (q < .05, and further than redrawing the calibration set moves them); most in "
                f"{most['tensor']} of the {most['model']} model, {most['embedding']} vectors, {width}: "
                f"D = {most['d']:.3f}"
            )
        if len(unknown):
            text += (
                f"; in {len(unknown)} it is unknown, since no calibration set was redrawn to measure chance"
            )
        said.append(text + ".")
    return said
