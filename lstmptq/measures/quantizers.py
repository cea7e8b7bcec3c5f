"""The quantizers behind no recorded stage: what they are, and how much they clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lstmptq.measures.activations import RecordedStage, quantizer_columns
from lstmptq.measures.documents import LevelCounts
from lstmptq.quantization.classifier import QuantizedClassifier
from lstmptq.quantization.lstm import StageFunction
from lstmptq.quantization.quantizer import Quantizer


def quantizer_rows(
    classifier: QuantizedClassifier, stages: Mapping[str, RecordedStage], documents: int
) -> list[dict[str, Any]]:
    """`fp32_vs_quantized` rows of what is quantized and is no stage, so that every quantizer has its row.

    They are the sigmoids and tanhs, what the cell state's quantizer takes before the sum, and the label
    vectors at the decoder: quantizer and clipping alone, for no distribution of theirs is kept.

    Args:
        classifier: a quantized model.
        stages: its own, over a sample of documents.
        documents: how many these are.

    Returns:
        One row each; without `documents` where no document changes the values.
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
    """The row of a function of a stage, whose levels are counted already: no pass over the values."""
    assert source.quantizer is not None
    assert isinstance(source.by_document, LevelCounts)
    counts = torch.from_numpy(source.by_document.counts.sum(axis=0))
    levels = torch.arange(len(counts), dtype=torch.float32) + source.by_document.lowest
    values = made.function(levels * source.quantizer.scale.cpu())  # as the evaluator: one value a level
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
