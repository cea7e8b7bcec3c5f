"""Results directories of any size with made-up numbers, to test the analysis under load."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lstmptq.results import CELLS, PREDICTIONS, SCHEMA_VERSION, TENSORS

CELLS_A_FILE = 10_000
# Columns whose numbers all differ; in others the numbers repeat.
ENTROPY = ("ks_d", "ks_d_dithered", "document_d", "p_permutation", "wasserstein")
DATASETS, EMBEDDINGS, MODELS = (
    ("bbc_news", "ag_news"),
    ("word2vec", "glove", "spacy"),
    ("discriminative", "generative"),
)
HIDDEN, SIZES, SEEDS = (50, 100, 200, 400), (1_000, 5_000, 20_000), range(5)
NOISES = (("clean", 0.0), ("typo", 0.05), ("typo", 0.1), ("typo", 0.2), ("swap", 0.1))
BITS, INTERNALS = (8, 7, 6, 5, 4, 3), ("8", "same")
ALGORITHMS = ("none", "gpfq", "gptq", "qronos")
RATIOS = ("balanced", "classes:3", "classes:2", "classes:1", "head:0.7", "head:0.9")
STAGES = (
    "embedding", "lstm.0.input_gate", "lstm.0.forget_gate", "lstm.0.cell_gate", "lstm.0.output_gate",
    "lstm.0.cell_state", "lstm.0.hidden_state", "decoder_input", "logits",
)  # fmt: skip
WEIGHTS = ("embedding.weight", "input_gate.weight", "forget_gate.weight", "cell_gate.weight",
           "output_gate.weight", "decoder.weight")  # fmt: skip
Row = dict[str, Any]


def settings() -> Iterator[Row]:
    """Yield the axis values of cells, model by model, without end: further seeds follow."""
    for first in itertools.count(0, len(SEEDS)):
        for dataset, size, hidden, embedding, model, seed in itertools.product(
            DATASETS, SIZES, HIDDEN, EMBEDDINGS, MODELS, SEEDS
        ):
            same = {"dataset": dataset, "training_documents": size, "hidden": hidden, "embedding": embedding,
                    "model": model, "seed": first + seed}  # fmt: skip
            for noise, level in NOISES:
                yield same | {"noise": noise, "noise_level": level}
                for bits, internal, algorithm, ratio in itertools.product(
                    BITS, INTERNALS, ALGORITHMS, RATIOS
                ):
                    yield same | {
                        "noise": noise, "noise_level": level, "bits": bits, "algorithm": algorithm,
                        "internal_bits": bits if internal == "same" else int(internal), "class_ratio": ratio,
                    }  # fmt: skip


def write_synthetic(out: Path, cells: int, tensors: int = 50, cells_a_file: int = CELLS_A_FILE) -> None:
    """Write a results directory as a sweep does, without predictions.

    Args:
        out: the directory to create.
        cells: number of cells.
        tensors: rows of `tensors` per cell.
        cells_a_file: cells per file; a sweep publishes at most 64.
    """
    rng = np.random.default_rng(0)
    for table in ("cells", "tensors", "predictions"):
        (out / table).mkdir(parents=True, exist_ok=True)
    names = [(name, "activation", contrast) for contrast in
             ("fp32_vs_quantized", "balanced_vs_ratio", "clean_vs_noisy", "null_halves", "balanced_vs_redraw")
             for name in STAGES] + [(name, "weight", "fp32_vs_quantized") for name in WEIGHTS]  # fmt: skip
    names = [names[place % len(names)] for place in range(tensors)]
    endless = settings()
    for number, start in enumerate(range(0, cells, cells_a_file), start=1):
        rows = list(itertools.islice(endless, min(cells_a_file, cells - start)))
        ids = [hashlib.sha256(str(start + place).encode()).hexdigest() for place in range(len(rows))]
        file = f"segment-{number:05d}.parquet"
        pq.write_table(_cells(rows, ids, rng), out / "cells" / file, compression="zstd")
        pq.write_table(_tensors(rows, ids, names, rng), out / "tensors" / file, compression="zstd")
    pq.write_table(PREDICTIONS.empty_table(), out / "predictions" / "segment-00000.parquet")
    record = {"schema_version": SCHEMA_VERSION, "cells": cells, "command": "made up"}
    (out / "sweep.json").write_text(json.dumps(record))


def _cells(rows: list[Row], ids: list[str], rng: np.random.Generator) -> pa.Table:
    count = len(rows)
    wrong = rng.uniform(0.03, 0.2, count)
    versions = json.dumps({"python": "3.11", "torch": "2.13.0", "polars": "2.1"})
    columns: dict[str, Any] = {
        name: [row.get(name) for row in rows] for name in CELLS.names if any(name in row for row in rows)
    }
    right = np.round((1 - wrong) * 80).astype(int)
    columns |= {
        "cell_id": ids, "schema_version": [SCHEMA_VERSION] * count, "status": ["ok"] * count,
        "dataset_digest": [""] * count, "embedding_source": [row["embedding"] for row in rows],
        "embedding_dim": [50] * count, "layers": [1] * count,
        "model_id": [
            hashlib.sha256(
                repr([row[name] for name in ("dataset", "training_documents", "hidden", "embedding", "model",
                                             "seed")]).encode()
            ).hexdigest()
            for row in rows
        ],
        "accuracy": 1 - wrong, "macro_f1": 1 - wrong, "nll": wrong * 3, "ece": wrong / 3,
        "fp32_accuracy": np.full(count, 0.97), "accuracy_drop": 0.97 - 1 + wrong,
        "confusion": [[[n if a == b else (85 - n) // 4 for b in range(5)] for a in range(5)] for n in right],
        "classes": [["a", "b", "c", "d", "e"]] * count, "documents": [425] * count,
        "parameters": [1_000_000] * count, "fp32_bytes": [4_000_000] * count,
        "quantized_bytes": [125_000 * (row.get("bits") or 32) for row in rows],
        "evaluate_seconds": wrong * 4, "documents_per_second": 100 / wrong, "kernel": ["native"] * count,
        "host": ["made-up"] * count, "git_sha": ["0" * 40] * count, "versions": [versions] * count,
    }  # fmt: skip
    quantized = [row.get("bits") is not None for row in rows]
    for name, value in (
        ("calibration_labels", "own"), ("observer", "mean"), ("io_scales", "shared"), ("padding", "counted"),
    ):  # fmt: skip
        columns[name] = [value if there else None for there in quantized]
    return _table(columns, count, CELLS)


def _tensors(
    rows: list[Row], ids: list[str], names: list[tuple[str, str, str]], rng: np.random.Generator
) -> pa.Table:
    each, count = len(names), len(rows) * len(names)
    repeat = np.repeat(np.arange(len(rows)), each)
    tile = np.tile(np.arange(each), len(rows))
    columns: dict[str, Any] = {"cell_id": pa.array(ids).take(pa.array(repeat))}
    for place, name in enumerate(("tensor", "kind", "contrast")):
        columns[name] = pa.array([one[place] for one in names]).take(pa.array(tile))
    columns["bits"] = pa.array([row.get("bits") for row in rows], pa.int32()).take(pa.array(repeat))
    pool = rng.random(1024)
    for field in TENSORS:
        if field.name in columns or field.name.startswith("quantiles"):
            continue
        if field.name in ENTROPY:
            columns[field.name] = rng.random(count)
        elif pa.types.is_floating(field.type):
            columns[field.name] = pool[rng.integers(0, len(pool), count)]
        else:
            columns[field.name] = np.full(count, 1)
    return _table(columns, count, TENSORS)


def _table(columns: dict[str, Any], count: int, schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        given = columns.get(field.name)
        if given is None:
            arrays.append(pa.nulls(count, field.type))
        elif isinstance(given, pa.Array):
            arrays.append(given.cast(field.type))
        else:
            arrays.append(pa.array(given).cast(field.type) if isinstance(given, np.ndarray)
                          else pa.array(given, field.type))  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=schema)
