"""The interface of the classifiers: how they score documents, and the parts that a quantizer needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from lstmptq.models.batches import Batch
from lstmptq.spec.models import ModelKind
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.vocabulary import PAD


class Classifier(Protocol):
    """Anything that scores documents: a float model, its graph with quantizers off, a quantized model."""

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes) float32: log p(y, x) or log p(y | x), up to a constant per document."""

    def evaluator(self) -> Classifier:
        """Return a classifier that scores many batches fast, under the weights as they are now.

        What depends on the weights alone is computed here, once. Weights that change afterwards need a new
        evaluator.
        """
        return self


class TrainableClassifier(nn.Module, Classifier):
    """The parts that the float models share: word vectors and an LSTM that reads them.

    Args:
        vectors: (vocabulary, width) float32 initial word vectors; row ``PAD`` is zero.
        hidden: LSTM units per layer.
        layers: number of LSTM layers.
        freeze_embedding: keep the vectors as they are.
        dropout: share of the word vectors' entries that training drops.
    """

    kind: ClassVar[ModelKind]

    def __init__(
        self, vectors: Tensor, hidden: int, layers: int, freeze_embedding: bool, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(
            vectors.clone(), freeze=freeze_embedding, padding_idx=PAD
        )
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(vectors.shape[1], hidden, layers, batch_first=True)

    @classmethod
    def from_spec(cls, spec: ModelSpec, vectors: Tensor, classes: int, labels: Tensor) -> Self:
        """Build an untrained model; see :func:`lstmptq.models.training.new_model`."""
        raise NotImplementedError

    @property
    def output_layer(self) -> nn.Linear:
        """The last linear layer, the only one that weight correction can change."""
        raise NotImplementedError

    def lstm_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the tokens that the LSTM reads, (batch, time) int64, and a bool mask of the real ones."""
        return batch.tokens, batch.mask

    def calibration_label_sets(self, batch: Batch, calibration_labels: str) -> list[Tensor]:
        """Return the label vectors (batch,) under which a calibration batch is read, one pass for each.

        Args:
            batch: documents of the calibration set.
            calibration_labels: ``own`` or ``all``; a model that reads no label makes no difference.
        """
        del calibration_labels
        return [batch.labels]

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Return the top layer's output at every step: (batch, time) int64 to (batch, time, hidden).

        Padding follows a document's end and the LSTM runs forward, so real tokens never see it.
        """
        states: Tensor = self.lstm(self.dropout(self.embedding(tokens)))[0]
        return states

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean training loss of the batch, a scalar."""
        raise NotImplementedError


def parameter_count(module: nn.Module) -> int:
    """Count the parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def sum_by_document(values: Tensor, mask: Tensor) -> Tensor:
    """Sum (real tokens, labels) over each document's tokens in order: (batch, labels)."""
    padded = values.new_zeros(*mask.shape, values.shape[1])
    padded[mask] = values
    return padded.sum(dim=1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Enter a context in which torch draws from `seed`; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
