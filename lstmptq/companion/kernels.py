"""The operators that multiplied, read from a profile of a run and never from the name of a method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lstmptq.models.base import Classifier
from lstmptq.models.batches import Batch

# Operators whose own time is the time of a product, by the type of numbers that they multiply.
INTEGER_PRODUCTS = (
    "quantized::linear_dynamic", "quantized::linear", "aten::quantized_lstm", "aten::_int_mm",
    "onednn::qlinear_pointwise", "aten::_weight_int8pack_mm",
)  # fmt: skip
FLOAT_PRODUCTS = (
    "aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_rnn_layer", "aten::lstm",
    "mkldnn::_linear_pointwise", "aten::mkldnn_linear", "mkl::_mkl_linear",
    "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_attention_math",
    "bitsandbytes::gemv_4bit", "aten::dot", "aten::mv",
)  # fmt: skip
LONGEST = 8  # operators in the column `operators`


def operator_times(classifier: Classifier, batches: Sequence[Batch]) -> dict[str, tuple[float, int]]:
    """Return own time (ms) and calls of every operator in one pass over `batches`, the longest first."""
    for batch in batches:
        classifier.class_scores(batch)  # so that the work of a first call is not profiled
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for batch in batches:
            classifier.class_scores(batch)
    found = {
        event.key: (event.self_cpu_time_total / 1e3, event.count)
        for event in profiled.key_averages()
        if not event.key.startswith(("USDT", "Profiler"))
    }
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def kernel_columns(classifier: Classifier, batches: Sequence[Batch]) -> dict[str, Any]:
    """Profile the columns ``kernel``, ``integer_share`` and ``operators`` of a `cells` row.

    A product that is compiled outside torch (by numba) is no operator and is not seen; the quantizers of the
    main study multiply with torch's operators.
    """
    times = operator_times(classifier, batches)
    products = {name: ms for name, (ms, _) in times.items() if name in (*INTEGER_PRODUCTS, *FLOAT_PRODUCTS)}
    integer = sum(ms for name, ms in products.items() if name in INTEGER_PRODUCTS)
    total, everything = sum(products.values()), sum(ms for ms, _ in times.values())
    engine = torch.backends.quantized.engine
    named = [f"{name} ({engine})" if name.startswith("quantized::") else name for name in products]
    return {
        "kernel": " + ".join(named) or "unknown",
        "integer_share": integer / total if total else None,
        "operators": json.dumps(
            {name: round(ms / everything, 4) for name, (ms, _) in list(times.items())[:LONGEST]}
        ),
    }
