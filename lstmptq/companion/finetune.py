"""Fine-tuning a BERT: the loop that every way of training one shares, and what a training leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lstmptq.companion.bert import BertClassifier, BertStudy
from lstmptq.companion.cells import Training
from lstmptq.companion.recipes import BertRecipe, LoraRecipe, QatRecipe
from lstmptq.models.base import parameter_count, seeded
from lstmptq.models.batches import shuffled_batches
from lstmptq.models.training import Epoch, best_epoch, validate
from lstmptq.seeds import derive_seed, generator

WARMUP_SHARE = 0.1
WEIGHT_DECAY = 0.01
CLIP = 1.0
OnEpoch = Callable[[int, int, float], None]


def fine_tuned(study: BertStudy, on_epoch: OnEpoch | None = None) -> Path:
    """Fine-tune the FP32 model, or find it: a directory with ``model.safetensors``, ``card.json``."""
    training = Training(study.spec)
    return study.artifacts.get_or_build(
        *training.training, lambda path: fine_tune(study, training, path, on_epoch)
    )


def float_classifier(study: BertStudy) -> BertClassifier:
    """The fine-tuned FP32 model."""
    return study.load(fine_tuned(study))


def fine_tune(study: BertStudy, training: Training, path: Path, on_epoch: OnEpoch | None) -> None:
    """Fine-tune every weight."""
    del training
    classifier = study.classifier(study.network())
    history = train_loop(study, classifier, study.spec.recipe, on_epoch)
    save(classifier.network.state_dict(), path / "model.safetensors")
    write_card(study, path, classifier, history)


def save(weights: dict[str, Tensor], path: Path) -> None:
    """Weights as safetensors; shared storage is written out."""
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}, path)


def write_card(
    study: BertStudy, path: Path, classifier: BertClassifier, history: dict[str, Any], **more: Any
) -> None:
    """``card.json``: what was trained, how, and how well it went."""
    card = {
        "spec": study.spec.identity(),
        "parameters": parameter_count(classifier),
        "trainable_parameters": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
        "training_documents": len(study.split("train")),
        "classes": study.classes,
        "epochs": history["best_epoch"],
        **history,
        **more,
    }
    (path / "card.json").write_text(json.dumps(card, indent=2))


def train_loop(
    study: BertStudy,
    classifier: BertClassifier,
    recipe: BertRecipe | QatRecipe | LoraRecipe,
    on_epoch: OnEpoch | None,
    kept: Callable[[], dict[str, Tensor]] | None = None,
) -> dict[str, Any]:
    """Train in place and leave the weights of the best validation epoch.

    Args:
        study: the corpus.
        classifier: changed in place; parameters that need no gradient stay.
        recipe: epochs, learning rate, batch size, precision of the products.
        on_epoch: called after each epoch with (epoch, epochs, validation accuracy).
        kept: what of the weights the best epoch keeps; None: all.

    Returns:
        The training part of the card, JSON-ready.
    """
    train_set, valid_set = study.split("train"), study.split("valid")
    named = [(name, p) for name, p in classifier.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    steps = recipe.epochs * -(-len(train_set) // recipe.batch_size)
    warm = max(1, int(WARMUP_SHARE * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    weights = kept or (lambda: dict(classifier.network.state_dict()))
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    half = recipe.precision == "bfloat16"
    with seeded(derive_seed("dropout", study.spec.seed)):
        for number in range(1, recipe.epochs + 1):
            started, losses = time.perf_counter(), []
            classifier.train()
            order = generator("epoch", study.spec.seed, number)
            for batch in shuffled_batches(train_set, order, recipe.batch_size):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    logits = classifier.logits(batch)
                loss = nn.functional.cross_entropy(logits.float(), batch.labels)
                loss.backward()
                nn.utils.clip_grad_norm_([p for _, p in named], CLIP)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            accuracy, nll = validate(classifier.eval(), valid_set)
            history.append(
                Epoch(number, float(np.mean(losses)), accuracy, nll, time.perf_counter() - started)
            )
            if best_epoch(history) == number:
                best = {name: value.detach().clone() for name, value in weights().items()}
            if on_epoch:
                on_epoch(number, recipe.epochs, accuracy)
    classifier.network.load_state_dict(best, strict=False)
    return {
        "best_epoch": best_epoch(history),
        "valid_accuracy": history[best_epoch(history) - 1].valid_accuracy,
        "recipe": asdict(recipe),
        "history": [asdict(epoch) for epoch in history],
        "train_seconds": sum(epoch.seconds for epoch in history),
    }
