"""How the weights of a BERT are trained, for every method that trains one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lstmptq.companion.bert import BertClassifier
from lstmptq.companion.recipes import Recipe
from lstmptq.models.batches import Batch
from lstmptq.models.training import OnEpoch, count_steps, run_epochs, validate
from lstmptq.text.vocabulary import EncodedCorpus

WARMUP_SHARE = 0.1
WEIGHT_DECAY = 0.01
CLIP = 1.0


def fine_tune(
    classifier: BertClassifier,
    weights: Callable[[], Mapping[str, Tensor]],
    train_set: EncodedCorpus,
    valid_set: EncodedCorpus,
    recipe: Recipe,
    seed: int,
    on_epoch: OnEpoch | None,
) -> dict[str, Any]:
    """Train in place and leave the weights of the best validation epoch.

    Args:
        classifier: changed in place; parameters that need no gradient keep their values.
        weights: returns the weights of its network that are trained.
        train_set: documents to learn from.
        valid_set: documents that choose the epoch.
        recipe: epochs, learning rate, batch size, precision of the products.
        seed: seed of the order of documents and of dropout.
        on_epoch: see :func:`lstmptq.models.training.run_epochs`.

    Returns:
        The training part of the card, JSON-ready.
    """
    parameters = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    steps = count_steps(recipe, train_set)
    warm = max(1, int(WARMUP_SHARE * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )

    def loss(batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = classifier.logits(batch)
        return functional.cross_entropy(logits.float(), batch.labels)

    history, best = run_epochs(
        classifier,
        loss,
        lambda: validate(classifier, valid_set),
        lambda: {name: value.detach().clone() for name, value in weights().items()},
        (optimizer, schedule),
        train_set, recipe, seed, clip=CLIP, on_epoch=on_epoch,
    )  # fmt: skip
    classifier.network.load_state_dict(best, strict=False)
    return {"recipe": asdict(recipe), **history}
