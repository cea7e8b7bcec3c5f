"""The discriminative classifier: embedding, LSTM, mean over real tokens, linear."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmptq.models.base import TrainableClassifier
from lstmptq.models.batches import Batch
from lstmptq.spec.axes import POOLINGS
from lstmptq.spec.models import MODEL_KINDS
from lstmptq.spec.requirements import require_choice
from lstmptq.spec.specs import ModelSpec

DROPOUT = 0.5


class DiscriminativeClassifier(TrainableClassifier):
    """p(y | x) from one vector per document (Yogatama et al. 2017, section 2.1).

    Args:
        vectors: (vocabulary, width) float32 initial word vectors.
        classes: number of classes.
        hidden, layers, freeze_embedding: see :class:`TrainableClassifier`.
        pooling: ``mean`` over real tokens, or the ``last`` real token's hidden state, as in the paper.
    """

    kind = MODEL_KINDS["discriminative"]

    def __init__(
        self,
        vectors: Tensor,
        classes: int,
        hidden: int = 100,
        layers: int = 1,
        freeze_embedding: bool = False,
        pooling: str = "mean",
    ) -> None:
        super().__init__(vectors, hidden, layers, freeze_embedding, DROPOUT)
        self.pooling = pooling
        self.classifier = nn.Linear(hidden, classes)

    @classmethod
    def from_spec(cls, spec: ModelSpec, vectors: Tensor, classes: int, labels: Tensor) -> Self:  # noqa: ARG003
        """See :class:`TrainableClassifier`."""
        return cls(vectors, classes, spec.hidden, spec.layers, spec.freeze_embedding, spec.pooling)

    @property
    def output_layer(self) -> nn.Linear:
        """The linear layer on top, about 0.01 % of the parameters of a usual model."""
        return self.classifier

    def logits(self, batch: Batch) -> Tensor:
        """Return (batch, classes)."""
        pooled = pool(self.hidden_states(batch.tokens), batch.lengths, batch.mask, self.pooling)
        scores: Tensor = self.classifier(self.dropout(pooled))
        return scores

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes): log p(y | x)."""
        return self.logits(batch).log_softmax(dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross entropy, nats per document."""
        return functional.cross_entropy(self.logits(batch), batch.labels)


def pool(states: Tensor, lengths: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool the hidden states of each document into one vector.

    Args:
        states: (batch, time, hidden) float32.
        lengths: (batch,) int64 real tokens, at least 1.
        mask: (batch, time) bool, True at real tokens.
        pooling: ``mean`` or ``last``.

    Returns:
        (batch, hidden) float32.

    Raises:
        ValueError: if `pooling` is neither.
    """
    require_choice("pooling", pooling, POOLINGS)
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), lengths - 1]
    return (states * mask[:, :, None]).sum(dim=1) / lengths[:, None]
