"""Weight correction after calibration: GPFQ, GPTQ, Qronos, on the one linear layer they can change.

Brevitas' algorithms visit linear layers only, so of a classifier they touch its last layer. They need that
layer's inputs and nothing else of the model, so the inputs are recorded once, through the exact evaluator,
and the algorithm is driven on the layer alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.graph.gpfq import gpfq_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.qronos import Qronos
from torch import Tensor, nn

from lstmptq.quantization.oracle import FixedWeightQuantizer
from lstmptq.quantization.quantizer import Quantizer
from lstmptq.spec.axes import ALGORITHMS
from lstmptq.spec.requirements import require_choice

# of Brevitas' own; GPFQ is ours, and its oracle is in the tests
MODES = {
    "gptq": partial(gptq_mode, use_quant_activations=True, create_weight_orig=False),
    "qronos": partial(gpfq_mode, use_quant_activations=True, algorithm_impl=Qronos),
}


def correct(
    algorithm: str, weight: Tensor, quantizer: Quantizer, quantized_inputs: Tensor, float_inputs: Tensor
) -> Tensor:
    """The weight that `algorithm` puts in place of `weight`, before the final rounding to the grid.

    Args:
        algorithm: ``none``, ``gpfq``, ``gptq`` or ``qronos``.
        weight: (out features, in features) float weight.
        quantizer: its quantizer; the scale does not move.
        quantized_inputs: (rows, in features) the layer's inputs in the quantized model.
        float_inputs: the same of the float model.

    Returns:
        (out features, in features) float32.

    Raises:
        ValueError: if `algorithm` is none of these.
    """
    require_choice("algorithm", algorithm, ALGORITHMS)
    if algorithm == "none":
        return weight
    if algorithm == "gpfq":
        hessian = _gram(quantized_inputs, quantized_inputs)
        return gpfq(weight, quantizer, hessian, _gram(quantized_inputs, float_inputs))
    return correct_with(MODES[algorithm], weight, quantizer.bits, quantized_inputs, float_inputs)


def _gram(left: Tensor, right: Tensor) -> Tensor:
    """(in, in) mean of outer products over rows."""
    return left.t() @ right / len(left)


def gpfq(weight: Tensor, quantizer: Quantizer, hessian: Tensor, cross: Tensor) -> Tensor:
    """Greedy path following quantization (Lybrand & Saab 2021; Zhang, Zhou & Saab 2023), from Gram matrices.

    Column t becomes the value that best undoes, on the calibration inputs, the error of the columns before
    it. Every projection needs only inner products of columns, so the inputs enter through two matrices and
    all rows go in parallel.

    Args:
        weight: (out, in) float weight.
        quantizer: of the weight.
        hessian: (in, in), quantized inputs with themselves.
        cross: (in, in), quantized inputs with float inputs, ``cross[s, t] = <xq_s, x_t>``.

    Returns:
        (out, in) float weight whose rounding is the corrected quantized weight.
    """
    energy = hessian.diagonal()
    dead = energy == 0
    inverse = torch.where(dead, 0.0, 1.0 / energy)
    to_float, to_quantized = inverse[:, None] * cross, inverse[:, None] * hessian
    original = weight.t().contiguous()  # (in, out): one column of the weight is one contiguous row
    corrected, levels = original.clone(), torch.empty_like(original)
    corrected[dead] = 0
    for t in range(len(original)):
        target = (
            to_float[t, t] * corrected[t] + to_float[t, :t] @ original[:t] - to_quantized[t, :t] @ levels[:t]
        )
        corrected[t] = target
        levels[t] = quantizer(target)
    return corrected.t().contiguous()


class _RecordedLayer(nn.Module):
    """One Brevitas linear layer that sees the float inputs whenever its quantizer is switched off."""

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.layer = qnn.QuantLinear(
            weight.shape[1], weight.shape[0], bias=False,
            weight_quant=FixedWeightQuantizer, weight_bit_width=bits,
        )  # fmt: skip
        self.layer.weight.data.copy_(weight)

    def forward(self, quantized_inputs: Tensor, float_inputs: Tensor) -> Tensor:
        enabled = self.layer.weight_quant.is_quant_enabled
        outputs: Tensor = self.layer(quantized_inputs if enabled else float_inputs)
        return outputs


@torch.no_grad()
def correct_with(
    mode: Callable[[nn.Module], Any],
    weight: Tensor,
    bits: int,
    quantized_inputs: Tensor,
    float_inputs: Tensor,
) -> Tensor:
    """The weight that an algorithm of Brevitas puts in place of `weight`, driven on the layer alone.

    Args:
        mode: from a module to Brevitas' context manager of the algorithm.
        weight: (out features, in features) float weight.
        bits: its width.
        quantized_inputs: (rows, in features) the layer's inputs in the quantized model.
        float_inputs: the same of the float model.

    Returns:
        (out features, in features) float32.
    """
    alone = _RecordedLayer(weight, bits).to(weight.device).eval()
    alone(quantized_inputs[:1], float_inputs[:1])  # fixes the weight's scale; the algorithms refuse otherwise
    with mode(alone) as running:
        for _ in range(running.num_layers):
            running.model(quantized_inputs, float_inputs)
            running.update()
    corrected: Tensor = alone.layer.weight.detach()
    return corrected
