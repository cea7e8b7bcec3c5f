"""Measure ways to run a BERT on a CPU, and print the tables of docs/dynamic_ptq.md.

The BERT has the published size and random weights: the time does not depend on their values, and nothing has
to be downloaded. Every variant takes turns with FP32, pass by pass.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lstmptq.companion.bert import BertClassifier, quiet
from lstmptq.companion.dynamic import dynamic_bert
from lstmptq.companion.kernels import INTEGER_PRODUCTS, operator_times
from lstmptq.companion.latency import latency_columns
from lstmptq.models.base import parameter_count, seeded
from lstmptq.models.batches import Batch

ENGINES = ("x86", "onednn", "qnnpack")
LENGTHS = (22, 128)  # word pieces: the mean of the emotion corpus, and what fixed padding gives
PUBLISHED_FP32_MS, PUBLISHED_DYNAMIC_MS = 6.5, 225.1  # per document, table 1 of the companion paper
LONGEST = 6  # operators per profile


class WeightOnly(nn.Module):
    """A linear layer whose int8 weight becomes float at every call: small, and never faster."""

    levels: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("levels", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return nn.functional.linear(values, self.levels * self.scale, self.bias)


def quantize_weights_only(classifier: BertClassifier) -> BertClassifier:
    """Return a copy of `classifier` in which every linear layer is a :class:`WeightOnly`."""
    network = copy.deepcopy(classifier.network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, WeightOnly(child))
    return BertClassifier(network, classifier.pad).eval()


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model."""

    name: str
    build: Callable[[BertClassifier], BertClassifier]
    engine: str | None = None  # of torch's quantized kernels


def list_variants() -> list[Variant]:
    """List FP32 first, then torch with each engine that this build has, torchao, and weight-only int8."""
    engines = [name for name in ENGINES if name in torch.backends.quantized.supported_engines]
    return [
        Variant("FP32", lambda classifier: classifier),
        *(Variant(f"torch quantize_dynamic, {e}", lambda c: dynamic_bert(c, "torch"), e) for e in engines),
        Variant("torchao int8 dynamic, eager", lambda c: dynamic_bert(c, "torchao")),
        Variant("int8 weights made float at every call", quantize_weights_only),
    ]


@contextmanager
def use_engine(name: str | None) -> Iterator[None]:
    """Run torch's quantized kernels of one engine within the context."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name or before
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def new_bert(layers: int, width: int) -> BertClassifier:
    """Build a BERT of this size with random weights; bert-base has 12 layers of width 768."""
    with quiet(), seeded(0):
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=width // 64,
            intermediate_size=4 * width, num_labels=6,
        )  # fmt: skip
        return BertClassifier(BertForSequenceClassification(config), 0).eval()


def draw_document(tokens: int) -> Batch:
    """Draw a batch of one document of `tokens` word pieces."""
    drawn = torch.randint(1000, 20_000, (1, tokens), generator=torch.Generator().manual_seed(tokens))
    return Batch(drawn, torch.tensor([tokens]), torch.tensor([0]), torch.tensor([0]))


def count_operations(classifier: BertClassifier, tokens: int) -> float:
    """Count the floating-point operations of the linear layers for one document."""
    sizes = (m.in_features * m.out_features for m in classifier.network.modules() if isinstance(m, nn.Linear))
    return 2.0 * tokens * sum(sizes)


@torch.no_grad()
def measure(classifier: BertClassifier, warmup: int, repeats: int) -> Iterator[str]:
    """Measure every variant at every length and yield the lines of the page's tables."""
    times, profiles, throughput = [], [], []
    for variant in list_variants():
        with use_engine(variant.engine):
            built = variant.build(classifier)
            for tokens in LENGTHS:
                batch = draw_document(tokens)
                reference = None if built is classifier else classifier
                columns = latency_columns(1, built, reference, [batch] * repeats, warmup)
                ms = columns["latency_1_ms"]
                operators = operator_times(built, [batch])
                total = sum(own for own, _ in operators.values())
                integer = sum(own for name, (own, _) in operators.items() if name in INTEGER_PRODUCTS)
                calls = sum(count for _, count in operators.values())
                times.append(
                    f"| {variant.name} | {tokens} | {ms:.1f} ({columns['latency_1_low_ms']:.1f}-"
                    f"{columns['latency_1_high_ms']:.1f}) | {1 / columns['speedup_1']:.2f} | {calls} "
                    f"| {100 * integer / total:.0f} % |"
                )
                if reference is None:
                    work = count_operations(classifier, tokens)
                    rates = (work / (1e6 * each) for each in (ms, PUBLISHED_FP32_MS, PUBLISHED_DYNAMIC_MS))
                    cells = " | ".join(f"{rate:.0f}" for rate in rates)
                    throughput.append(f"| {tokens} | {work / 1e9:.1f} | {cells} |")
                profiles += ["", f"**{variant.name}, {tokens} word pieces**", ""]
                profiles += ["| operator | calls | ms | share |", "|---|---|---|---|"]
                profiles += [
                    f"| {name} | {count} | {own:.2f} | {100 * own / total:.0f} % |"
                    for name, (own, count) in list(operators.items())[:LONGEST]
                ]
    yield "| variant | word pieces | ms (quartiles) | time / FP32's | operators called | integer share |"
    yield "|---|---|---|---|---|---|"
    yield from times
    yield ""
    yield "| word pieces | GFLOP per document | FP32 here, GFLOP/s | published FP32 | published dynamic PTQ |"
    yield "|---|---|---|---|---|"
    yield from throughput
    yield from profiles


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--warmup", type=int, default=3, help="passes that are not counted")
    parser.add_argument("--repeats", type=int, default=15, help="passes that are counted")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    classifier = new_bert(options.layers, options.width)
    before = os.getloadavg()[0]
    tables = list(measure(classifier, options.warmup, options.repeats))
    print(
        f"{platform.machine()}, {options.threads} of {os.cpu_count()} processors, torch {torch.__version__}, "
        f"{parameter_count(classifier) / 1e6:.0f} million parameters; load {before:.0f} before and "
        f"{os.getloadavg()[0]:.0f} after\n"
    )
    print("\n".join(tables))


if __name__ == "__main__":
    main()
