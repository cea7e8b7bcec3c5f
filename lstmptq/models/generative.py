"""The generative classifier: one LSTM language model shared by the classes, told the class at its output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmptq.models.base import TrainableClassifier, select_real, sum_by_document
from lstmptq.models.batches import Batch, language_model_pair, real_tokens
from lstmptq.models.loss import LabelSoftmaxLoss
from lstmptq.models.scoring import LabelScorer

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

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes): log p(x | y) + log p(y), nats."""
        inputs, targets, lengths = language_model_pair(batch)
        mask = real_tokens(lengths, inputs.shape[1])
        scorer = LabelScorer(self.state_columns(), self.label_logits())
        tokens = scorer.log_likelihood(select_real(self.hidden_states(inputs), mask), targets[mask])
        return sum_by_document(tokens, mask) + self.log_prior

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative log-likelihood of the next word under the document's own label, nats a token."""
        inputs, targets, lengths = language_model_pair(batch)
        mask = real_tokens(lengths, inputs.shape[1])
        token_labels = batch.labels[:, None].expand_as(mask)[mask]
        states = self.dropout(select_real(self.hidden_states(inputs), mask))
        loss: Tensor = LabelSoftmaxLoss.apply(  # type: ignore[no-untyped-call]
            states, targets[mask], token_labels, self.state_columns(), self.label_logits()
        )
        return loss / mask.sum()

    def state_columns(self) -> Tensor:
        """(vocabulary, hidden): the decoder's weights for the hidden state."""
        return self.decoder.weight[:, : self.lstm.hidden_size]

    def label_logits(self) -> Tensor:
        """(classes, vocabulary): what each label adds to the logits."""
        columns = self.decoder.weight[:, self.lstm.hidden_size :]
        return self.label_embedding.weight @ columns.t()

    @property
    def correctable(self) -> nn.Linear:
        """The decoder."""
        return self.decoder


def log_prior_of(labels: Tensor, classes: int) -> Tensor:
    """(classes,) log shares, one document added to each class so that none is impossible."""
    counts = torch.bincount(labels, minlength=classes).double() + 1
    return (counts / counts.sum()).log().float()
