"""What every classifier offers: one question, ``class_scores``, and the parts a quantizer needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from lstmptq.models.batches import Batch
from lstmptq.text.vocabulary import PAD


class Classifier(Protocol):
    """Anything that scores documents: a float model, the graph with quantizers off, a quantized model."""

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes) float32, up to a constant a document: log p(y, x) or log p(y | x)."""


class TrainableClassifier(nn.Module):
    """The parts both classifiers share: word vectors and an LSTM that reads them.

    Args:
        vectors: (vocabulary, width) float32, initial word vectors, row ``PAD`` zero.
        hidden: LSTM units a layer.
        layers: LSTM layers.
        freeze_embedding: keep the vectors as they are.
        dropout: share of the word vectors' entries dropped in training.
    """

    def __init__(
        self, vectors: Tensor, hidden: int, layers: int, freeze_embedding: bool, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(
            vectors.clone(), freeze=freeze_embedding, padding_idx=PAD
        )
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(vectors.shape[1], hidden, layers, batch_first=True)

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """(batch, time) int64 to (batch, time, hidden): the top layer's output at every step.

        Padding follows a document's end and the LSTM runs forward, so real tokens never see it.
        """
        states: Tensor = self.lstm(self.dropout(self.embedding(tokens)))[0]
        return states

    def class_scores(self, batch: Batch) -> Tensor:
        """See :class:`Classifier`."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Mean training loss of the batch, a scalar."""
        raise NotImplementedError

    @property
    def correctable(self) -> nn.Linear:
        """The linear layer that weight correction can change."""
        raise NotImplementedError


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def select_real(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, ...) and (batch, time) bool to (real tokens, ...), document after document."""
    return values[mask]


def sum_by_document(values: Tensor, mask: Tensor) -> Tensor:
    """(real tokens, labels) back to (batch, labels), summed over each document's tokens in order."""
    padded = values.new_zeros(*mask.shape, values.shape[1])
    padded[mask] = values
    return padded.sum(dim=1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context in which torch draws from `seed`, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
