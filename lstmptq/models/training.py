"""Training: the loop that every kind of training shares, and the recipes of the LSTM classifiers."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lstmptq.models.base import Classifier, TrainableClassifier, seeded
from lstmptq.models.batches import Batch, batches_by_length, shuffled_batches
from lstmptq.seeds import derive_seed, generator
from lstmptq.spec.models import MODEL_KINDS, Recipe
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.vocabulary import EncodedCorpus

OnEpoch = Callable[[int, int, float], None]
Snapshot = TypeVar("Snapshot")


class LoopRecipe(Protocol):
    """The part of a recipe that :func:`run_epochs` reads."""

    @property
    def epochs(self) -> int:
        """How often every training document is read."""

    @property
    def batch_size(self) -> int:
        """Documents per optimizer step."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The result of one epoch."""

    epoch: int  # from 1; 0 is the model before its training
    train_loss: float | None  # None for epoch 0
    valid_accuracy: float
    valid_nll: float
    seconds: float


def recipe_for(spec: ModelSpec) -> Recipe:
    """Return the recipe for the spec's kind of model, with the spec's number of epochs if it has one."""
    recipe = MODEL_KINDS[spec.kind].recipe
    return recipe if spec.epochs is None else replace(recipe, epochs=spec.epochs)


def new_model(spec: ModelSpec, vectors: Tensor, classes: int, labels: Tensor) -> TrainableClassifier:
    """Build an untrained model of `spec`, seeded.

    Args:
        spec: the model to build.
        vectors: (vocabulary, width) initial word vectors.
        classes: number of classes.
        labels: (documents,) int64 training labels, for the prior.

    Returns:
        A model in training mode, on the CPU.
    """
    implementation: type[TrainableClassifier] = MODEL_KINDS[spec.kind].load("implementation")
    with seeded(derive_seed("initial weights", spec.seed)):
        return implementation.from_spec(spec, vectors, classes, labels)


def train(
    model: TrainableClassifier,
    train_set: EncodedCorpus,
    valid_set: EncodedCorpus,
    recipe: Recipe,
    seed: int,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    keep: Callable[[int, dict[str, Tensor]], None] | None = None,
) -> dict[str, Any]:
    """Train an LSTM classifier in place and leave the weights of the best validation epoch.

    Args:
        model: changed in place.
        train_set: documents to learn from.
        valid_set: documents that choose the epoch.
        recipe: epochs, learning rate, batch size, clipping.
        seed: seed of the order of documents and of dropout.
        device: ``cpu`` or ``cuda``.
        on_epoch: see :func:`run_epochs`.
        keep: called after each epoch with its number and its weights, which the next epoch changes.

    Returns:
        The training part of the model's card, JSON-ready.
    """

    def report(epoch: int, epochs: int, accuracy: float) -> None:
        if keep:
            keep(epoch, model.state_dict())
        if on_epoch:
            on_epoch(epoch, epochs, accuracy)

    model.to(device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate, fused=True)
    steps = count_steps(recipe, train_set)
    history, best = run_epochs(
        model,
        lambda batch: model.loss(batch.to(device)),
        lambda: validate(model, valid_set, device),
        lambda: copy.deepcopy(model.state_dict()),
        (optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)),
        train_set, recipe, seed, clip=recipe.clip, on_epoch=report,
    )  # fmt: skip
    model.load_state_dict(best)
    return {"recipe": asdict(recipe), **history}


def count_steps(recipe: LoopRecipe, train_set: EncodedCorpus) -> int:
    """Count the optimizer steps of a whole training."""
    return recipe.epochs * -(-len(train_set) // recipe.batch_size)


def run_epochs(
    module: nn.Module,
    loss: Callable[[Batch], Tensor],
    validate: Callable[[], tuple[float, float]],
    snapshot: Callable[[], Snapshot],
    steppers: tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler],
    train_set: EncodedCorpus,
    recipe: LoopRecipe,
    seed: int,
    *,
    clip: float,
    order: str = "epoch",
    judge_start: bool = False,
    on_epoch: OnEpoch | None = None,
) -> tuple[dict[str, Any], Snapshot]:
    """Run the loop that every kind of training shares.

    Args:
        module: holds the parameters, which change in place; in evaluation mode while it is validated.
        loss: returns the scalar to minimise for a batch.
        validate: returns accuracy and loss on the validation documents. The best epoch is the one with the
            highest accuracy, among equals the one with the lowest loss.
        snapshot: copies what the best epoch has to keep.
        steppers: the optimizer and the schedule of its learning rate, which steps once per batch.
        train_set: documents to learn from.
        recipe: number of epochs and batch size.
        seed: seed of the order of documents and of dropout.
        clip: largest norm of the gradient.
        order: names the random stream from which the order of documents is drawn.
        judge_start: let the weights before the first epoch compete as well, as epoch 0.
        on_epoch: called after each epoch with its number, the number of epochs and the validation accuracy.

    Returns:
        The best epoch and the history for the model's card, JSON-ready; and the best epoch's snapshot.
    """
    optimizer, schedule = steppers
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    history: list[Epoch] = []
    best = None
    with seeded(derive_seed("dropout", seed)):
        for number in range(0 if judge_start else 1, recipe.epochs + 1):
            started, losses = time.perf_counter(), []
            batches = shuffled_batches(train_set, generator(order, seed, number), recipe.batch_size)
            module.train()
            for batch in batches if number else ():
                optimizer.zero_grad(set_to_none=True)
                batch_loss = loss(batch)
                batch_loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, clip)
                optimizer.step()
                schedule.step()
                losses.append(batch_loss.item())
            module.eval()
            accuracy, nll = validate()
            mean_loss = float(np.mean(losses)) if losses else None
            history.append(Epoch(number, mean_loss, accuracy, nll, time.perf_counter() - started))
            if best_epoch(history) == number:
                best = snapshot()
            if on_epoch and number:
                on_epoch(number, recipe.epochs, accuracy)
    assert best is not None
    return {
        "best_epoch": best_epoch(history),
        "valid_accuracy": max(epoch.valid_accuracy for epoch in history),
        "history": [asdict(epoch) for epoch in history],
        "train_seconds": sum(epoch.seconds for epoch in history),
    }, best


def best_epoch(history: list[Epoch]) -> int:
    """Return the epoch with the highest validation accuracy; among equals the one with the lowest loss."""
    return max(history, key=lambda epoch: (epoch.valid_accuracy, -epoch.valid_nll)).epoch


@torch.no_grad()
def validate(model: Classifier, corpus: EncodedCorpus, device: str = "cpu") -> tuple[float, float]:
    """Return the accuracy (0..1) and the mean negative log posterior of the true class, nats."""
    evaluator = model.evaluator()
    right, nll = 0, 0.0
    for batch in batches_by_length(corpus):
        log_posterior = evaluator.class_scores(batch.to(device)).log_softmax(dim=1).cpu()
        right += int((log_posterior.argmax(dim=1) == batch.labels).sum())
        nll -= float(log_posterior.gather(1, batch.labels[:, None]).double().sum())
    return right / len(corpus), nll / len(corpus)
