"""exp(g - m) of a block of logits as one compiled pass; torch takes several, each through memory.

This module is imported only where numba is installed: see ``lstmptq/runtime/kernel.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.extending import intrinsic

Floats = npt.NDArray[np.float32]

LOG2_E = np.float32(1.4426950408889634)
SMALLEST_EXPONENT = np.float32(-126)  # of a normal float32; smaller powers and NaN become 2^-126
# Coefficients of 2^z on [-0.5, 0.5]: least squares of the relative error at 400 Chebyshev nodes, up to 8e-8.
POWER = tuple(np.float32(c) for c in (0.0013267, 0.00967546, 0.05550743, 0.24022122, 0.69314695, 1.00000007))
C5, C4, C3, C2, C1, C0 = POWER


@intrinsic
def _float_of_bits(_: Any, bits: Any) -> tuple[Any, Callable[..., Any]]:  # noqa: ARG001
    """Return the float32 with the bits of an int32: `view` of a scalar would prevent vector code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.types.float32(numba.types.int32), generate


@numba.njit(error_model="numpy", fastmath={"contract"}, cache=True)
def exponentials(
    products: npt.NDArray[Any],
    largest: npt.NDArray[Any],
    scale: np.float32,
    highest: Floats,
    shrunk: Floats,
    found: Floats,
) -> None:
    """Raise the running maximum `highest`, then write exp(scale * products - highest) into `found`.

    Args:
        products: (tokens, words) int32 or float32.
        largest: (tokens,) the largest product of each row, of the same type.
        scale: the positive factor from a product to a logit.
        highest: (tokens,) the largest logit so far, raised in place.
        shrunk: (tokens,) overwritten by exp(highest before - highest now), the factor for earlier sums.
        found: (tokens, words) float32, overwritten. The relative error is 1e-7 plus 1e-7 per nat of the
            logit, as in float32. Values below 2^-126, and NaN, become 2^-126.
    """
    factor = scale * LOG2_E
    for token in range(len(products)):
        before, top = highest[token], np.float32(largest[token]) * scale
        now = before if before > top else top  # a NaN in `top` is kept
        highest[token], shrunk[token] = now, np.exp(before - now)
        row, out, shift = products[token], found[token], now * LOG2_E
        for word in range(len(row)):
            power = np.float32(row[word]) * factor - shift
            power = power if power > SMALLEST_EXPONENT else SMALLEST_EXPONENT
            whole = np.floor(power + np.float32(0.5))
            z = power - whole
            mantissa = ((((C5 * z + C4) * z + C3) * z + C2) * z + C1) * z + C0
            exponent = (np.int32(whole) + np.int32(127)) << np.int32(23)
            out[word] = mantissa * _float_of_bits(exponent)
