"""From a trained model and calibration statistics to the quantized classifier."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch
from lstmptq.quantization.classifier import QuantizedClassifier
from lstmptq.quantization.correct import correct
from lstmptq.quantization.observe import Observation
from lstmptq.spec.specs import QuantizationSpec


def float_graph(model: TrainableClassifier) -> QuantizedClassifier:
    """The quantized graph with every quantizer off: what the float model must agree with."""
    kind: type[QuantizedClassifier] = model.kind.load("quantized")
    return kind(model, bits=None)


@torch.no_grad()
def quantize(
    model: TrainableClassifier,
    spec: QuantizationSpec,
    observation: Observation,
    calibration: Iterable[Batch],
    kernel: str = "auto",
) -> QuantizedClassifier:
    """Quantize `model` as `spec` says.

    Args:
        model: trained float model, left as it is.
        spec: bits, internal bits, algorithm, isolated stage.
        observation: statistics of the calibration set.
        calibration: the calibration set, for weight correction; not read when the algorithm is ``none``.
        kernel: what runs the LSTM: see :func:`lstmptq.runtime.kernel.choose_kernel`.

    Returns:
        The quantized classifier, ready to score.

    Raises:
        KeyError: if `observation` lacks a quantizer's statistic.
    """
    quantized: QuantizedClassifier = model.kind.load("quantized")(
        model, spec.bits, spec.internal_bits, observation, kernel, spec.isolation
    )
    if spec.algorithm == "none":
        return quantized
    reference = float_graph(model)
    pairs = [
        (quantized.head_inputs(batch, labels), reference.head_inputs(batch, labels))
        for batch in calibration
        for labels in model.calibration_label_sets(batch, spec.calibration_labels)
    ]
    assert quantized.head_quantizer is not None
    corrected = correct(
        spec.algorithm,
        model.output_layer.weight.detach(),
        quantized.head_quantizer,
        torch.cat([pair[0] for pair in pairs]),
        torch.cat([pair[1] for pair in pairs]),
    )
    quantized.set_head_weight(corrected)
    return quantized
