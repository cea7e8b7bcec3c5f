"""The choice of kernels: plain torch, or element-wise passes compiled by numba between torch's products."""

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
    """Choose between the kernels ``eager`` and ``native``.

    Both give the same LSTM states bit for bit; class scores differ in their seventh digit.

    Args:
        kernel: ``eager``, ``native`` or ``auto``. ``auto`` follows the environment variable LSTMPTQ_KERNEL,
            and without it takes ``native`` wherever numba is installed.

    Raises:
        ValueError: if `kernel` or the variable has another value.
    """
    require_choice("kernel", kernel, KERNELS)
    if kernel == "auto":
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
