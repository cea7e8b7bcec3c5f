"""The choice of kernels: plain torch, or element-wise passes compiled by numba between torch's products."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache

from lstmptq.spec.requirements import require_choice

KERNELS = ("auto", "eager", "native")
KERNEL_VARIABLE = "LSTMPTQ_KERNEL"
COMPILED = ("lstmptq.models.native", "lstmptq.quantization.native")


def choose_kernel() -> str:
    """Return ``eager`` or ``native``: the LSTM is bit for bit the same, a score differs in its seventh digit.

    The environment variable LSTMPTQ_KERNEL decides; ``--kernel`` sets it in the workers of a sweep. Without
    it, or with ``auto``, the native kernel runs wherever numba is installed.

    Raises:
        ValueError: if the variable is none of KERNELS.
    """
    kernel = os.environ.get(KERNEL_VARIABLE) or "auto"
    require_choice(KERNEL_VARIABLE, kernel, KERNELS)
    return "native" if kernel != "eager" and _native_is_usable() else "eager"


@cache
def _native_is_usable() -> bool:
    try:
        for module in COMPILED:
            importlib.import_module(module)
    except Exception as problem:  # numba is absent, too old for this NumPy, has no writable cache, ...
        warnings.warn(
            f"plain torch runs, equal but slower, because the compiled kernels do not work ({problem}): "
            f"pip install 'lstmptq[native]', or set {KERNEL_VARIABLE}=eager if this is intended",
            stacklevel=2,
        )
        return False
    return True
