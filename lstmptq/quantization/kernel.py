"""Which code runs the steps of the LSTM: plain torch, or a kernel that numba compiles. Both are bit-exact."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache

from lstmptq.cells import require_choice

KERNELS = ("auto", "eager", "native")
VARIABLE = "LSTMPTQ_KERNEL"  # what ``auto`` means in this process


def choose_kernel(kernel: str = "auto") -> str:
    """``eager`` or ``native``.

    Args:
        kernel: ``eager``, ``native``, or ``auto``: what the environment variable LSTMPTQ_KERNEL says, and
            without one native wherever numba is installed.

    Raises:
        ValueError: if it is none of these.
    """
    require_choice("kernel", kernel, KERNELS)
    if kernel == "auto":
        kernel = os.environ.get(VARIABLE) or "auto"
        require_choice(VARIABLE, kernel, KERNELS)
    return "native" if kernel != "eager" and _native_works() else "eager"


@cache
def _native_works() -> bool:
    try:
        importlib.import_module("lstmptq.quantization.native")
    except Exception as problem:  # absent, too old for this numpy, nowhere to keep what it compiles, ...
        warnings.warn(
            f"the LSTM runs on plain torch, equal and slower, since its compiled step cannot ({problem}): "
            f"pip install 'lstmptq[native]', or set {VARIABLE}=eager if this is meant",
            stacklevel=2,
        )
        return False
    return True
