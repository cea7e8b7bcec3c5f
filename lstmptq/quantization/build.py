"""From a trained model and calibration statistics to the quantized classifier."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch
from lstmptq.quantization.classifier import FloatGraph, QuantizedClassifier
from lstmptq.quantization.correct import correct
from lstmptq.quantization.observe import Observation
from lstmptq.spec.specs import QuantizationSpec


def float_graph(model: TrainableClassifier) -> FloatGraph:
    """Build the quantized graph with every quantizer off; the float model must agree with it."""
    graph: FloatGraph = model.kind.load("graph")(model)
    return graph


@torch.no_grad()
def quantize(
    model: TrainableClassifier,
    spec: QuantizationSpec,
    observation: Observation,
    calibration: Iterable[Batch],
) -> QuantizedClassifier:
    """Quantize `model` as `spec` says.

    Args:
        model: the trained float model; it is not changed.
        spec: bits, internal bits, algorithm, isolated stage.
        observation: statistics of the calibration set.
        calibration: the calibration set, for weight correction; not read when the algorithm is ``none``.

    Returns:
        The quantized classifier, ready to score.

    Raises:
        KeyError: if `observation` lacks a quantizer's statistic.
    """
    quantized: QuantizedClassifier = model.kind.load("quantized")(model, spec, observation)
    if spec.algorithm == "none":
        return quantized
    reference = float_graph(model)
    pairs = [
        (quantized.output_layer_inputs(batch, labels), reference.output_layer_inputs(batch, labels))
        for batch in calibration
        for labels in model.calibration_label_sets(batch, spec.calibration_labels)
    ]
    corrected = correct(
        spec.algorithm,
        model.output_layer.weight.detach(),
        quantized.output_layer.weight_quantizer,
        torch.cat([pair[0] for pair in pairs]),
        torch.cat([pair[1] for pair in pairs]),
    )
    quantized.output_layer.set_weight(corrected)
    return quantized
