"""Why dynamic PTQ can be slower than FP32: ``python -m lstmptq.companion.anomaly`` measures and writes it.

A BERT of the published size with random weights: time does not depend on their values, and nothing has to be
downloaded. Every variant takes turns with FP32, pass by pass.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmptq.companion.bert import BertClassifier, quiet
from lstmptq.companion.dynamic import dynamic_bert
from lstmptq.companion.kernels import INTEGER_PRODUCTS, operator_times
from lstmptq.companion.latency import latency_columns
from lstmptq.models.base import seeded
from lstmptq.models.batches import Batch

OURS, PADDED = 22, 128  # word pieces: the emotion corpus' mean, and what fixed padding gives
PUBLISHED_FP32_MS, PUBLISHED_DYNAMIC_MS = 6.5, 225.1  # a document, companion study table 1
SHOWN = 6


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model."""

    name: str
    build: Callable[[BertClassifier], BertClassifier]
    engine: str | None = None  # of torch's quantized kernels


@dataclass(frozen=True, slots=True)
class Found:
    """What a variant took with documents of one length."""

    variant: Variant
    tokens: int
    columns: dict[str, Any]
    operators: dict[str, tuple[float, int]]  # ms and calls of one pass


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
        """(..., in) to (..., out)."""
        return nn.functional.linear(values, self.levels * self.scale, self.bias)


def weight_only(classifier: BertClassifier) -> BertClassifier:
    """`classifier` with every linear layer as :class:`WeightOnly`."""
    network = copy.deepcopy(classifier.network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, WeightOnly(child))
    return BertClassifier(network, classifier.pad).eval()


def variants() -> list[Variant]:
    """FP32 first."""
    engines = [engine for engine in ("x86", "onednn", "qnnpack") if engine in _engines()]
    return [
        Variant("FP32", lambda classifier: classifier),
        *(
            Variant(f"torch quantize_dynamic, {engine}", lambda c: dynamic_bert(c, "torch"), engine)
            for engine in engines
        ),
        Variant("torchao int8 dynamic, eager", lambda c: dynamic_bert(c, "torchao")),
        Variant("int8 weights made float at every call", weight_only),
    ]


def _engines() -> list[str]:
    found: list[str] = torch.backends.quantized.supported_engines
    return found


@contextmanager
def engine(name: str | None) -> Iterator[None]:
    """Torch's quantized kernels of one engine, for the time of the context."""
    before = torch.backends.quantized.engine
    if name is not None:
        torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


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
def measure(classifier: BertClassifier, lengths: Sequence[int], warmup: int, repeats: int) -> list[Found]:
    """Every variant at every length."""
    found = []
    for variant in variants():
        with engine(variant.engine):
            built = variant.build(classifier)
            for tokens in lengths:
                batch = one_document(tokens)
                beside = None if built is classifier else classifier
                columns = latency_columns(1, built, beside, [batch] * repeats, warmup)
                found.append(Found(variant, tokens, columns, operator_times(built, [batch])))
    return found


def linear_work(classifier: BertClassifier, tokens: int) -> float:
    """Floating-point operations of the linear layers for one document."""
    sizes = (m.in_features * m.out_features for m in classifier.network.modules() if isinstance(m, nn.Linear))
    return 2.0 * tokens * sum(sizes)


def written(
    found: Sequence[Found], classifier: BertClassifier, command: str, load: tuple[float, float]
) -> str:
    """The finding as Markdown; `load` is the machine's load average before and after."""
    work = {tokens: linear_work(classifier, tokens) for tokens in dict.fromkeys(f.tokens for f in found)}
    fp32 = {f.tokens: f.columns["latency_1_ms"] for f in found if f.variant.name == "FP32"}
    rows = [
        f"| {f.variant.name} | {f.tokens} | {f.columns['latency_1_ms']:.1f} "
        f"({f.columns['latency_1_low_ms']:.1f}-{f.columns['latency_1_high_ms']:.1f}) "
        f"| {1 / f.columns['speedup_1']:.2f} | {sum(calls for _, calls in f.operators.values())} "
        f"| {100 * _integer_share(f):.0f} % |"
        for f in found
    ]
    ours = [f for f in found if f.variant.name.startswith("torch quantize_dynamic, x86")]
    slowest = max(found, key=lambda f: 1 / f.columns["speedup_1"])
    fastest = min(found, key=lambda f: 1 / f.columns["speedup_1"])
    throughput = {tokens: work[tokens] / (1e6 * ms) for tokens, ms in fp32.items()}  # GFLOP/s
    published = {tokens: work[tokens] / (1e6 * PUBLISHED_FP32_MS) for tokens in work}
    dynamic = {tokens: work[tokens] / (1e6 * PUBLISHED_DYNAMIC_MS) for tokens in work}
    ratio = PUBLISHED_DYNAMIC_MS / PUBLISHED_FP32_MS
    lines = [
        "# Why dynamic PTQ can be slower than FP32",
        "",
        f"Written by `{command}`; do not edit. {platform.machine()}, {torch.get_num_threads()} thread, torch "
        f"{torch.__version__}, a BERT of {sum(p.numel() for p in classifier.parameters()) / 1e6:.0f} million "
        "random weights, one document at a time, in turns with FP32. The machine's load was "
        f"{load[0]:.0f} before and {load[1]:.0f} after, on {os.cpu_count()} processors: above them, compare "
        "ratios, which the turns keep, and not milliseconds.",
        "",
        f"The published table has dynamic PTQ {ratio:.1f} times slower than FP32 "
        f"({PUBLISHED_DYNAMIC_MS} against {PUBLISHED_FP32_MS} ms a document).",
        "",
        "## Measured on one processor",
        "",
        "| how | word pieces | ms (quartiles) | time / FP32's | operators called | integer products' time |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "- **The fused kernel:** "
        + "; ".join(
            f"with {f.tokens} word pieces torch's own int8 kernel takes {1 / f.columns['speedup_1']:.2f} "
            "of FP32's time"
            for f in ours
        )
        + ". It finds a call's range, quantizes and multiplies in one operator.",
        f"- **What is around it.** The slowest variant, {slowest.variant.name} at {slowest.tokens} word "
        f"pieces, takes {1 / slowest.columns['speedup_1']:.2f} times FP32's time; the fastest, "
        f"{fastest.variant.name} at {fastest.tokens}, {1 / fastest.columns['speedup_1']:.2f}. Unfused, every "
        "linear layer runs a dozen small operators over its input before it multiplies; with weights made "
        "float at every call the product stays a float one and the conversion comes on top.",
        "- **Padding.** FP32 takes "
        + " and ".join(f"{ms:.0f} ms with {tokens} word pieces" for tokens, ms in fp32.items())
        + "; the ratios at both lengths are in the table.",
        f"- **On one processor the worst is a factor of {1 / slowest.columns['speedup_1']:.1f}**, the "
        f"published one {ratio:.1f}.",
        "",
        "## What the published times say",
        "",
        "| word pieces | GFLOP a document | FP32 here, GFLOP/s | published FP32 | published dynamic PTQ |",
        "|---|---|---|---|---|",
        *(
            f"| {tokens} | {work[tokens] / 1e9:.1f} | {throughput[tokens]:.0f} | {published[tokens]:.0f} "
            f"| {dynamic[tokens]:.0f} |"
            for tokens in work
        ),
        "",
        "The published FP32 time needs the last column but one in GFLOP/s from whatever ran it; with inputs "
        f"padded to {PADDED} that is a graphics processor's rate. The published dynamic time is a "
        "processor's. Torch's dynamic int8 kernels exist for CPUs only, so that a model on a GPU has to be "
        "moved back for them. The explanation that fits all four numbers is therefore **two devices**: FP32 "
        "on a GPU against int8 on a CPU. It is an inference from the arithmetic above: the table does not "
        "name its devices. That the published accuracy did not change in any digit is no proof of a float "
        "path, but is what one would look like; here the kernel that ran is in every row.",
        "",
        "## The profiles",
        "",
        "Own time of the longest operators, one pass.",
        "",
        *(line for f in found for line in _profile(f)),
    ]
    return "\n".join(lines) + "\n"


def _integer_share(found: Found) -> float:
    total = sum(ms for ms, _ in found.operators.values())
    return sum(ms for name, (ms, _) in found.operators.items() if name in INTEGER_PRODUCTS) / total


def _profile(found: Found) -> list[str]:
    total = sum(ms for ms, _ in found.operators.values())
    rows = [
        f"| {name} | {calls} | {ms:.2f} | {100 * ms / total:.0f} % |"
        for name, (ms, calls) in list(found.operators.items())[:SHOWN]
    ]
    return [
        f"**{found.variant.name}, {found.tokens} word pieces**",
        "",
        "| operator | calls | ms | share |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the Markdown."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m lstmptq.companion.anomaly", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("analysis/dynamic_ptq.md"))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    classifier = new_bert(options.layers, options.width)
    before = os.getloadavg()[0]
    found = measure(classifier, (OURS, PADDED), options.warmup, options.repeats)
    command = shlex.join(["python", "-m", "lstmptq.companion.anomaly", *given])
    load = (before, os.getloadavg()[0])
    options.out.write_text(written(found, classifier, command, load))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
