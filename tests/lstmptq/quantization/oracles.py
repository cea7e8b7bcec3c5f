"""Brevitas' own ways of what this project implements in another way."""

from __future__ import annotations

from functools import partial

from brevitas.graph.gpfq import gpfq_mode
from torch import Tensor

from lstmptq.quantization.correct import correct_with

GPFQ = partial(gpfq_mode, use_quant_activations=True)


def brevitas_gpfq(weight: Tensor, bits: int, quantized_inputs: Tensor, float_inputs: Tensor) -> Tensor:
    """The oracle of :func:`lstmptq.quantization.correct.gpfq`; arguments as of `correct_with`."""
    return correct_with(GPFQ, weight, bits, quantized_inputs, float_inputs)
