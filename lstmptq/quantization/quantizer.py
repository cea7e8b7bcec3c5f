"""Symmetric uniform fake quantization, in exactly the order of operations of Brevitas."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-10  # Brevitas' own floor of a scale's threshold


@dataclass(frozen=True, slots=True)
class Quantizer:
    """One scale, zero-point 0, `bits` wide.

    Attributes:
        scale: 0-dim float32, the step between neighbouring levels.
        bits: width.
        signed: levels -2^(bits-1) .. 2^(bits-1)-1, or 0 .. 2^bits-1.
    """

    scale: Tensor
    bits: int
    signed: bool = True

    @classmethod
    def from_statistic(cls, statistic: Tensor, bits: int, signed: bool = True) -> Quantizer:
        """The quantizer whose range covers `statistic` (a percentile or maximum of absolute values).

        Signed scale = statistic / 2^(bits-1), unsigned = statistic / (2^bits - 1).

        Args:
            statistic: 0-dim.
            bits: width, at least 2.
            signed: see :class:`Quantizer`.
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
        """The integer levels of `values`, as floats. Divides: the reciprocal would not be bit-exact."""
        return (values / self.scale).round_().clamp_(self.lowest, self.highest)

    def __call__(self, values: Tensor) -> Tensor:
        """`values` on the grid; rounds half to even."""
        return self.codes(values).mul_(self.scale)

    def clipped(self, values: Tensor) -> Tensor:
        """bool, where a value lies beyond the outermost level by more than rounding explains."""
        levels = (values / self.scale).round_()
        return (levels < self.lowest) | (levels > self.highest)


def weight_quantizer(*weights: Tensor, bits: int) -> Quantizer:
    """The quantizer of one or several weights that share a scale: the largest absolute value of all.

    Args:
        *weights: float32, any shapes.
        bits: width, at least 2.
    """
    largest = torch.stack([weight.detach().abs().amax() for weight in weights]).amax()
    return Quantizer.from_statistic(largest, bits)


def quantize_bias(bias: Tensor, input_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """A 32-bit bias on the accumulator's grid, input scale times weight scale.

    Args:
        bias: (out features,) float32.
        input_scale: 0-dim float32, of the layer's input.
        weight_scale: 0-dim float32, of its weight.

    Returns:
        (out features,) float32, clipped to -2^31 .. 2^31 - 1 steps of the grid.
    """
    scale = input_scale * weight_scale
    return (bias / scale).round_().clamp_(-(2.0**31), 2.0**31 - 1).mul_(scale)
