"""The activations of every stage over a sample of documents, and the `tensors` rows that compare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lstmptq.measures.documents import (
    DocumentValues,
    LevelCounts,
    choose_thresholds,
    find_row_documents,
    stack_curves,
)
from lstmptq.measures.permutation import PermutationResult
from lstmptq.measures.shift import (
    Distribution,
    Floats,
    ks_distance,
    quantile_columns,
    relative_distance,
    shift_columns,
    sqnr_db,
)
from lstmptq.models.batches import Batch
from lstmptq.quantization.classifier import FloatGraph, QuantizedWeight
from lstmptq.quantization.quantizer import Quantizer


@dataclass
class RecordedStage:
    """The activations of one stage at real tokens.

    Attributes:
        values: (rows, features) float32.
        documents: (rows,) int64, document of each row, as an index into the sample.
        clip_fraction: share of values that the stage's quantizer clipped; None without a quantizer.
        quantizer: quantizer on whose grid the values lie; None if they are continuous.
        also_clipped: share that the same quantizer clipped of its other inputs, by name.
    """

    values: npt.NDArray[np.float32]
    documents: npt.NDArray[np.int64]
    clip_fraction: float | None
    quantizer: Quantizer | None
    also_clipped: dict[str, float] = field(default_factory=dict)

    @cached_property
    def by_document(self) -> LevelCounts | DocumentValues:
        """The values, grouped by document."""
        if self.quantizer is None:
            return DocumentValues(self.values, self.documents)
        return LevelCounts.of_codes(
            _to_codes(torch.from_numpy(self.values), self.quantizer),
            self.documents,
            self.quantizer.lowest,
            self.quantizer.highest,
            float(self.quantizer.scale),
        )

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution of all values together."""
        if isinstance(self.by_document, LevelCounts):
            return self.by_document.distribution
        return Distribution.of_values(self.values)

    def forget_values(self) -> None:
        """Free the values of a quantized stage; its counts, which are small, are enough."""
        if isinstance(self.by_document, LevelCounts):
            self.values, self.documents = np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.int64)

    @property
    def is_constant(self) -> bool:
        """Whether all documents and tokens have the same value."""
        return len(self.distribution.points) == 1


def _to_codes(values: Tensor, quantizer: Quantizer) -> npt.NDArray[np.int32]:
    codes: npt.NDArray[np.int32] = (
        (values / quantizer.scale.to(values.device)).round_().to(torch.int32).cpu().numpy()
    )
    return codes


def _level_distribution(values: Tensor, quantizer: Quantizer) -> Distribution:
    return Distribution.of_levels(_to_codes(values, quantizer), float(quantizer.scale))


@torch.no_grad()
def record_stages(classifier: FloatGraph, batches: Iterable[Batch]) -> dict[str, RecordedStage]:
    """Record every stage of `classifier` over `batches`, in the order in which a document passes them."""
    values: dict[str, list[npt.NDArray[np.float32]]] = {}
    documents: dict[str, list[npt.NDArray[np.int64]]] = {}
    clipped: dict[str, list[int]] = {}

    def record(stage: str, found: Tensor | None, clip: Tensor | None) -> None:
        if found is not None:
            values.setdefault(stage, []).append(found.cpu().numpy())
            documents.setdefault(stage, []).append(find_row_documents(batch, len(found)))
        if clip is not None:
            clipped.setdefault(stage, []).append(int(clip.sum()))

    for batch in batches:
        classifier.record(batch, record)
    quantizers = classifier.stage_quantizers()
    stages = {}
    for name, parts in values.items():
        joined = np.concatenate(parts)
        share = sum(clipped.pop(name)) / joined.size if name in clipped else None
        stages[name] = RecordedStage(joined, np.concatenate(documents[name]), share, quantizers.get(name))
    for name, counts in clipped.items():  # a further input has as many values as its stage
        stage, _, part = name.rpartition(".")
        stages[stage].also_clipped[part] = sum(counts) / stages[stage].values.size
    return stages


def dead_stages(stages: Mapping[str, RecordedStage]) -> str | None:
    """Return the comma-separated names of stages with constant output, or None."""
    return ", ".join(name for name, stage in stages.items() if stage.is_constant) or None


def compute_paired_curves(
    a: Mapping[str, RecordedStage], b: Mapping[str, RecordedStage]
) -> tuple[Floats, Floats]:
    """Compute the ECDFs of each document in two arms that hold the same documents.

    Returns:
        Two arrays (stages, documents, thresholds), with the stages in the order of `b`.
    """
    sides = [(a[name], b[name], choose_thresholds(a[name].distribution, b[name].distribution)) for name in b]
    return (
        stack_curves([(first.by_document, at) for first, _, at in sides]),
        stack_curves([(second.by_document, at) for _, second, at in sides]),
    )


def activation_rows(
    contrast: str,
    a: Mapping[str, RecordedStage],
    b: Mapping[str, RecordedStage],
    documents: int,
    *,
    same_values: bool = False,
    tested: PermutationResult | None = None,
    quantiles: bool = False,
) -> list[dict[str, Any]]:
    """Build one `tensors` row per stage.

    Args:
        contrast: name of the contrast.
        a: stages of the first side.
        b: stages of the second side.
        documents: number of documents that the values come from.
        same_values: whether `b` is `a` quantized value by value; then the SQNR is stored.
        tested: result of the test by document, with the stages in the order of `b`.
        quantiles: whether to store the quantiles of both sides.
    """
    rows = []
    for place, (name, stage) in enumerate(b.items()):
        rows.append(
            {
                "tensor": name,
                "kind": "activation",
                "contrast": contrast,
                **quantizer_columns(stage.quantizer),
                "documents": documents,
                "clip_fraction": stage.clip_fraction,
                "sqnr_db": sqnr_db(a[name].values, stage.values) if same_values else None,
                **shift_columns(a[name].distribution, stage.distribution, population=False),
                **(permutation_columns(tested, place) if tested else {}),
                **(quantile_columns(a[name].distribution, stage.distribution) if quantiles else {}),
            }
        )
    return rows


def permutation_columns(tested: PermutationResult, place: int) -> dict[str, Any]:
    """Build the columns of a test by document for one tensor."""
    return {"document_d": float(tested.d[place]), "p_permutation": float(tested.p[place])}


def weight_rows(
    weights: Iterable[QuantizedWeight], originals: dict[str, Distribution]
) -> list[dict[str, Any]]:
    """Build the `fp32_vs_quantized` rows of weight tensors.

    Weights are the whole population, so there is no p-value.
    Parts of a weight get their own rows, without the columns that describe a distribution.

    Args:
        weights: weights of one quantized model.
        originals: distributions of the float weights by name. Missing ones are added, so that the values of a
            float model are sorted only once for all its quantized models.
    """
    rows = []
    for weight in weights:
        if weight.name not in originals:
            originals[weight.name] = Distribution.of_values(weight.original.cpu().numpy())
        sides = (originals[weight.name], _level_distribution(weight.quantized, weight.quantizer))
        distances = shift_columns(*sides, population=True) | quantile_columns(*sides)
        for name, columns in _list_parts(weight):
            original, quantized = weight.original[:, columns], weight.quantized[:, columns]
            rows.append(
                {
                    "tensor": name,
                    "kind": "weight",
                    "contrast": "fp32_vs_quantized",
                    **quantizer_columns(weight.quantizer),
                    "sqnr_db": sqnr_db(original.cpu().numpy(), quantized.cpu().numpy()),
                    "clip_fraction": float(weight.quantizer.clipped(original).float().mean()),
                    "relative_distance": relative_distance(original.cpu().numpy(), quantized.cpu().numpy()),
                    **(distances if name == weight.name else {"n": original.numel()}),
                }
            )
    return rows


def twin_weight_rows(
    twin: Iterable[QuantizedWeight], weights: Iterable[QuantizedWeight]
) -> list[dict[str, Any]]:
    """Build the `balanced_vs_ratio` rows of the weights that correction can change, and of their parts.

    Other weights are bit-identical for every calibration set, so they have no row.
    """
    rows = []
    for other, weight in zip(twin, weights, strict=True):
        if not weight.is_output_layer:
            continue
        sides = [_level_distribution(side.quantized, side.quantizer) for side in (other, weight)]
        for name, columns in _list_parts(weight):
            first, second = (side.quantized[:, columns].cpu().numpy() for side in (other, weight))
            rows.append(
                {
                    "tensor": name,
                    "kind": "weight",
                    "contrast": "balanced_vs_ratio",
                    **quantizer_columns(weight.quantizer),
                    "relative_distance": relative_distance(first, second),
                    **(shift_columns(*sides, population=True) if name == weight.name else {"n": second.size}),
                }
            )
    return rows


def _list_parts(weight: QuantizedWeight) -> list[tuple[str, slice]]:
    """List the weight with all its columns and its parts, each as a name and a slice of columns."""
    return [(weight.name, slice(None)), *((f"{weight.name}.{part}", at) for part, at in weight.parts)]


def redraw_rows(
    mine: Mapping[str, RecordedStage],
    redrawn: Mapping[str, RecordedStage],
    weights: Iterable[QuantizedWeight],
    redrawn_weights: Iterable[QuantizedWeight],
    documents: int,
) -> list[dict[str, Any]]:
    """Build the `balanced_vs_redraw` rows: how far a redraw of the calibration set moves each tensor.

    Two draws are not a null, since their scales really differ. D serves as a margin, and no p-value is
    stored.
    """
    first, second = compute_paired_curves(mine, redrawn)
    distances = np.abs((first - second).mean(axis=1)).max(axis=1)
    same = {"contrast": "balanced_vs_redraw"}
    rows: list[dict[str, Any]] = [
        {
            **same,
            "tensor": name,
            "kind": "activation",
            **quantizer_columns(stage.quantizer),
            "documents": documents,
            "n": stage.distribution.n,
            "ks_d": ks_distance(mine[name].distribution, stage.distribution).d,
            "document_d": float(d),
        }
        for (name, stage), d in zip(redrawn.items(), distances, strict=True)
    ]
    for weight, other in zip(weights, redrawn_weights, strict=True):
        if weight.is_output_layer:
            sides = [_level_distribution(side.quantized, side.quantizer) for side in (weight, other)]
            rows.append(
                {
                    **same,
                    "tensor": weight.name,
                    "kind": "weight",
                    **quantizer_columns(other.quantizer),
                    "n": sides[1].n,
                    "ks_d": ks_distance(*sides).d,
                }
            )
    return rows


def quantizer_columns(quantizer: Quantizer | None) -> dict[str, Any]:
    """Build the columns bits, scale and zero-point of a tensor's quantizer."""
    if quantizer is None:
        return {"bits": None, "scale": None, "zero_point": None}
    return {"bits": quantizer.bits, "scale": float(quantizer.scale), "zero_point": 0}
