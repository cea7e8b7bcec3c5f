"""The activations of every stage over a sample of documents, and the `tensors` rows that compare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmptq.measures.shift import Distribution, shift_columns, sqnr_db
from lstmptq.models.batches import Batch
from lstmptq.quantization.classifier import QuantizedClassifier, QuantizedWeight
from lstmptq.quantization.quantizer import Quantizer


@dataclass
class Stage:
    """One stage's activations at real tokens.

    Attributes:
        values: (rows, features) float32.
        clip_fraction: share that the stage's quantizer clipped; None without one.
        quantizer: whose grid the values lie on; None if they are continuous.
    """

    values: npt.NDArray[np.float32]
    clip_fraction: float | None
    quantizer: Quantizer | None

    @cached_property
    def distribution(self) -> Distribution:
        """Of all values together."""
        if self.quantizer is None:
            return Distribution.of_values(self.values)
        return _levels(torch.from_numpy(self.values), self.quantizer)

    def forget_values(self) -> None:
        """Keep the distribution alone: it is small where the stage is quantized."""
        _ = self.distribution
        self.values = np.empty((0, 0), dtype=np.float32)

    @property
    def is_constant(self) -> bool:
        """Whether every document and token gives the same value."""
        return len(self.distribution.points) == 1


def _levels(values: Tensor, quantizer: Quantizer) -> Distribution:
    scale = quantizer.scale.to(values.device)
    codes = (values / scale).round_().to(torch.int32).cpu().numpy()
    return Distribution.of_levels(codes, float(scale))


@torch.no_grad()
def record_stages(classifier: QuantizedClassifier, batches: Iterable[Batch]) -> dict[str, Stage]:
    """Every stage of `classifier` over `batches`, in the order in which a document passes them."""
    values: dict[str, list[npt.NDArray[np.float32]]] = {}
    clipped: dict[str, list[int]] = {}

    def record(stage: str, found: Tensor, clip: Tensor | None) -> None:
        values.setdefault(stage, []).append(found.cpu().numpy())
        if clip is not None:
            clipped.setdefault(stage, []).append(int(clip.sum()))

    for batch in batches:
        classifier.record(batch, record)
    quantizers = classifier.stage_quantizers()
    stages = {}
    for name, parts in values.items():
        joined = np.concatenate(parts)
        share = sum(clipped[name]) / joined.size if name in clipped else None
        stages[name] = Stage(joined, share, quantizers.get(name))
    return stages


def dead_stages(stages: Mapping[str, Stage]) -> str | None:
    """Comma-separated stages whose output is constant, or None."""
    return ", ".join(name for name, stage in stages.items() if stage.is_constant) or None


def activation_rows(
    contrast: str, a: Mapping[str, Stage], b: Mapping[str, Stage], documents: int, *, paired: bool
) -> list[dict[str, Any]]:
    """One `tensors` row a stage.

    Args:
        contrast: name of the contrast.
        a: stages of the first side.
        b: stages of the second side.
        documents: how many documents the values come from.
        paired: both sides saw the same tokens through the same stage, so that noise can be told from signal:
            SQNR is stored.
    """
    rows = []
    for name, stage in b.items():
        rows.append(
            {
                "tensor": name,
                "kind": "activation",
                "contrast": contrast,
                **quantizer_columns(stage.quantizer),
                "documents": documents,
                "clip_fraction": stage.clip_fraction,
                "sqnr_db": sqnr_db(a[name].values, stage.values) if paired else None,
                **shift_columns(a[name].distribution, stage.distribution, population=False),
            }
        )
    return rows


def weight_rows(weights: Iterable[QuantizedWeight]) -> list[dict[str, Any]]:
    """`fp32_vs_quantized` rows, one a weight tensor. Weights are the whole population: no p-value."""
    return [
        {
            "tensor": weight.name,
            "kind": "weight",
            "contrast": "fp32_vs_quantized",
            **quantizer_columns(weight.quantizer),
            "sqnr_db": sqnr_db(weight.original.cpu().numpy(), weight.quantized.cpu().numpy()),
            "clip_fraction": float(weight.quantizer.clipped(weight.original).float().mean()),
            **shift_columns(
                Distribution.of_values(weight.original.cpu().numpy()),
                _levels(weight.quantized, weight.quantizer),
                population=True,
            ),
        }
        for weight in weights
    ]


def twin_weight_rows(
    twin: Iterable[QuantizedWeight], weights: Iterable[QuantizedWeight]
) -> list[dict[str, Any]]:
    """`balanced_vs_ratio` rows of the weights that correction can move.

    The others are bit-identical whatever the calibration set, so that a row would restate a tautology.
    """
    return [
        {
            "tensor": weight.name,
            "kind": "weight",
            "contrast": "balanced_vs_ratio",
            **quantizer_columns(weight.quantizer),
            **shift_columns(
                _levels(other.quantized, other.quantizer),
                _levels(weight.quantized, weight.quantizer),
                population=True,
            ),
        }
        for other, weight in zip(twin, weights, strict=True)
        if weight.correctable
    ]


def quantizer_columns(quantizer: Quantizer | None) -> dict[str, Any]:
    """bits, scale and zero-point of a tensor's own quantizer."""
    if quantizer is None:
        return {"bits": None, "scale": None, "zero_point": None}
    return {"bits": quantizer.bits, "scale": float(quantizer.scale), "zero_point": 0}
