"""Why dynamic PTQ can be slower than FP32: ``python -m lstmptq.companion.anomaly`` measures it, into JSON.

A BERT of the published size with random weights: time does not depend on their values, and nothing has to be
downloaded. Every variant takes turns with FP32, pass by pass. ``python -m analysis.questions.dynamic_ptq`` words it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lstmptq.companion.bert import BertClassifier, quiet
from lstmptq.companion.kernels import INTEGER_PRODUCTS, operator_times
from lstmptq.companion.latency import latency_columns
from lstmptq.companion.variants import engine, variants
from lstmptq.models.base import parameter_count, seeded
from lstmptq.models.batches import Batch

LENGTHS = (22, 128)  # word pieces: the emotion corpus' mean, and what fixed padding gives


def new_bert(layers: int, width: int) -> BertClassifier:
    """A BERT of this size with random weights; 12 and 768 are bert-base's."""
    with quiet(), seeded(0):
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64,
            intermediate_size=4 * width, num_labels=6,
        )  # fmt: skip
        return BertClassifier(BertForSequenceClassification(config), 0).eval()


def one_document(tokens: int) -> Batch:
    """A batch of one document of so many word pieces."""
    drawn = torch.randint(1000, 20_000, (1, tokens), generator=torch.Generator().manual_seed(tokens))
    return Batch(drawn, torch.tensor([tokens]), torch.tensor([0]), torch.tensor([0]))


@torch.no_grad()
def measure(
    classifier: BertClassifier, lengths: Sequence[int], warmup: int, repeats: int
) -> list[dict[str, Any]]:
    """Every variant at every length.

    Returns:
        What each took, JSON-ready: ``variant``, ``tokens``; ``ms``, ``low_ms``, ``high_ms``, median and
        quartiles of a document; ``time_ratio``, its time over FP32's; ``operators``, ms and calls of one pass
        by name, the longest first; ``integer_time``, the share of that time in products of integers.
    """
    found = []
    for variant in variants():
        with engine(variant.engine):
            built = variant.build(classifier)
            for tokens in lengths:
                batch = one_document(tokens)
                beside = None if built is classifier else classifier
                columns = latency_columns(1, built, beside, [batch] * repeats, warmup)
                operators = operator_times(built, [batch])
                found.append({
                    "variant": variant.name,
                    "tokens": tokens,
                    **{f"{part}ms": columns[f"latency_1_{part}ms"] for part in ("", "low_", "high_")},
                    "time_ratio": 1 / columns["speedup_1"],
                    "operators": operators,
                    "integer_time": _integer_time(operators),
                })  # fmt: skip
    return found


def _integer_time(operators: dict[str, tuple[float, int]]) -> float:
    total = sum(ms for ms, _ in operators.values())
    return sum(ms for name, (ms, _) in operators.items() if name in INTEGER_PRODUCTS) / total


def linear_work(classifier: BertClassifier, tokens: int) -> float:
    """Floating-point operations of the linear layers for one document."""
    sizes = (m.in_features * m.out_features for m in classifier.network.modules() if isinstance(m, nn.Linear))
    return 2.0 * tokens * sum(sizes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the JSON."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m lstmptq.companion.anomaly", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    classifier = new_bert(options.layers, options.width)
    before = os.getloadavg()[0]
    measured = measure(classifier, LENGTHS, options.warmup, options.repeats)
    found = {
        "command": shlex.join(["python", "-m", "lstmptq.companion.anomaly", *given]),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [before, os.getloadavg()[0]],  # before and after
        "torch": torch.__version__,
        "parameters": parameter_count(classifier),
        "linear_work": {str(tokens): linear_work(classifier, tokens) for tokens in LENGTHS},  # operations
        "measured": measured,
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
