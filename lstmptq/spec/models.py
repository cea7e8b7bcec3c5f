"""The kinds of model that the LSTM study compares: one entry per kind, from which the rest is derived.

A new kind is one file in ``lstmptq/models``, one in ``lstmptq/quantization`` if it can be quantized, and one
entry here. Classes are named by strings, so that reading this table imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a kind of model is trained."""

    epochs: int
    learning_rate: float  # of Adam, annealed to 0 along a cosine
    batch_size: int
    clip: float  # largest norm of the gradient


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One kind of model and the classes that implement it, each as ``module:class``.

    Attributes:
        name: value of the column `model`.
        implementation: the float model.
        recipe: how it is trained unless the spec says otherwise.
        graph: its graph with every quantizer off.
        quantized: the same graph on quantized weights and activations.
        oracle: the same graph in Brevitas' own modules.
    """

    name: str
    implementation: str
    recipe: Recipe
    graph: str
    quantized: str
    oracle: str

    def load(self, role: str) -> Any:
        """Import the class that plays `role`: ``implementation``, ``graph``, ``quantized``, ``oracle``."""
        return resolve_name(getattr(self, role))


MODEL_KINDS = {
    kind.name: kind
    for kind in (
        # recipes chosen on the validation accuracy of BBC News over seeds 0, 1, 2 with GloVe vectors
        ModelKind(
            "discriminative",
            "lstmptq.models.discriminative:DiscriminativeClassifier",
            Recipe(epochs=16, learning_rate=5e-3, batch_size=32, clip=1.0),
            graph="lstmptq.quantization.discriminative:DiscriminativeGraph",
            quantized="lstmptq.quantization.discriminative:QuantizedDiscriminative",
            oracle="lstmptq.quantization.oracle:BrevitasDiscriminative",
        ),
        ModelKind(
            "generative",
            "lstmptq.models.generative:GenerativeClassifier",
            Recipe(epochs=5, learning_rate=5e-3, batch_size=32, clip=1.0),
            graph="lstmptq.quantization.generative:GenerativeGraph",
            quantized="lstmptq.quantization.generative:QuantizedGenerative",
            oracle="lstmptq.quantization.oracle:BrevitasGenerative",
        ),
    )
}
