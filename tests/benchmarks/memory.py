"""Score one quantized generative model and print the peak resident memory of this process, in MiB."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lstmptq.models.batches import batches_by_length, batches_in_order
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import observe
from lstmptq.spec.specs import QuantizationSpec
from tests.benchmarks.baselines import PlainBrevitas, padded_targets
from tests.benchmarks.cases import corpus, model


@torch.no_grad()
def main(side: str, words: int) -> None:
    """Score 256 documents with our evaluator (`side` is ``ours``), or 64 with plain Brevitas (``naive``)."""
    torch.set_num_threads(1)
    trained = model("generative", words)
    calibration = list(batches_in_order(corpus(64, words), 64))
    observation = observe(trained, calibration)
    if side == "ours":
        classifier = quantize(trained, QuantizationSpec(4, 8, "gpfq"), observation, calibration)
        for batch in batches_by_length(corpus(256, words, seed=1), 256):
            classifier.class_scores(batch)
    else:
        quantized = PlainBrevitas(trained, 4, 8)
        (batch,) = batches_in_order(corpus(64, words, seed=1), 64)
        logits = quantized(batch, batch.labels)
        torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), padded_targets(batch)[1], reduction="none"
        ).sum(dim=1)
    print(_peak())


def _peak() -> float:
    """Read the peak in MiB. With `getrusage` a child starts with its parent's peak."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
