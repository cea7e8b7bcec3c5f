"""The generative classifier: one LSTM language model shared by the classes, told the class at its output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lstmptq.models.base import TrainableClassifier, select_real, sum_by_document
from lstmptq.models.batches import Batch, language_model_pair, real_tokens
from lstmptq.models.loss import LabelSoftmaxLoss
from lstmptq.models.scoring import LabelScorer

LABEL_WIDTH = 100
DROPOUT = 0.2
_State = tuple[Tensor, int, int]  # a weight, where its values are, and how often they were changed in place


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
        self._kept: tuple[LabelScorer, list[_State]] | None = None

    @property
    def scorer(self) -> LabelScorer:
        """The decoder, ready to score tokens; in evaluation kept until the weights it is made of change."""
        weights = (self.decoder.weight, self.label_embedding.weight)
        now = [(weight, weight.data_ptr(), weight._version) for weight in weights]
        if self._kept is not None and not _same(now, self._kept[1]):
            self._kept = None  # before the next one is made: never two in memory
        if self._kept is not None:
            return self._kept[0]
        with torch.no_grad():
            made = LabelScorer(self.state_columns(), self.label_logits())
        if not self.training:
            self._kept = made, now
        return made

    def train(self, mode: bool = True) -> GenerativeClassifier:
        """See ``nn.Module``; forgets the scorer."""
        self._kept = None
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Without the scorer: a copy has weights of its own."""
        return self.__dict__ | {"_kept": None}

    def class_scores(self, batch: Batch) -> Tensor:
        """(batch, classes): log p(x | y) + log p(y), nats."""
        inputs, targets, lengths = language_model_pair(batch)
        mask = real_tokens(lengths, inputs.shape[1])
        tokens = self.scorer.log_likelihood(select_real(self.hidden_states(inputs), mask), targets[mask])
        return sum_by_document(tokens, mask) + self.log_prior

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative log-likelihood of the next word under the document's own label, nats a token."""
        self._kept = None  # the weights are about to change, and a fused optimizer counts no version up
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


def _same(now: list[_State], before: list[_State]) -> bool:
    return all(a is b and rest == kept for (a, *rest), (b, *kept) in zip(now, before, strict=True))
