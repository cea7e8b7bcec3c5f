"""Recipes of the companion study: one class per kind of training; needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lstmptq.spec.requirements import require_at_least, require_axis, require_choice

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Recipe:
    """The part that all recipes share."""

    epochs: int
    learning_rate: float  # of AdamW: a tenth of the steps to warm up, then linearly to 0
    batch_size: int = 32
    precision: str = "float32"  # of the products in training; weights and evaluation are float32

    def __post_init__(self) -> None:
        require_at_least("epochs", self.epochs, 1)
        require_at_least("batch_size", self.batch_size, 1)
        require_choice("precision", self.precision, PRECISIONS)
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")


@dataclass(frozen=True, slots=True)
class BertRecipe(Recipe):
    """How a BERT is fine-tuned."""

    epochs: int = 3
    learning_rate: float = 2e-5


@dataclass(frozen=True, slots=True)
class QatRecipe(Recipe):
    """How the training of a fine-tuned model continues under fake quantization."""

    epochs: int = 1
    learning_rate: float = 2e-5


@dataclass(frozen=True, slots=True)
class LoraRecipe(Recipe):
    """How low-rank adapters are trained on a frozen 4-bit BERT."""

    epochs: int = 3
    learning_rate: float = 1e-3
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.1
    targets: tuple[str, ...] = ("query", "key", "value")

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        require_at_least("rank", self.rank, 1)
        require_at_least("alpha", self.alpha, 1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        require_axis("targets", self.targets)


BERT_RECIPE, QAT_RECIPE, LORA_RECIPE = BertRecipe(), QatRecipe(), LoraRecipe()  # the defaults
# the packaged checkpoint is a small encoder of sentences: it takes a larger step, which was not tuned further
PACKAGED_RECIPE = BertRecipe(learning_rate=2e-4)
