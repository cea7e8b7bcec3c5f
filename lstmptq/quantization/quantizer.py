"""Symmetric uniform fake quantization, in exactly Brevitas' order of operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-10  # Brevitas' lower bound of the statistic behind a scale


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A quantizer with one scale and zero-point 0.

    Attributes:
        scale: 0-dim float32, the step between neighbouring levels.
        bits: width.
        signed: True for the levels -2^(bits-1) .. 2^(bits-1)-1, False for 0 .. 2^bits-1.
    """

    scale: Tensor
    bits: int
    signed: bool = True

    @classmethod
    def from_statistic(cls, statistic: Tensor, bits: int, signed: bool = True) -> Quantizer:
        """Return the quantizer whose range covers `statistic`, a percentile or maximum of absolute values.

        The scale is statistic / 2^(bits-1) if signed, else statistic / (2^bits - 1). `statistic` is 0-dim,
        `bits` at least 2.
        """
        threshold = statistic.detach().to(torch.float32).abs().clamp(min=SMALLEST_SCALE)
        return cls(threshold / (2 ** (bits - 1) if signed else 2**bits - 1), bits, signed)

    @property
    def lowest(self) -> int:
        """Lowest level."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Highest level."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def codes(self, values: Tensor) -> Tensor:
        """Return the integer levels of `values`, as floats."""
        # a product with the reciprocal of the scale would not be bit-exact
        return (values / self.scale).round_().clamp_(self.lowest, self.highest)

    def __call__(self, values: Tensor) -> Tensor:
        """Return `values` on the grid, rounded half to even."""
        return self.codes(values).mul_(self.scale)

    def clipped(self, values: Tensor) -> Tensor:
        """Return a bool mask of the values that lie further than half a step beyond the outermost levels."""
        levels = (values / self.scale).round_()
        return (levels < self.lowest) | (levels > self.highest)


def weight_quantizer(*weights: Tensor, bits: int) -> Quantizer:
    """Return one quantizer for weights of any shapes; their largest absolute value sets the shared scale."""
    largest = torch.stack([weight.detach().abs().amax() for weight in weights]).amax()
    return Quantizer.from_statistic(largest, bits)


def quantize_bias(bias: Tensor, input_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """Return a 32-bit bias on the accumulator's grid, whose step is input scale times weight scale.

    Args:
        bias: (out features,) float32.
        input_scale: 0-dim float32, the scale of the layer's input.
        weight_scale: 0-dim float32, the scale of the layer's weight.

    Returns:
        (out features,) float32, clipped to -2^31 .. 2^31 - 1 steps of the grid.
    """
    scale = input_scale * weight_scale
    return (bias / scale).round_().clamp_(-(2.0**31), 2.0**31 - 1).mul_(scale)
