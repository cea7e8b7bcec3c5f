"""Rows for quantizers whose output is not a recorded stage: their parameters and how much they clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lstmptq.measures.activations import RecordedStage, quantizer_columns
from lstmptq.measures.documents import LevelCounts
from lstmptq.quantization.classifier import FloatGraph
from lstmptq.quantization.lstm import StageFunction
from lstmptq.quantization.quantizer import Quantizer


def quantizer_rows(
    classifier: FloatGraph, stages: Mapping[str, RecordedStage], documents: int
) -> list[dict[str, Any]]:
    """Build the `fp32_vs_quantized` rows of quantizers without a stage, so that every quantizer has a row.

    These are the sigmoids and tanhs, the two terms that the quantizer of the cell state takes before their
    sum, and the label vectors at the decoder. Rows have the quantizer and its clipping only, since no
    distribution is recorded.

    Args:
        classifier: a quantized model.
        stages: the recorded stages of the model over a sample of documents.
        documents: number of these documents.

    Returns:
        One row per quantizer, without `documents` if the values do not depend on documents.
    """
    rows = [
        _function_row(made, stages[made.stage]) | {"documents": documents}
        for made in classifier.encoder.functions()
    ]
    for name, stage in stages.items():
        for part, share in stage.also_clipped.items():
            row = _row(f"{name}.{part}", stage.quantizer, share, stage.distribution.n)
            rows.append(row | {"documents": documents})
    for name, (values, quantizer) in classifier.fixed_activations().items():
        clipped = float(quantizer.clipped(values).float().mean())
        used = {"levels_used": len(quantizer.codes(values).unique())}
        rows.append(_row(name, quantizer, clipped, values.numel()) | used)
    return rows


def _function_row(made: StageFunction, source: RecordedStage) -> dict[str, Any]:
    """Build the row of a sigmoid or tanh from the level counts of its stage, without its values."""
    assert source.quantizer is not None
    assert isinstance(source.by_document, LevelCounts)
    counts = torch.from_numpy(source.by_document.counts.sum(axis=0))
    levels = torch.arange(len(counts), dtype=torch.float32) + source.by_document.lowest
    values = made.function(levels * source.quantizer.scale.cpu())  # as in the evaluator, one value per level
    quantizer = replace(made.quantizer, scale=made.quantizer.scale.cpu())
    clipped = int(counts[quantizer.clipped(values)].sum()) / int(counts.sum())
    used = {"levels_used": len(quantizer.codes(values)[counts > 0].unique())}
    return _row(made.name, quantizer, clipped, int(counts.sum())) | used


def _row(name: str, quantizer: Quantizer | None, clipped: float, n: int) -> dict[str, Any]:
    return {
        "tensor": name,
        "kind": "activation",
        "contrast": "fp32_vs_quantized",
        **quantizer_columns(quantizer),
        "n": n,
        "clip_fraction": clipped,
    }
