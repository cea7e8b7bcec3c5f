"""Ways to run one BERT on a CPU: FP32, the int8 kernels that torch and torchao have, and none at all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lstmptq.companion.bert import BertClassifier
from lstmptq.companion.dynamic import dynamic_bert

FP32 = "FP32"
ENGINES = ("x86", "onednn", "qnnpack")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model."""

    name: str
    build: Callable[[BertClassifier], BertClassifier]
    engine: str | None = None  # of torch's quantized kernels


def variants() -> list[Variant]:
    """FP32 first; of torch's engines those that this build of torch has."""
    there: list[str] = torch.backends.quantized.supported_engines
    return [
        Variant(FP32, lambda classifier: classifier),
        *(
            Variant(f"torch quantize_dynamic, {engine}", lambda c: dynamic_bert(c, "torch"), engine)
            for engine in ENGINES
            if engine in there
        ),
        Variant("torchao int8 dynamic, eager", lambda c: dynamic_bert(c, "torchao")),
        Variant("int8 weights made float at every call", weight_only),
    ]


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
