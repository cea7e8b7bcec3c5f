"""How the companion study trains: one recipe a kind of training; needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lstmptq.spec.requirements import require_at_least, require_axis, require_choice

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class BertRecipe:
    """How a BERT is fine-tuned."""

    epochs: int = 3
    learning_rate: float = 2e-5  # of AdamW, a tenth of the steps to warm up, then linearly to 0
    batch_size: int = 32
    precision: str = "float32"  # of the products in training; weights and evaluation are float32

    def __post_init__(self) -> None:
        require_recipe(self)


@dataclass(frozen=True, slots=True)
class QatRecipe:
    """How a fine-tuned model is trained on under fake quantization."""

    epochs: int = 1
    learning_rate: float = 2e-5
    batch_size: int = 32
    precision: str = "float32"

    def __post_init__(self) -> None:
        require_recipe(self)


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How low-rank adapters are trained on a frozen 4-bit BERT."""

    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 32
    precision: str = "float32"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.1
    targets: tuple[str, ...] = ("query", "key", "value")

    def __post_init__(self) -> None:
        require_recipe(self)
        require_at_least("rank", self.rank, 1)
        require_at_least("alpha", self.alpha, 1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        require_axis("targets", self.targets)


def require_recipe(recipe: BertRecipe | QatRecipe | LoraRecipe) -> None:
    """Raise ValueError unless what every recipe says is possible."""
    require_at_least("epochs", recipe.epochs, 1)
    require_at_least("batch_size", recipe.batch_size, 1)
    require_choice("precision", recipe.precision, PRECISIONS)
    if not (recipe.learning_rate > 0 and math.isfinite(recipe.learning_rate)):
        raise ValueError(f"learning_rate must be above 0 and finite, got {recipe.learning_rate}")


BERT_RECIPE, QAT_RECIPE, LORA_RECIPE = BertRecipe(), QatRecipe(), LoraRecipe()  # where no other is asked for
# of the packaged checkpoint, a small encoder of sentences: a larger step, not tuned further
PACKAGED_RECIPE = BertRecipe(learning_rate=2e-4)
