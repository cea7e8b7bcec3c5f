"""Which code does the heavy work: plain torch, or passes that numba compiles between torch's products."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache

from lstmptq.spec.requirements import require_choice

KERNELS = ("auto", "eager", "native")
KERNEL_VARIABLE = "LSTMPTQ_KERNEL"  # what ``auto`` means in this process
COMPILED = ("lstmptq.models.native", "lstmptq.quantization.native")


def choose_kernel(kernel: str = "auto") -> str:
    """``eager`` or ``native``: the LSTM is bit for bit the same, a score differs in its seventh digit.

    Args:
        kernel: ``eager``, ``native``, or ``auto``: what the environment variable LSTMPTQ_KERNEL says, and
            without one native wherever numba is installed.

    Raises:
        ValueError: if it is none of these.
    """
    require_choice("kernel", kernel, KERNELS)
    if kernel == "auto":
        kernel = os.environ.get(KERNEL_VARIABLE) or "auto"
        require_choice(KERNEL_VARIABLE, kernel, KERNELS)
    return "native" if kernel != "eager" and _native_works() else "eager"


@cache
def _native_works() -> bool:
    try:
        for module in COMPILED:
            importlib.import_module(module)
    except Exception as problem:  # absent, too old for this numpy, nowhere to keep what it compiles, ...
        warnings.warn(
            f"plain torch runs, equal and slower, since the compiled kernels cannot ({problem}): "
            f"pip install 'lstmptq[native]', or set {KERNEL_VARIABLE}=eager if this is meant",
            stacklevel=2,
        )
        return False
    return True
