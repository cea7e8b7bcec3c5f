"""The kinds of model that the LSTM study compares: one entry per kind, from which the rest is derived.

A new kind is one file in ``lstmptq/models``, one in ``lstmptq/quantization`` if it can be quantized, and one
entry here. Classes are named by strings, so that reading this table imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

from lstmptq.text.sources import Source

NO_VECTORS = Source("none")  # the embedding of a model that reads no word vectors


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
        graph: its graph with every quantizer off; "" for a kind that cannot be quantized, as the next two.
        quantized: the same graph on quantized weights and activations.
        oracle: the same graph in Brevitas' own modules.
        train: the function that trains it, with the arguments of :func:`lstmptq.models.training.train`.
        neutral: the fields of a spec that the kind does not use, and the value that they take, so that one
            model has one name.
        left_out: why it is not quantized; "" if it is.
    """

    name: str
    implementation: str
    recipe: Recipe
    graph: str = ""
    quantized: str = ""
    oracle: str = ""
    train: str = "lstmptq.models.training:train"
    neutral: Mapping[str, Any] = field(default_factory=dict)
    left_out: str = ""

    def load(self, role: str) -> Any:
        """Import what plays `role`: ``implementation``, ``graph``, ``quantized``, ``oracle`` or ``train``."""
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
            neutral={"pooling": "mean"},
        ),
        ModelKind(
            "unigram",
            "lstmptq.models.unigram:UnigramClassifier",
            Recipe(epochs=1, learning_rate=0.0, batch_size=32, clip=0.0),
            train="lstmptq.models.unigram:train",
            neutral={
                "pooling": "mean", "embedding": NO_VECTORS, "embedding_dim": None, "freeze_embedding": False,
                "hidden": None, "layers": None, "epochs": None, "checkpoint": None,
            },
            left_out="it has no LSTM, and is there as a baseline in FP32",
        ),
    )
}  # fmt: skip
QUANTIZED_MODELS = tuple(kind.name for kind in MODEL_KINDS.values() if kind.quantized)
