"""Recipes: what cannot be trained is refused when it is written down."""

import pytest

from lstmptq.companion.recipes import BertRecipe, LoraRecipe, QatRecipe

SHARED = [
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite, got nan"),
    ({"learning_rate": float("inf")}, "learning_rate must be above 0 and finite, got inf"),
    ({"precision": "int8"}, "precision must be one of float32, bfloat16, got 'int8'"),
]


@pytest.mark.parametrize("recipe", [BertRecipe, QatRecipe, LoraRecipe])
@pytest.mark.parametrize(("values", "message"), SHARED)
def test_what_every_recipe_says_is_checked(recipe, values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        recipe(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0}, "alpha must be at least 1, got 0"),
        ({"dropout": 2.0}, r"dropout must be at least 0 and below 1, got 2\.0"),
        ({"dropout": -0.1}, r"dropout must be at least 0 and below 1, got -0\.1"),
        ({"targets": ()}, "targets must have at least one value, got none"),
        ({"targets": ("key", "key")}, r"targets must not repeat a value, got \('key', 'key'\)"),
    ],
)
def test_what_adapters_need_is_checked(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LoraRecipe(**values)
