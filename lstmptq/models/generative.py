"""The generative classifier: one LSTM language model shared by the classes, told the class at its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from lstmptq.models.base import Classifier, TrainableClassifier, sum_by_document
from lstmptq.models.batches import Batch, language_model_pair
from lstmptq.models.loss import LabelSoftmaxLoss
from lstmptq.models.scoring import LabelScorer
from lstmptq.spec.models import MODEL_KINDS
from lstmptq.spec.specs import ModelSpec

LABEL_WIDTH = 100
DROPOUT = 0.2


class GenerativeClassifier(TrainableClassifier):
    """p(x | y) p(y), the "shared LSTM" of Yogatama et al. 2017 and Ding & Gimpel 2019.

    Args:
        vectors: (vocabulary, width) float32 initial word vectors.
        classes: number of classes.
        log_prior: (classes,) log shares of the classes among the training documents.
        hidden, layers, freeze_embedding: see :class:`TrainableClassifier`.
    """

    kind = MODEL_KINDS["generative"]
    log_prior: Tensor

    def __init__(
        self,
        vectors: Tensor,
        classes: int,
        log_prior: Tensor,
        hidden: int = 100,
        layers: int = 1,
        freeze_embedding: bool = False,
    ) -> None:
        super().__init__(vectors, hidden, layers, freeze_embedding, DROPOUT)
        self.label_embedding = nn.Embedding(classes, LABEL_WIDTH)
        self.decoder = nn.Linear(hidden + LABEL_WIDTH, len(vectors), bias=False)
        self.register_buffer("log_prior", log_prior.clone())

    @classmethod
    def from_spec(cls, spec: ModelSpec, vectors: Tensor, classes: int, labels: Tensor) -> Self:
        """See :class:`TrainableClassifier`."""
        prior = log_prior_of(labels, classes)
        return cls(vectors, classes, prior, spec.hidden, spec.layers, spec.freeze_embedding)

    @property
    def output_layer(self) -> nn.Linear:
        """The decoder."""
        return self.decoder

    def lstm_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See :class:`TrainableClassifier`; a language model reads one step more."""
        inputs, _, mask = language_model_pair(batch)
        return inputs, mask

    def calibration_label_sets(self, batch: Batch, calibration_labels: str) -> list[Tensor]:
        """See :class:`TrainableClassifier`; ``all`` decodes each document under every label in turn."""
        if calibration_labels == "own":
            return [batch.labels]
        return [torch.full_like(batch.labels, label) for label in range(self.label_embedding.num_embeddings)]

    @torch.no_grad()
    def evaluator(self) -> Classifier:
        """See :class:`Classifier`: the decoder is made ready to score tokens."""
        return _Evaluator(self, LabelScorer(self.state_columns(), self.label_logits()))

    def class_scores(self, batch: Batch) -> Tensor:
        """Return (batch, classes): log p(x | y) + log p(y), nats. For many batches take an evaluator."""
        return self.evaluator().class_scores(batch)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean negative log-likelihood of the next word under the own label, nats per token."""
        inputs, targets, mask = language_model_pair(batch)
        token_labels = batch.labels[:, None].expand_as(mask)[mask]
        states = self.dropout(self.hidden_states(inputs)[mask])
        loss: Tensor = LabelSoftmaxLoss.apply(  # type: ignore[no-untyped-call]
            states, targets[mask], token_labels, self.state_columns(), self.label_logits()
        )
        return loss / mask.sum()

    def state_columns(self) -> Tensor:
        """Return the decoder's weights for the hidden state, (vocabulary, hidden)."""
        return self.decoder.weight[:, : self.lstm.hidden_size]

    def label_logits(self) -> Tensor:
        """Return the addition of each label to the logits, (classes, vocabulary)."""
        columns = self.decoder.weight[:, self.lstm.hidden_size :]
        return self.label_embedding.weight @ columns.t()


@dataclass(frozen=True, slots=True)
class _Evaluator(Classifier):
    model: GenerativeClassifier
    scorer: LabelScorer

    def class_scores(self, batch: Batch) -> Tensor:
        inputs, targets, mask = language_model_pair(batch)
        tokens = self.scorer.log_likelihood(self.model.hidden_states(inputs)[mask], targets[mask])
        return sum_by_document(tokens, mask) + self.model.log_prior


def log_prior_of(labels: Tensor, classes: int) -> Tensor:
    """Return (classes,) log shares, with one document added to each class so that none is impossible."""
    counts = torch.bincount(labels, minlength=classes).double() + 1
    return (counts / counts.sum()).log().float()
