"""Weight correction after calibration: GPFQ, GPTQ and Qronos on the output layer.

Brevitas' algorithms change linear layers only, and the output layer is the only one that a classifier has.
They need nothing of the model but that layer's inputs. The exact evaluator therefore records the inputs
once, and the algorithm runs on the layer alone.
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

# Brevitas' implementations. GPFQ is our own; the tests compare it with Brevitas'.
MODES = {
    "gptq": partial(gptq_mode, use_quant_activations=True, create_weight_orig=False),
    "qronos": partial(gpfq_mode, use_quant_activations=True, algorithm_impl=Qronos),
}


def correct(
    algorithm: str, weight: Tensor, quantizer: Quantizer, quantized_inputs: Tensor, float_inputs: Tensor
) -> Tensor:
    """Return `weight` as `algorithm` corrects it, before the final rounding to the grid.

    Args:
        algorithm: ``none``, ``gpfq``, ``gptq`` or ``qronos``.
        weight: (out features, in features) float weight.
        quantizer: the quantizer of the weight; its scale does not change.
        quantized_inputs: (rows, in features) the layer's inputs in the quantized model.
        float_inputs: (rows, in features) the layer's inputs in the float model.

    Returns:
        (out features, in features) float32.

    Raises:
        ValueError: if `algorithm` is unknown.
    """
    require_choice("algorithm", algorithm, ALGORITHMS)
    if algorithm == "none":
        return weight
    if algorithm == "gpfq":
        hessian = _gram(quantized_inputs, quantized_inputs)
        return gpfq(weight, quantizer, hessian, _gram(quantized_inputs, float_inputs))
    return correct_with(MODES[algorithm], weight, quantizer.bits, quantized_inputs, float_inputs)


def _gram(left: Tensor, right: Tensor) -> Tensor:
    """Return the (in, in) mean over rows of the outer products of `left` and `right`, (rows, in) each."""
    return left.t() @ right / len(left)


def gpfq(weight: Tensor, quantizer: Quantizer, hessian: Tensor, cross: Tensor) -> Tensor:
    """Correct a weight by greedy path following (Lybrand & Saab 2021; Zhang, Zhou & Saab 2023).

    Column t becomes the value that best undoes, on the calibration inputs, the error of the columns before
    it. Every projection needs only inner products of input columns, so two Gram matrices stand for the
    inputs, and all rows of the weight are corrected in parallel.

    Args:
        weight: (out, in) float weight.
        quantizer: the quantizer of the weight.
        hessian: (in, in) Gram matrix of the quantized inputs.
        cross: (in, in) inner products of quantized and float inputs, ``cross[s, t] = <xq_s, x_t>``.

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
    """One Brevitas linear layer that reads the float inputs whenever its quantizer is switched off."""

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
    """Return `weight` as one of Brevitas' algorithms corrects it on the layer alone; see :func:`correct`.

    Args:
        mode: returns Brevitas' context manager of the algorithm for a module.
        weight: (out features, in features) float weight.
        bits: the width of the weight.
        quantized_inputs: (rows, in features) the layer's inputs in the quantized model.
        float_inputs: (rows, in features) the layer's inputs in the float model.
    """
    alone = _RecordedLayer(weight, bits).to(weight.device).eval()
    alone(quantized_inputs[:1], float_inputs[:1])  # sets the weight's scale, which the algorithms need
    with mode(alone) as running:
        for _ in range(running.num_layers):
            running.model(quantized_inputs, float_inputs)
            running.update()
    corrected: Tensor = alone.layer.weight.detach()
    return corrected
