"""Which operators multiplied: taken from a profile of what ran, never from the name of a method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lstmptq.models.base import Classifier
from lstmptq.models.batches import Batch

# Operators whose own time is that of a product, by what they multiply.
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
SHOWN = 8


def operator_times(classifier: Classifier, batches: Sequence[Batch]) -> dict[str, tuple[float, int]]:
    """Own time (ms) and calls of every operator over one pass of `batches`, the longest first."""
    for batch in batches:
        classifier.class_scores(batch)  # what is done once is done
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
    """``kernel``, ``integer_share`` and ``operators`` of a `cells` row.

    A product that is compiled outside torch (numba) has no operator and is not seen; the LSTM study's own
    quantizers multiply with torch's.
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
            {name: round(ms / everything, 4) for name, (ms, _) in list(times.items())[:SHOWN]}
        ),
    }
